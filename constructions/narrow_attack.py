"""The attack on idle units with few of them, where the data are narrow in a direction (T10.1).

T10.1 puts a hat beside every point, 4 Σ n_i units. Often far fewer do. Let w be a direction with
w·x ≤ m for *all* points that must be kept, and w·p ≥ m + 2h at every attacked place p: pictures
whose border is always black are like this, with w its indicator, m = 0 and p = x + r w. Then one
kink t = m + h serves all points at once, whatever their number:

* of L hidden layers the first gets n idle units (δ/A) relu(w·x − t), A ≥ max(|w|∞, |t|); each
  further one n units δ · (the sum of those before); logit k reads them with δ, all others with −δ;
* where w·x ≤ t nothing changes: all points that are kept have *exactly* their outputs, and so has
  every x within ρ = h/|w|₁ of one of them;
* at each p the difference F_k − F_l rises by at least 2 n^L δ^{L+1} h/A.

Points of class k itself need a second direction, with another class. Width: the network's plus
Σ n over the directions, n > (M A/(2 h δ^{L+1}))^{1/L}, M = max F_l(p) − F_k(p): no N in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from constructions.idle_attack import MAX_WEIGHTS, copies_needed, largest_change
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.exact import fractions, round_down
from verifier.core.network import Layer, Network
from verifier.core.sparse import sp

#: Coordinates are multiples of this, and sums of their sizes stay below 2^53 times it: so sums with
#: coefficients −1, 0, 1 are exact in float64, in any order.
_UNIT = 2.0**-40


@dataclass(frozen=True, eq=False)
class Trigger:
    """One direction.

    Args:
        direction: w, (d,) of −1, 0, 1.
        kept: m, an upper bound on w·x over all points that are kept.
        kink: t > m, a float64 number.
        rise: h: w·p − t at least, at every attacked place.
        target: k.
    """

    direction: np.ndarray
    kept: Fraction
    kink: Fraction
    rise: Fraction
    target: int

    @property
    def silent(self) -> Fraction:
        """ρ: nothing changes within this ℓ∞ distance of a point that is kept."""
        return (self.kink - self.kept) / int(np.abs(self.direction).sum())

    @property
    def scale(self) -> Fraction:
        """A: the least power of two from max(|w|∞, |t|) on."""
        scale = Fraction(1)
        while scale < abs(self.kink):
            scale *= 2
        return scale

    def copies(self, margin: Fraction, delta: Fraction, hidden: int) -> int:
        """n: the fewest units of each hidden layer that overcome a margin."""
        return copies_needed(margin / 2, delta, self.rise / self.scale, hidden)


def projections(points: Iterable[np.ndarray], directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Lowest and highest w·x over all points, exactly.

    Args:
        points: batches (n, d) of float32 values.
        directions: (q, d) of −1, 0, 1.

    Returns:
        two float64 arrays (q,), which are no rounded numbers.

    Raises:
        DataError: no points, or values with so many bits that float64 sums would round.
    """
    low, high = np.full(len(directions), np.inf), np.full(len(directions), -np.inf)
    weights = directions.astype(np.float64).T
    for batch in points:
        x = batch.astype(np.float64)
        steps = x / _UNIT
        if not (steps == np.rint(steps)).all() or np.abs(x).max() * x.shape[1] >= _UNIT * 2.0**53:
            raise DataError("the points' values have too many bits for exact sums in float64")
        z = x @ weights
        low, high = np.minimum(low, z.min(0)), np.maximum(high, z.max(0))
    if not np.isfinite(high).all():
        raise DataError("a direction needs at least one point")
    return low, high


