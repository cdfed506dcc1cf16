"""Memorization of N points with width 11 and depth ~ √N by weights of ~ √N bits (THEORY T7 b).

After Vardi, Yehudai and Shamir 2021. The points have keys z_i = w·x_i + shift, different integers
of ρ bits (Lemma P). In the order of their keys they form G groups of K. The network holds, for the
group whose keys surround z, the bits of all its K keys in one integer U, those of its labels in
another one, Y (stage 2). Then it reads the bits of the K keys one after another, compares each with
z, and adds up the labels of those that are equal (stage 3).

**Fold lemma.** For odd V in (0, 2^(k+1)) let b = [V > 2^k]. Then b = relu(V − 2^k + 1) −
relu(V − 2^k), and V' = V − 2 relu(V − 2^k) is odd and in (0, 2^k). So one layer reads one bit, with
weights 1, −1, −2 and biases 2^k; ``encode`` inverts it.

Depth ⌈(G − 1)/4⌉ + Kρ + 3 ≤ √(Nρ) + ρ + 4 for K = ⌈√(N/4ρ)⌉, integers of Kρ + 1 bits. The network
is exact on the points and holds nothing between them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np

from constructions.claims import Claim, Claims, network_claims
from constructions.construction import MEMORY, Construction, dense_size, require_memory
from constructions.dataset import DataSet
from constructions.exact_evaluation import ExactEvaluator, largest_bits
from constructions.exact_layer import exact_layer
from constructions.projection import GridPoints, Projection, grid_points, project
from constructions.separation import positive_separation
from verifier.core.errors import DataError
from verifier.core.exact import Rational
from verifier.core.network import Layer, Network

_SOURCE = "THEORY T7 b"
#: Groups that one layer of stage 2 passes.
_PASSED = 4

#: Σ weight · name + bias, in the names of the layer before.
Expression = tuple[dict[str, Rational], Rational]
_ONE: Expression = ({}, 1)
_ZERO: Expression = ({}, 0)


@dataclass(frozen=True)
class Schedule:
    """Sizes of the network.

    Args:
        n, d, m: points, coordinates, labels.
        key_bits: ρ ≥ 2, bits of a key, and at least those of a label.
        group: K, points a group.
    """

    n: int
    d: int
    m: int
    key_bits: int
    group: int

    @classmethod
    def choose(cls, n: int, d: int, m: int, largest_key: int) -> Schedule:
        """ρ = max(2, bits of m, bits of the largest key), K = ⌈√(N/4ρ)⌉."""
        key_bits = max(2, m.bit_length(), largest_key.bit_length())
        group = max(1, isqrt(n // (4 * key_bits)))
        return cls(n, d, m, key_bits, group + (4 * key_bits * group * group < n))

    @property
    def label_bits(self) -> int:
        """Bits of a label 1..m; 0 means that there is no point."""
        return self.m.bit_length()

    @property
    def groups(self) -> int:
        """G = ⌈N/K⌉."""
        return -(-self.n // self.group)

    @property
    def depth(self) -> int:
        """⌈(G − 1)/4⌉ + Kρ + 2 hidden layers, and the output layer."""
        return -(-(self.groups - 1) // _PASSED) + self.group * self.key_bits + 3

    @property
    def code_bits(self) -> int:
        """Kρ + 1, bits of a group's code."""
        return self.group * self.key_bits + 1

    @property
    def nonzeros(self) -> int:
        """An upper bound: 9(d + 1) in the first layer, 60 where the stages meet, 36 in the others.

        The output layer has m logits of at most 3 numbers.
        """
        return 9 * (self.d + 1) + 60 + 36 * (self.depth - 2) + 3 * self.m


@dataclass(frozen=True, eq=False)
class SqrtMemorization:
    """A memorization with its keys.

    Args:
        built: network and claims; its radius is 0.
        points: the distinct points.
        projection: z_i = w·x_i, without the shift.
        shift: the keys are z_i + shift ≥ 0.
        schedule: sizes.
        bits: the most that a weight or bias has.
    """

    built: Construction
    points: GridPoints
    projection: Projection
    shift: int
    schedule: Schedule
    bits: int

    @property
    def evaluator(self) -> ExactEvaluator:
        """The network for many exact evaluations."""
        return ExactEvaluator.of(self.built.network)


def encode(bits: Sequence[int]) -> int:
    """The odd V in (0, 2^(k+1)) whose folds give these k bits."""
    code = 1
    for k, bit in enumerate(reversed(bits), start=1):
        if bit:
            code = (1 << (k + 1)) - code
    return code


