"""A running-maximum network as its samples, not as its layers: depth 2N + 1 in the memory of N d.

N blocks of the same form, of which only the thresholds and the label differ. With p = x + σ before
the first block, v = r = 0, the thresholds high_i + σ and low_i + σ of sample i, and K > 0:

    A_i:  p ← relu(p),  u⁺ = relu(p − (high_i + σ)),  u⁻ = relu((low_i + σ) − p),  v ← relu(v + r)
    B_i:  p ← relu(p),  v ← relu(v),  r = relu(y_i − v − K Σ (u⁺ + u⁻))        (u from the p before)
    output: v + r

Two affine layers a block and one for the output; x + σ is affine and part of A_1 (THEORY 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.errors import NetworkError
from verifier.core.exact import common_denominator, fractions, scaled_integers
from verifier.core.network import Layer
from verifier.core.sparse import sp

_CHUNK = 2048
#: Sums of 64-bit integers stay below this.
_SAFE = 2**62


@dataclass(frozen=True, eq=False)
class ScanNetwork:
    """The network above.

    Args:
        which: (N, d) unsigned integers; sample i has the thresholds number which[i, j] of the two
            tables in coordinate j.
        above, below: (V,) float64, high + σ and low + σ.
        labels: (N,) float64, y_i > 0.
        shift: σ.
        slope: K > 0.
        input_shape: shape of one input as its users see it.
        name: shown in messages.

    Raises:
        NetworkError: shapes that do not fit, numbers that are not finite, an index beyond the
            tables, a label or slope that is not positive.
    """

    which: np.ndarray
    above: np.ndarray
    below: np.ndarray
    labels: np.ndarray
    shift: float
    slope: float
    input_shape: tuple[int, ...]
    name: str = "network"

    def __post_init__(self) -> None:
        if self.which.ndim != 2 or self.which.dtype.kind != "u" or not self.which.size:
            raise NetworkError(
                "which must be an (N, d) array of unsigned integers, got "
                f"{self.which.dtype} {self.which.shape}"
            )
        if self.labels.shape != (len(self.which),) or self.above.shape != self.below.shape:
            raise NetworkError(
                f"{len(self.which)} samples, labels {self.labels.shape}, tables "
                f"{self.above.shape} and {self.below.shape} do not fit"
            )
        if int(self.which.max()) >= len(self.above):
            raise NetworkError(
                f"index {int(self.which.max())} beyond a table of {len(self.above)} thresholds"
            )
        numbers = np.concatenate(
            [self.above, self.below, self.labels, [self.shift, self.slope]]
        ).astype(np.float64)
        if not np.isfinite(numbers).all():
            raise NetworkError("a threshold, label, shift or slope is NaN or infinite")
        if self.slope <= 0 or (self.labels <= 0).any():
            raise NetworkError("labels and the slope must be positive")
        if math.prod(self.input_shape) != self.which.shape[1]:
            raise NetworkError(
                f"input shape {self.input_shape} does not hold {self.which.shape[1]} numbers"
            )

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.which)

    @property
    def n_inputs(self) -> int:
        """d."""
        return int(self.which.shape[1])

    @property
    def n_outputs(self) -> int:
        """The label is the only output."""
        return 1

    @property
    def depth(self) -> int:
        """Affine layers: 2N + 1."""
        return 2 * self.n_samples + 1

    @property
    def width(self) -> int:
        """Neurons of the largest hidden layer: 3d + 1 (a single block has no v)."""
        return 3 * self.n_inputs + (self.n_samples > 1)

    @property
    def n_relu(self) -> int:
        """Number of ReLUs: all hidden neurons."""
        return sum(n_out for n_out, _ in self._shapes()) - 1

    @property
    def nonzeros(self) -> int:
        """Nonzero weights and biases of all layers, as ``layers`` gives them."""
        n, d = self.which.shape
        counts = np.zeros(len(self.above), dtype=np.int64)
        for start in range(0, n, _CHUNK):
            counts += np.bincount(
                self.which[start : start + _CHUNK].ravel(), minlength=len(self.above)
            )
        # Block 1 reads x itself: its thresholds are high and low.
        first = np.bincount(self.which[0], minlength=len(self.above))
        biases = sum(
            int((counts - first) @ (table != 0)) + int(first @ (table != self.shift))
            for table in (self.above, self.below)
        )
        copies = d * (self.shift != 0) + d * n + d * (n - 1)  # σ, p of every A, p of all B but one
        excess = 4 * d * n  # u in A, and in B's r
        label = 1 + 3 * (n > 1) + 5 * max(0, n - 2)  # y; then v, r; then both v's
        return biases + copies + excess + label + (n > 1) + (2 if n > 1 else 1)

    @property
    def dense_parameters(self) -> int:
        """Weights and biases of all layers written densely."""
        return sum(n_out * (n_in + 1) for n_out, n_in in self._shapes())

    def _shapes(self) -> Iterator[tuple[int, int]]:
        """(n_out, n_in) of every layer."""
        n, d, n_in = self.n_samples, self.n_inputs, self.n_inputs
        for i in range(n):
            n_out = 3 * d + (i > 0)
            yield n_out, n_in
            n_in = (d if i < n - 1 else 0) + (i > 0) + 1
            yield n_in, n_out
        yield 1, n_in

    def layers(self) -> Iterator[Layer]:
        """The affine layers one after another, none of them kept."""
        n, d = self.which.shape
        eye = sp.eye_array(d, format="csr")
        ones, row = np.ones((1, 2 * d)), sp.csr_array
        for i in range(n):
            above, below = self.above[self.which[i]], self.below[self.which[i]]
            shift = np.full(d, self.shift if i == 0 else 0.0)
            offset = self.shift if i == 0 else 0.0
            parts: list[list[Any]] = [[eye], [eye], [-eye]]
            bias = [shift, offset - above, below - offset]
            if i > 0:  # the layer before ends in v, r; or in r only, where v = 0
                parts = [[part[0], None] for part in parts]
                parts.append([row((1, d)), row(np.ones((1, min(i, 2))))])
                bias.append(np.zeros(1))
            yield _relu_layer(sp.block_array(parts, format="csr"), np.concatenate(bias))
            hit = row(-self.slope * ones)
            rows: list[list[Any]] = [[row((1, d)), hit]]
            if i > 0:
                rows = [[row((1, d)), row((1, 2 * d)), row([[1.0]])]]
                rows.append([row((1, d)), hit, row([[-1.0]])])
            if i < n - 1:
                rows.insert(0, [eye, *([None] * (len(rows[0]) - 1))])
            carried = (d if i < n - 1 else 0) + (i > 0)
            bias = [np.zeros(carried), self.labels[i : i + 1]]
            yield _relu_layer(sp.block_array(rows, format="csr"), np.concatenate(bias))
        yield Layer(np.ones((1, 2 if n > 1 else 1)), np.zeros(1), np.zeros(1, dtype=bool))

    def exact(self, x: Sequence[Any]) -> tuple[Fraction]:
        """The network's exact value at a rational point: max(0, max_i (y_i − K s_i(x))).

        v + relu(w − v) = max(v, w), which is how N blocks become one maximum.

        Raises:
            NetworkError: a wrong number of inputs, or one that is NaN or infinite.
        """
        try:
            point = fractions(x)
        except ValueError as problem:
            raise NetworkError(f"an input is not a number: {problem}") from problem
        if len(point) != self.n_inputs:
            raise NetworkError(f"expected {self.n_inputs} inputs, got {len(point)}")
        shift, slope = Fraction(self.shift), Fraction(self.slope)
        moved = [v + shift for v in point]
        units, q = common_denominator(moved)
        tables, bits = scaled_integers(np.concatenate([self.above, self.below]))
        step = math.lcm(q, 2 ** max(0, bits))
        p = np.array([v * (step // q) for v in units], dtype=object)
        scaled = tables * int(step / Fraction(2) ** bits)
        if max(map(abs, [*p, *scaled])) * 4 * self.n_inputs < _SAFE:
            p, scaled = p.astype(np.int64), scaled.astype(np.int64)
        best = Fraction(0)
        above, below = scaled[: len(self.above)], scaled[len(self.above) :]
        for start in range(0, self.n_samples, _CHUNK):
            which = self.which[start : start + _CHUNK]
            positive = np.maximum(p, 0)
            read = np.tile(positive, (len(which), 1))
            if start == 0:
                read[0] = p  # block 1 reads x itself
            excess = np.maximum(read - above[which], 0) + np.maximum(below[which] - read, 0)
            for label, s in zip(self.labels[start:], excess.sum(axis=1), strict=False):
                best = max(best, Fraction(float(label)) - slope * Fraction(int(s), step))
        return (best,)


def _relu_layer(weight: Any, bias: np.ndarray) -> Layer:
    return Layer(weight, bias, np.ones(len(bias), dtype=bool))