def candidates(points: Iterable[np.ndarray], middle: float) -> np.ndarray:
    """Directions in which the points may be narrow: coordinates that hardly vary.

    Args:
        points: batches (n, d).
        middle: a coordinate that is mostly below it is raised, any other is lowered.

    Returns:
        (q, d): for several thresholds, ±1 on the coordinates whose mean absolute deviation from
        the far end of their range is below it.
    """
    batches = list(points)
    low = np.min([b.min(0) for b in batches], axis=0).astype(np.float64)
    high = np.max([b.max(0) for b in batches], axis=0).astype(np.float64)
    count = sum(len(b) for b in batches)
    mean = np.sum([b.sum(0, dtype=np.float64) for b in batches], axis=0) / count
    sign = np.where(mean < middle, 1, -1)
    loss = np.where(sign > 0, mean - low, high - mean)
    order = np.argsort(loss, kind="stable")
    constant = int((high == low).sum())
    sizes = {constant, *(len(order) * k // 16 for k in range(1, 17))} - {0, 1}
    rows = []
    for size in sorted(sizes):
        row = np.zeros(len(order), dtype=np.int8)
        row[order[:size]] = sign[order[:size]]
        rows.append(row)
    return np.array(rows).reshape(-1, len(order))


def halves(direction: np.ndarray) -> np.ndarray:
    """Two directions with disjoint supports: every other coordinate of one, (2, d)."""
    support = np.flatnonzero(direction)
    out = np.zeros((2, len(direction)), dtype=np.int8)
    for k in range(2):
        out[k, support[k::2]] = direction[support[k::2]]
    return out


def pushed(direction: np.ndarray, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """p: each point at the face of its box to which the direction points, (n, d).

    Args:
        direction: w.
        x: (n, d).
        low, high: (n, d) faces of the boxes.
    """
    return np.asarray(np.where(direction > 0, high, np.where(direction < 0, low, x)))


def trigger(direction: np.ndarray, kept: float, reached: float, target: int) -> Trigger | None:
    """The kink halfway between what is kept and what is attacked; None if there is no room.

    Args:
        direction: w.
        kept: m, the largest w·x.
        reached: the smallest w·p.
        target: k.
    """
    middle = np.float32((kept + reached) / 2)
    m, t, top = fractions([kept, float(middle), reached])
    return Trigger(direction, m, t, top - t, target) if m < t < top else None


def with_block(
    network: Network, triggers: Sequence[Trigger], copies: Sequence[int], delta: Fraction
) -> Network:
    """F with the units of all triggers beside it; δ = 0 leaves them idle.

    Args:
        network: F, whose outputs have no ReLU; sparse layers stay sparse.
        triggers: the directions.
        copies: n of each.
        delta: δ.

    Raises:
        NetworkError: no hidden layer, exact numbers, or a layer that would be too large.
    """
    if network.depth < 2 or network.layers[-1].relu.any() or not network.is_float:
        raise NetworkError(f"{network.name}: expected float layers, hidden ones, outputs free")
    total = sum(copies)
    largest = max(
        total * network.n_inputs, *((layer.n_out + total) * total for layer in network.layers)
    )
    if largest > MAX_WEIGHTS:
        raise NetworkError(
            f"{network.name}: the attack needs {total} idle units in each hidden layer, a layer "
            f"of {largest} more weights; the limit is {MAX_WEIGHTS}"
        )
    # Rounded so that no number changes by more than δ, and the kinks lie at t or beyond.
    step = round_down(delta)
    rows, bias = [], []
    for one, n in zip(triggers, copies, strict=True):
        factor = round_down(delta / one.scale)
        rows += [one.direction.astype(np.float64) * factor] * n
        bias += [round_down(-Fraction(factor) * one.kink)] * n
    first = network.layers[0]
    layers = [_joined(first, np.array(rows).reshape(total, -1), np.array(bias), beside=False)]
    inside = np.zeros((total, total))
    ends = np.cumsum([0, *copies])
    for a, b in pairwise(ends):
        inside[a:b, a:b] = step
    for layer in network.layers[1:-1]:
        layers.append(_joined(layer, inside, np.zeros(total), beside=True))
    last = network.layers[-1]
    out = np.full((last.n_out, total), -step)
    for one, a, b in zip(triggers, ends, ends[1:], strict=False):
        out[one.target, a:b] = step
    weight = (
        sp.hstack([last.weight, sp.csr_array(out)], format="csr")
        if last.is_sparse
        else np.hstack([last.dense, out])
    )
    layers.append(Layer(weight, last.bias, last.relu))
    return Network(tuple(layers), network.input_shape, f"{network.name} with a block")


def _joined(layer: Layer, block: np.ndarray, bias: np.ndarray, *, beside: bool) -> Layer:
    """A layer and the block under it, on the same inputs or (beside) on new ones."""
    if layer.is_sparse:
        join = sp.block_diag if beside else sp.vstack
        weight = join([layer.weight, sp.csr_array(block)], format="csr")
    elif beside:
        corner = np.zeros((layer.n_out, block.shape[1]))
        below = np.zeros((len(block), layer.n_in))
        weight = np.block([[layer.dense, corner], [below, block]])
    else:
        weight = np.vstack([layer.dense, block])
    relu = np.concatenate([layer.relu, np.ones(len(block), dtype=bool)])
    return Layer(weight, np.concatenate([layer.bias, bias]), relu)


def check_block(
    network: Network, padded: Network, attacked: Network, triggers: Sequence[Trigger],
    delta: Fraction,
) -> None:  # fmt: skip
    """Both are F beside a block, idle in the first, silent in the second where all w·x ≤ t.

    So the outputs are those of F at every such x. All of it is read from the networks, whose
    numbers are compared as they are, rounded or not.

    Raises:
        CertificateError: something of this is not so, or a number changes by more than δ.
    """
    if largest_change(padded, attacked) > delta:
        raise CertificateError(f"a number changes by more than {delta}")
    for both, name in ((padded, "padded"), (attacked, "attacked")):
        if both.depth != network.depth:
            raise CertificateError(f"the {name} network has another depth")
        for k, (part, whole) in enumerate(zip(network.layers, both.layers, strict=True)):
            n, c = part.n_out, part.n_in
            weight, more = _matrix(whole), whole.bias[n:]
            same = (
                not (weight[:n, :c] != _matrix(part)).sum() and (whole.bias[:n] == part.bias).all()
            )
            # The block does not read F; in hidden layers F does not read the block.
            cross = k > 0 and abs(weight[n:, :c]).sum()
            cross = cross or (0 < k < network.depth - 1 and abs(weight[:n, c:]).sum())
            relus = np.array_equal(whole.relu[:n], part.relu) and whole.relu[n:].all()
            outputs = k < network.depth - 1 or whole.n_out == n
            if not (same and outputs and relus) or cross or (k > 0 and more.any()):
                raise CertificateError(f"layer {k} of the {name} network is not F's with a block")
    n = network.layers[0].n_out
    if abs(_matrix(padded.layers[0])[n:]).sum() or padded.layers[0].bias[n:].any():
        raise CertificateError("the units of the block are not idle")
    rows, bias = _matrix(attacked.layers[0])[n:].toarray(), attacked.layers[0].bias[n:]
    for unit in {(*map(float, r), float(b)) for r, b in zip(rows, bias, strict=True)}:
        if not any(_silent(np.array(unit[:-1]), unit[-1], one) for one in triggers):
            raise CertificateError("a unit of the block is no multiple of w·x − t, or of less")


def _silent(row: np.ndarray, bias: float, one: Trigger) -> bool:
    """Whether row · x + bias ≤ c (w·x − t) for some c ≥ 0 and all x: exact."""
    factor = np.abs(row).max(initial=0.0)
    return (
        np.array_equal(row, factor * one.direction)
        and Fraction(bias) <= -Fraction(float(factor)) * one.kink
    )


def _matrix(layer: Layer) -> sp.csr_array:
    """The weight as a sparse array."""
    return layer.weight if layer.is_sparse else sp.csr_array(layer.dense)
