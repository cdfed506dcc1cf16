"""Counterexamples nearer to a point: a linear program in the region of one, then in neighbours.

Inside one linear region the nearest unsafe point solves

    min e   subject to   |d_i| <= e,   rows @ y(c + d) >= bound,   the signs of the region at c + d,

where y and all pre-activations are affine in d. A sign that its optimum leans on is a neighbouring
region to look into. All of this is float64 and proposes only: the caller tests points exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.core.sparse import sp
from verifier.search.attack import forward
from verifier.search.problem import Deadline, Problem
from verifier.solvers.highs import LinearProgram, LpStatus

#: Largest number of coefficients of a region's signs; larger networks only get the line search.
_MOST_NUMBERS = 20_000_000
#: Signs that are added to a program at a time, and how often.
_ROWS, _ROUNDS = 50, 20
#: Neighbours that are looked into from one optimum, and an improvement worth a step.
_NEIGHBOURS, _STEP = 16, 1e-7
#: Points on a line, and how often they are laid closer.
_POINTS, _CLOSER = 64, 4


@dataclass(frozen=True, eq=False)
class _Forms:
    """Affine forms slope @ d + offset of the offset d from the centre.

    Args:
        slope: (k, n).
        offset: (k,).
    """

    slope: np.ndarray
    offset: np.ndarray

    def at(self, d: np.ndarray) -> np.ndarray:
        """(k,) values."""
        return np.asarray(self.slope @ d + self.offset)


@dataclass(frozen=True, eq=False)
class _Optimum:
    """The nearest unsafe point of one region.

    Args:
        offset: (n,) from the centre.
        size: its largest coordinate, as the program says.
        leans: positions among all ReLUs of the signs that keep it from being smaller, most first.
    """

    offset: np.ndarray
    size: float
    leans: np.ndarray


@np.errstate(all="ignore")
def shorten(problem: Problem, center: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The first point that looks unsafe on the way from the centre to x.

    Args:
        problem: whose clauses say what is unsafe.
        center: (n,).
        x: (n,) an unsafe point.

    Returns:
        (n,), x itself if nothing before it looks unsafe.
    """
    low, high = 0.0, 1.0
    for _ in range(_CLOSER):
        shares = np.linspace(low, high, _POINTS + 1)
        points = center + shares[:, None] * (x - center)
        unsafe = problem.margins(problem.network.float64(points)).max(axis=1) >= 0
        unsafe[-1] = True
        first = int(np.argmax(unsafe))
        if first == 0:
            return center
        low, high = float(shares[first - 1]), float(shares[first])
    return x if high == 1.0 else center + high * (x - center)


@np.errstate(all="ignore")
def descend(
    problem: Problem,
    center: np.ndarray,
    x: np.ndarray,
    clause: int,
    deadline: Deadline,
    *,
    walk: bool = True,
) -> np.ndarray:
    """The nearest unsafe point of the region of x, or of all regions that steps downhill lead to.

    Args:
        problem: of a ball that contains x.
        center: (n,) its middle.
        x: (n,) unsafe.
        clause: position in ``problem.clauses`` of the clause that x satisfies.
        deadline: looked at before each linear program.
        walk: whether to go on into neighbouring regions until none has a nearer point.

    Returns:
        (n,) about as far as x or nearer; x itself if no program could be solved.
    """
    network = problem.network
    if network.n_relu * network.n_inputs > _MOST_NUMBERS:
        return x
    _, masks = forward(network, x[None, :])
    pattern = [mask[0] for mask in masks]
    best = _optimum(problem, center, pattern, clause, np.zeros(0, dtype=int), deadline)
    if best is None:
        return x
    while walk:
        for neuron in best.leans[:_NEIGHBOURS]:
            beside = _flipped(problem, pattern, int(neuron))
            found = _optimum(problem, center, beside, clause, best.leans, deadline)
            if found is not None and found.size < best.size * (1 - _STEP):
                best, pattern = found, beside
                break
        else:
            break
    return np.asarray(center + best.offset)


def _flipped(problem: Problem, pattern: list[np.ndarray], neuron: int) -> list[np.ndarray]:
    """The pattern with another sign for one of all ReLUs."""
    out = [mask.copy() for mask in pattern]
    for layer, mask in zip(problem.network.layers, out, strict=True):
        where = np.flatnonzero(layer.relu)
        if neuron < len(where):
            mask[where[neuron]] ^= True
            break
        neuron -= len(where)
    return out


