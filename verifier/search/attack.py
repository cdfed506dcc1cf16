"""Gradient search for a counterexample: projected gradient ascent on every clause's margin.

A clause is unsafe at x where all its slacks rows_i · y(x) − bound_i are ≥ 0, so the attack climbs
the sum of the negative ones (Madry et al. 2018 with the margin as loss), by the signs of the
gradient or by Adam's steps (Kingma and Ba 2015). Floats only propose: a point that looks unsafe is
returned only after ``Problem.candidate`` has found it unsafe in exact arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.core.network import Network
from verifier.core.sparse import is_sparse
from verifier.core.verdict import Witness
from verifier.search.problem import Deadline, Problem


@dataclass(frozen=True)
class Climb:
    """How points climb.

    Args:
        rate: first step, a share of the box's sides; steps shrink to almost 0.
        steps: how many.
        restarts: random points that are climbed from, for each clause.
        adam: whether a step is Adam's instead of the gradient's signs: it settles in regions that
            signs jump over.
    """

    rate: float = 0.25
    steps: int = 60
    restarts: int = 20
    adam: bool = False


def gradient(network: Network, x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs, and the gradient of weights · y with respect to x, in float64.

    Args:
        x: (batch, n_inputs).
        weights: (batch, n_outputs).

    Returns:
        y (batch, n_outputs), gradient (batch, n_inputs).
    """
    y, masks = forward(network, x)
    return y, _backward(network, masks, weights)


def forward(network: Network, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs and, a layer, which coordinates let the gradient through, in float64.

    Args:
        x: (batch, n_inputs).

    Returns:
        y (batch, n_outputs), and for each layer (batch, n_out) bool.
    """
    a, masks = x, []
    for layer in network.layers:
        z = (layer.weight @ a.T).T if layer.is_sparse else a @ layer.weight.T
        z = z + layer.bias
        mask = ~layer.relu | (z > 0)
        masks.append(mask)
        a = np.where(mask, z, 0.0)
    return a, masks


def _backward(network: Network, masks: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The gradient of weights · y, given the masks of the forward pass."""
    g = weights
    for layer, mask in zip(reversed(network.layers), reversed(masks), strict=True):
        g = g * mask
        g = (layer.weight.T @ g.T).T if is_sparse(layer.weight) else g @ layer.weight
    return np.asarray(g)


@np.errstate(over="ignore", invalid="ignore")
def attack(
    problem: Problem,
    deadline: Deadline,
    *,
    rng: np.random.Generator,
    samples: int = 20,
    climb: Climb = Climb(),
    starts: np.ndarray | None = None,
) -> Witness | None:
    """Look for a counterexample from the centre, the given starts and random points.

    Args:
        problem: what to refute.
        deadline: looked at after every step.
        rng: source of the random points.
        samples: random points that are evaluated; the best for each clause are climbed from.
        climb: how.
        starts: (k, n_inputs) further starting points for every clause (minimisers of bounds, say).

    Returns:
        an exactly verified witness, or None.
    """
    lower, upper = problem.box
    width = upper - lower
    scattered = lower + width * rng.random((samples, len(lower)))
    margins = problem.margins(problem.network.float64(scattered))
    witness = exact_hit(problem, scattered, margins)
    if witness is not None:
        return witness
    fixed = [(0.5 * (lower + upper))[None, :]] + ([] if starts is None else [starts])
    points, clause = [], []
    for k in range(len(problem.clauses)):
        # The best few, and as many unchosen ones: where few outputs matter, the best crowd
        # together.
        best = np.argsort(-margins[:, k])[: climb.restarts // 2]
        best = np.union1d(best, np.arange(min(climb.restarts - len(best), samples)))
        points += [*fixed, scattered[best]]
        clause.append(np.full(sum(map(len, fixed)) + len(best), k))
    first = np.clip(np.concatenate(points), lower, upper)
    return _climb(problem, deadline, first, np.concatenate(clause), climb)


def _climb(
    problem: Problem, deadline: Deadline, x: np.ndarray, clause: np.ndarray, climb: Climb
) -> Witness | None:
    """Steps with a shrinking rate, each point on its clause's negative slacks."""
    lower, upper = problem.box
    width = upper - lower
    mean, square = np.zeros_like(x), np.zeros_like(x)
    for step in range(climb.steps + 1):
        y, masks = forward(problem.network, x)
        witness = exact_hit(problem, x, problem.margins(y))
        if witness is not None or deadline.passed or step == climb.steps:
            return witness
        g = _backward(problem.network, masks, _violated_rows(problem, y, clause))
        if climb.adam:
            g = g * width
            mean = 0.9 * mean + 0.1 * g
            square = 0.99 * square + 0.01 * g * g
            first, second = 1 - 0.9 ** (step + 1), 1 - 0.99 ** (step + 1)
            direction = (mean / first) / (np.sqrt(square / second) + 1e-300)
        else:
            direction = np.sign(g)
        rate = climb.rate * (1.0 - step / climb.steps) + 0.002
        # Where numbers overflow a step is NaN, and the point stays.
        x = np.clip(x + rate * width * np.nan_to_num(direction), lower, upper)
    return None


def exact_hit(
    problem: Problem, x: np.ndarray, margins: np.ndarray, tries: int = 3
) -> Witness | None:
    """The exact witness among the points that look unsafe in float64, most promising first."""
    best = margins.max(axis=1)
    order = np.argsort(-best)[:tries]
    for i in order:
        if not best[i] >= 0:
            break
        witness = problem.candidate(x[i])
        if witness is not None:
            return witness
    return None


def _violated_rows(problem: Problem, y: np.ndarray, clause: np.ndarray) -> np.ndarray:
    """For each point the sum of its clause's unsatisfied rows: (batch, n_outputs)."""
    out = np.empty((len(y), problem.network.n_outputs))
    for k, c in enumerate(problem.clauses):
        mine = np.flatnonzero(clause == k)
        out[mine] = (y[mine] @ c.rows.T - c.bound < 0) @ c.rows
    return out
