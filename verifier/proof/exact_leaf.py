"""Leaves in exact rational arithmetic, for what no rounding survives: ties, numbers far apart."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from verifier.core.exact import common_denominator, scaled_integers
from verifier.proof.case import Case, Nodes
from verifier.proof.format import Columns
from verifier.proof.outcome import InvalidError

#: Weights of a network for which a leaf is bounded again exactly, and the grid of what is free.
_WORK, _GRID = 1 << 16, 1 << 64


def close_exactly(
    state: Case,
    nodes: Nodes,
    index: np.ndarray,
    signs: tuple[np.ndarray, np.ndarray, np.ndarray],
    clause: np.ndarray,
    columns: Columns,
    step: str,
) -> None:
    """Leaves whose every ReLU is decided: rational weights, and a backward pass without rounding.

    The network is one affine map there. Σ w (bound − row · y) − Σ v sign z, with the signs that
    are assumed and weights w, v ≥ 0, is at most Σ w (bound − row · y); its least value on the box
    is computed exactly.

    Args:
        index: the nodes, of which ``clause`` is open.
        signs: (row of ``index``, hidden neuron, sign) of all that they assume.

    Raises:
        InvalidError: a neuron is not decided, or the value is not positive.
    """
    (row, hidden, sign), first = signs, state.clauses.first
    if len(index) and state.float32:
        raise InvalidError("exact leaf", step, "the network is not meant exactly")
    numbers = _rationals(columns, step)
    used = 0
    for r, i in enumerate(index.tolist()):
        where = f"{step}, node {nodes.number[i]}"
        mine = row == r
        rows = slice(first[clause[r]], first[clause[r] + 1])
        some = numbers[used : used + mine.sum() + rows.stop - rows.start]
        used += len(some)
        if len(some) != mine.sum() + rows.stop - rows.start:
            raise InvalidError("exact leaf", where, "too few weights")
        integers, _ = common_denominator(some)
        on_signs, on_rows = integers[: mine.sum()], integers[mine.sum() :]
        assumed = zip(hidden[mine].tolist(), sign[mine].tolist(), on_signs, strict=True)
        lower = {h: s * w for h, s, w in assumed}
        active = _active(state, nodes, i, (hidden[mine], sign[mine]), where)
        bounds = state.clauses.bound[rows]
        const = sum((w * b for w, b in zip(on_rows, bounds, strict=True)), Fraction(0))
        lam = np.zeros(state.clauses.rows.shape[1], dtype=object)
        for w, c in zip(on_rows, state.clauses.rows[rows], strict=True):
            lam = lam - w * np.array([int(v) for v in c], dtype=object)
        value = const + _exact_least(state, active, len(state.parts), lam, lower)
        strict = any(w and s for w, s in zip(on_rows, state.clauses.strict[rows], strict=True))
        if value < 0 or (value == 0 and not strict):
            raise InvalidError(
                "exact leaf", where, f"clause {clause[r]}: the least value is {value}, not positive"
            )
    if used != len(numbers):
        raise InvalidError("exact leaf", step, f"{len(numbers) - used} weights too many")


def _rationals(columns: Columns, step: str) -> list[Fraction]:
    """Numbers ≥ 0, each the bytes of its numerator and of its denominator."""
    size, digits = columns["size"].tolist(), columns["digits"].tobytes()
    if len(size) % 2 or sum(size) != len(digits):
        raise InvalidError("exact leaf", step, "rational numbers that do not fit their bytes")
    integers, position = [], 0
    for n in size:
        integers.append(int.from_bytes(digits[position : position + n], "little"))
        position += n
    if 0 in integers[1::2]:
        raise InvalidError("exact leaf", step, "a denominator is 0")
    return [Fraction(p, q) for p, q in zip(integers[::2], integers[1::2], strict=True)]


def _active(
    state: Case, nodes: Nodes, i: int, assumed: tuple[np.ndarray, np.ndarray], where: str
) -> np.ndarray:
    """Which ReLUs pass their pre-activation on in node i, where (neurons, signs) are assumed.

    Where the bounds leave it open, rounded as they are, an exact range may decide: of the neuron as
    a function of the layer before with its bounds, or of the inputs, since all before are decided.
    """
    # An assumed sign decides, even if the bounds say that the neuron is 0: see ``_lines``.
    active = nodes.high[i] > 0
    active[assumed[0]] = assumed[1] > 0
    open_ = state.relu & (nodes.low[i] < 0) & (nodes.high[i] > 0)
    open_[assumed[0]] = False
    for h in np.flatnonzero(open_).tolist():
        k = next(k for k, part in enumerate(state.parts) if h < part.stop)
        layer, n = state.network.layers[k], h - state.parts[k].start
        weight, shift = scaled_integers(np.asarray(layer.dense[n], dtype=np.float64))
        bias, unit = Fraction(float(layer.bias[n])), Fraction(2) ** -shift
        ends = [
            sign * bias
            + unit
            * max(
                _exact_least(state, active, k, sign * weight, {}),
                _interval_least(state, nodes, i, k, sign * weight),
            )
            for sign in (1, -1)
        ]
        active[h] = ends[0] >= 0
        if max(ends) < 0:
            raise InvalidError("exact leaf", where, "the sign of a neuron is not decided")
    return active


def _interval_least(state: Case, nodes: Nodes, i: int, layer: int, weight: np.ndarray) -> Fraction:
    """The least value of weight · a, a being what a layer reads, by the bounds of node i."""
    if layer == 0:
        ends = list(zip(state.box.lower, state.box.upper, strict=True))
    else:
        part, unit = state.parts[layer - 1], Fraction(2) ** -state.chain.layers[layer - 1].scale
        bounds = np.stack([nodes.low[i, part], nodes.high[i, part]])
        bounds = np.where(state.relu[part], np.maximum(bounds, 0), bounds)
        ends = [(low * unit, high * unit) for low, high in bounds.T.tolist()]
    terms = (w * (low if w > 0 else high) for w, (low, high) in zip(weight, ends, strict=True))
    return sum(terms, Fraction(0))


def _exact_least(
    state: Case, active: np.ndarray, layer: int, lam: np.ndarray, lower: dict[int, int]
) -> Fraction:
    """The least value of lam · a − Σ lower z on the exact box, a being what a layer reads.

    Args:
        active: (hidden,) the ReLUs that pass their pre-activation on.
        layer: which; lam: integers.
        lower: hidden neuron of the layers before -> integer.
    """
    const = Fraction(0)
    unit = Fraction(1)  # of lam
    for k in range(layer - 1, -1, -1):
        part, before = state.parts[k], state.network.layers[k]
        mu = np.where(state.relu[part] & ~active[part], 0, lam)
        for h, w in lower.items():
            if part.start <= h < part.stop:
                mu[h - part.start] -= Fraction(w) / unit
        whole, q = common_denominator([Fraction(v) for v in mu])
        unit /= q
        weight, shift = scaled_integers(np.asarray(before.dense, dtype=np.float64))
        const += unit * sum(
            (m * Fraction(float(b)) for m, b in zip(whole, before.bias, strict=True)), 0
        )
        lam = np.array(whole, dtype=object) @ weight
        unit *= Fraction(2) ** -shift
    box = state.box
    return const + unit * sum(
        (
            v * (low if v > 0 else high)
            for v, low, high in zip(lam, box.lower, box.upper, strict=True)
        ),
        Fraction(0),
    )


def backward_exactly(
    state: Case,
    nodes: Nodes,
    i: int,
    weights: list[int],
    slopes: list[float],
    assumed: dict[int, tuple[int, Fraction]],
) -> Fraction | None:
    """The bound of a backward leaf without the rounding of ``integers``; None if that is much work.

    Args:
        weights: of all rows of the clauses.
        slopes: (hidden,) of the lines below.
        assumed: hidden neuron -> (sign, multiplier of that sign).
    """
    layers = state.network.layers
    if sum(layer.n_in * layer.n_out for layer in layers) > _WORK or state.float32:
        return None
    const, lam = Fraction(0), [Fraction(0)] * state.clauses.rows.shape[1]
    for w, row, bound in zip(
        weights, state.clauses.rows.tolist(), state.clauses.bound, strict=True
    ):
        if w:
            const += w * bound
            lam = [v - w * Fraction(c) for v, c in zip(lam, row, strict=True)]
    for k in range(len(layers) - 1, -1, -1):
        part, unit = state.parts[k], Fraction(2) ** -state.chain.layers[k].scale
        for j, h in enumerate(range(part.start, part.stop)):
            low, high = int(nodes.low[i, h]) * unit, int(nodes.high[i, h]) * unit
            sign, multiplier = assumed.get(h, (0, Fraction(0)))
            if state.relu[h] and sign < 0:
                lam[j] = Fraction(0)
            elif state.relu[h] and not sign:
                if lam[j] >= 0:
                    lam[j] *= Fraction(slopes[h])
                elif high <= 0:
                    lam[j] = Fraction(0)
                elif low < 0:
                    # Of few digits; any number between the coefficient and 0 will do.
                    mu = lam[j] * (math.floor(high / (high - low) * _GRID) / Fraction(_GRID))
                    const += min(-mu * low, (lam[j] - mu) * high)
                    lam[j] = mu
            lam[j] -= sign * multiplier
        const += sum(
            (m * Fraction(b) for m, b in zip(lam, layers[k].bias.tolist(), strict=True)), 0
        )
        whole, q = common_denominator(lam)
        weight, shift = scaled_integers(np.asarray(layers[k].dense, dtype=np.float64))
        unit = Fraction(1, q) / Fraction(2) ** shift
        lam = [int(v) * unit for v in np.array(whole, dtype=object) @ weight]
    chain, grid = state.chain, Fraction(2) ** state.chain.scale
    for v, corner, low, high in zip(
        lam, chain.corner, nodes.t_low[i].tolist(), nodes.t_high[i].tolist(), strict=True
    ):
        const += v * (corner + (low if v > 0 else high) / grid)
    return const