def _forms(
    problem: Problem, center: np.ndarray, pattern: list[np.ndarray]
) -> tuple[_Forms, _Forms]:
    """(signs, outputs): every ReLU's pre-activation, negated where it is off, and the outputs."""
    slope, offset = np.eye(len(center)), center
    slopes, offsets = [np.zeros((0, len(center)))], [np.zeros(0)]
    for layer, mask in zip(problem.network.layers, pattern, strict=True):
        slope = np.asarray(layer.weight @ slope)
        offset = np.asarray(layer.weight @ offset) + layer.bias
        sign = np.where(mask, 1.0, -1.0)[layer.relu]
        slopes.append(slope[layer.relu] * sign[:, None])
        offsets.append(offset[layer.relu] * sign)
        slope, offset = slope * mask[:, None], offset * mask
    return _Forms(np.concatenate(slopes), np.concatenate(offsets)), _Forms(slope, offset)


def _optimum(
    problem: Problem,
    center: np.ndarray,
    pattern: list[np.ndarray],
    clause: int,
    chosen: np.ndarray,
    deadline: Deadline,
) -> _Optimum | None:
    """The nearest point of a region that satisfies a clause; None if no program says so.

    Signs enter the program when its solution breaks them, as few of them matter; ``chosen`` do from
    the start.
    """
    signs, outputs = _forms(problem, center, pattern)
    wanted = problem.clauses[clause]
    unsafe = _Forms(wanted.rows @ outputs.slope, wanted.rows @ outputs.offset - wanted.bound)
    lower, upper = problem.box
    reach = (lower - center, upper - center)
    if not (np.isfinite(signs.offset).all() and np.isfinite(unsafe.offset).all()):
        return None
    size = float(max(np.abs(reach[0]).max(), np.abs(reach[1]).max()))
    tolerance = 1e-9 * (np.abs(signs.slope).sum(axis=1) * size + np.abs(signs.offset))
    for _ in range(_ROUNDS):
        if deadline.passed:
            return None
        rows = _Forms(
            np.concatenate([unsafe.slope, signs.slope[chosen]]),
            np.concatenate([unsafe.offset, signs.offset[chosen]]),
        )
        solved = _solve(rows, reach, size, deadline.left)
        if solved is None:
            return None
        offset, length, multipliers = solved
        broken = signs.at(offset) + tolerance
        broken[chosen] = 0.0
        worst = np.argsort(broken)[:_ROWS]
        worst = worst[broken[worst] < 0]
        if not len(worst):
            weight = multipliers[len(unsafe.offset) :]
            order = np.argsort(-weight)
            return _Optimum(offset, length, chosen[order[weight[order] > 1e-9]])
        chosen = np.concatenate([chosen, worst])
    return None


def _solve(
    rows: _Forms, reach: tuple[np.ndarray, np.ndarray], size: float, seconds: float
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """min max |d_i| with all rows >= 0 and d within reach: (d, its size, multipliers of the rows).

    Everything is measured in units of ``size``, and rows in units of what they can change.
    """
    scale = np.abs(rows.slope).sum(axis=1) * size
    scale = np.where(scale > 0, scale, 1.0)
    n = rows.slope.shape[1]
    eye, one = sp.eye_array(n, format="csr"), np.ones((n, 1))
    slope = sp.csr_array(rows.slope * (size / scale)[:, None])
    matrix = sp.block_array([[-eye, one], [eye, one], [slope, None]], format="csr")
    bound = np.concatenate([np.zeros(2 * n), -rows.offset / scale])
    columns = (np.append(reach[0] / size, 0.0), np.append(reach[1] / size, 1.0))
    cost = np.append(np.zeros(n), 1.0)
    program = LinearProgram(matrix, cost, columns, (bound, np.full(len(bound), np.inf)))
    hint = program.solve(seconds)
    if hint.status is not LpStatus.OPTIMAL or hint.primal is None or hint.multipliers is None:
        return None
    return hint.primal[:n] * size, hint.objective * size, hint.multipliers[2 * n :]