def vardi(
    data: DataSet, *, group: int | None = None, fast: bool = True, memory: int = MEMORY
) -> SqrtMemorization:
    """Logits 1..m of the label of every point, exactly.

    Args:
        data: at least two classes; equal points with equal labels.
        group: K, ⌈√(N/4ρ)⌉ by default; 1 gives small numbers and depth ~ N/4.
        fast: which variant of Lemma P, see ``project``.
        memory: bytes that may be used.

    Raises:
        DataError: one class only, λ = 0, K < 1, or more memory than allowed.
    """
    if group is not None and group < 1:
        raise DataError(f"a group has at least 1 point, got {group}")
    name = f"{data.name}: memorize-sqrt"
    require_memory(name, len(data) * data.dimension // 2, memory)  # integers, 8 bytes, twice
    closest = positive_separation(data)
    points = grid_points(data)
    projection = project(points, fast=fast)
    shift = -min(projection.values)
    keys = [v + shift for v in projection.values]
    n, d, m = len(points), points.dimension, len(points.labels)
    schedule = Schedule.choose(n, d, m, max(keys))
    if group is not None:
        schedule = Schedule(n, d, m, schedule.key_bits, group)
    # Dense rows of 11 columns with their integers, and all points' values of a few layers.
    words = 1 + schedule.code_bits // 256
    needed = (9 * d + 121 * schedule.depth) * words + n * (d // 4 + 30 * words)
    require_memory(name, needed, memory)
    order = projection.order
    chunks = [order[g : g + schedule.group] for g in range(0, n, schedule.group)]
    labels = [int(v) for v in points.ranks]
    codes = _Codes(
        tuple(keys[chunk[0]] for chunk in chunks),
        tuple(_code([keys[i] for i in c], schedule.key_bits, schedule.group) for c in chunks),
        tuple(_code([labels[i] for i in c], schedule.label_bits, schedule.group) for c in chunks),
    )
    key: Expression = (
        {f"x{j}": w for j, w in enumerate(projection.weights) if w},
        shift,
    )
    network = Network(
        tuple(_numbered(_neurons(schedule, codes, key), d)), data.shape, "memorize-sqrt"
    )
    bits = largest_bits(network)
    claims = _claims(network, schedule, points, projection, shift, bits, group is None)
    built = Construction(
        network, claims.check(), Fraction(0), closest, points.labels, dense_size(network)
    )
    return SqrtMemorization(built, points, projection, shift, schedule, bits)


@dataclass(frozen=True)
class _Codes:
    """For each group its smallest key, the code of its keys, and that of its labels."""

    first: tuple[int, ...]
    keys: tuple[int, ...]
    labels: tuple[int, ...]


def _code(values: Sequence[int], bits: int, group: int) -> int:
    """The code of a group's numbers, most significant bits first, filled up with zeros."""
    padded = [*values, *[0] * (group - len(values))]
    return encode([(v >> (bits - 1 - i)) & 1 for v in padded for i in range(bits)])


def _sum(*terms: tuple[Rational, Expression]) -> Expression:
    """Σ factor · expression."""
    weights: dict[str, Rational] = {}
    bias: Rational = 0
    for factor, (expression, constant) in terms:
        bias += factor * constant
        for name, weight in expression.items():
            weights[name] = weights.get(name, 0) + factor * weight
    return {name: w for name, w in weights.items() if w}, bias


def _value(name: str) -> Expression:
    return {name: 1}, 0


@dataclass
class _State:
    """What the next layer may use: expressions in the neurons of the last one."""

    z: Expression
    keys: Expression
    labels: Expression


def _neurons(schedule: Schedule, codes: _Codes, key: Expression) -> Iterator[dict[str, Expression]]:
    """The layers, each neuron by its name; the last one holds the logits."""
    state = _State(key, ({}, codes.keys[0]), ({}, codes.labels[0]))
    yield from _selection(codes, state)
    found = yield from _walk(schedule, state)
    yield {
        f"logit{label}": _sum((label, found), (Fraction(-label * label, 2), _ONE))
        for label in range(1, schedule.m + 1)
    }


def _selection(codes: _Codes, state: _State) -> Iterator[dict[str, Expression]]:
    """Stage 2: pass the groups up to that of z; [z ≥ τ] = relu(z − τ + 1) − relu(z − τ)."""
    count = len(codes.first)
    for start in range(1, count, _PASSED):
        layer = {"z": state.z}
        if start > 1:
            layer |= {"U": state.keys, "Y": state.labels}
            keys, labels = [(1, _value("U"))], [(1, _value("Y"))]
        else:
            keys, labels = [(1, state.keys)], [(1, state.labels)]
        for g in range(start, min(start + _PASSED, count)):
            first = codes.first[g]
            layer[f"p{g}"] = _sum((1, state.z), (1 - first, _ONE))
            layer[f"q{g}"] = _sum((1, state.z), (-first, _ONE))
            for sums, code in ((keys, codes.keys), (labels, codes.labels)):
                jump = code[g] - code[g - 1]
                sums += [(jump, _value(f"p{g}")), (-jump, _value(f"q{g}"))]
        yield layer
        state.z, state.keys, state.labels = _value("z"), _sum(*keys), _sum(*labels)


def _walk(schedule: Schedule, state: _State) -> Generator[dict[str, Expression], None, Expression]:
    """Stage 3: read a key and its label, bit by bit, and take the label if the key is z.

    Returns:
        the sum of the labels taken.
    """
    size, rho, c, m = schedule.group, schedule.key_bits, schedule.label_bits, schedule.m
    unread, unread_label = size * rho, size * c
    key, label, taken = _ZERO, _ZERO, _ZERO
    for j in range(size + 1):
        for i in range(1, rho + 1 if j < size else 3):
            layer = {"z": state.z}
            if j and i == 1:  # the key before is complete
                layer["D+"] = _sum((1, state.z), (-1, key))
                layer["D-"] = _sum((1, key), (-1, state.z))
                layer["l0"] = label
            if j and i == 2:
                layer["Q"] = _sum((1, _value("l0")), (-m, _value("D+")), (-m, _value("D-")))
            layer["o"] = taken
            if j < size:
                key, state.keys = _read(layer, "U", "e", state.keys, key, unread, i)
                unread -= 1
                if i <= c:
                    label, state.labels = _read(
                        layer, "Y", "l", state.labels, label, unread_label, i
                    )
                    unread_label -= 1
                else:
                    layer |= {"Y": state.labels, "l": label}
                    state.labels, label = _value("Y"), _value("l")
            taken = _sum((1, _value("o")), (1, _value("Q"))) if j and i == 2 else _value("o")
            state.z = _value("z")
            yield layer
    return taken


def _read(
    layer: dict[str, Expression],
    code: str,
    number: str,
    value: Expression,
    so_far: Expression,
    unread: int,
    i: int,
) -> tuple[Expression, Expression]:
    """One fold, the i-th of a number: the neurons, and what number and code are after it."""
    layer[code] = value
    layer[f"A{code}"] = _sum((1, value), (-(1 << unread), _ONE))
    layer[f"B{code}"] = _sum((1, value), (1 - (1 << unread), _ONE))
    bit = [(1, _value(f"B{code}")), (-1, _value(f"A{code}"))]
    if i > 1:
        layer[number] = so_far
        bit.append((2, _value(number)))
    return _sum(*bit), _sum((1, _value(code)), (-2, _value(f"A{code}")))


def _numbered(layers: Iterator[dict[str, Expression]], d: int) -> Iterator[Layer]:
    """Neurons by their number."""
    names = {f"x{j}": j for j in range(d)}
    for neurons in layers:
        rows: list[list[Rational]] = [[0] * len(names) for _ in neurons]
        for row, (terms, _) in zip(rows, neurons.values(), strict=True):
            for name, weight in terms.items():
                row[names[name]] = weight
        last = "logit1" in neurons
        yield exact_layer(rows, [bias for _, bias in neurons.values()], relu=not last)
        names = {name: k for k, name in enumerate(neurons)}


def _claims(
    network: Network,
    schedule: Schedule,
    points: GridPoints,
    projection: Projection,
    shift: int,
    bits: int,
    chosen: bool,
) -> Claims:
    """T7's formulas, and the exact value on every point."""
    n, m, rho = schedule.n, schedule.m, schedule.key_bits
    outputs, denominator = ExactEvaluator.of(network).batch(points.rows, points.denominator)
    expected = np.array(
        [[2 * label * y - label * label for label in range(1, m + 1)] for y in range(m + 1)],
        dtype=object,
    )[points.ranks]
    wrong = int((2 * outputs != denominator * expected).any(axis=1).sum())
    excess = max(0, network.depth - rho - 4)
    # The first layer compares z + shift with keys, in one bias.
    largest = max(*map(abs, projection.weights), abs(shift) + (1 << rho), m * m)
    number_bits = max(schedule.code_bits, largest.bit_length())
    claims = [
        Claim.at_most("width", 11, network.width, _SOURCE),
        Claim.at_most("nonzeros", schedule.nonzeros, network.nonzeros, "9(d+1) + 60 + 36 a layer"),
        Claim.at_most("bits", number_bits, bits, "Kρ + 1, or those of w, |shift| + 2^ρ, m²"),
        Claim.equal("points with other logits", 0, wrong, "every point, exactly"),
        Claim.true(
            "W b ≥ N log2 m",
            network.nonzeros * bits >= (m**n).bit_length() - 1
            and 1 << (network.nonzeros * bits) >= m**n,
            "what W numbers of b bits can tell apart",
        ),
    ]
    if chosen:
        claims.insert(1, Claim.true("depth ≤ √(Nρ) + ρ + 4", excess * excess <= n * rho, _SOURCE))
    sizes = network_claims(
        "memorize-sqrt", network, "⌈(G−1)/4⌉ + Kρ + 3", depth=schedule.depth, n_outputs=m
    )
    return sizes + Claims("memorize-sqrt", tuple(claims))
