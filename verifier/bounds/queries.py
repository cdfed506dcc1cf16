"""What is asked of a batch of backward passes, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Queries:
    """A batch of N lower-bound queries on rows · a_start + const.

    Args:
        start: the layer whose activations the rows speak of (0 is the input, k the k-th layer).
        rows: (N, n_start).
        const: (N,).
        alpha: for layers 1..start (index 0..start-1) the lower slopes, (1 | N, n).
        low, high: for the same layers pre-activation bounds, (1 | N, n).
        box: input box, two arrays (1 | N, n_inputs).
        mult: for the same layers signed split multipliers (N, n), or None.
        sign: for the same layers the assumed signs, int8 (N, n), that the multipliers have.
    """

    start: int
    rows: np.ndarray
    const: np.ndarray
    alpha: list[np.ndarray]
    low: list[np.ndarray]
    high: list[np.ndarray]
    box: tuple[np.ndarray, np.ndarray]
    mult: list[np.ndarray] | None = None
    sign: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> Queries:
        """Copies of some of the queries (arrays shared by all stay shared)."""

        def some(array: np.ndarray) -> np.ndarray:
            return array[index] if len(array) == len(self) else array

        return Queries(
            self.start, self.rows[index], self.const[index], [some(a) for a in self.alpha],
            [some(a) for a in self.low], [some(a) for a in self.high],
            (some(self.box[0]), some(self.box[1])),
            None if self.mult is None else [m[index] for m in self.mult],
            None if self.sign is None else [s[index] for s in self.sign],
        )  # fmt: skip


@dataclass(eq=False)
class Result:
    """Lower bounds (N,), the minimising input corners (N, n_inputs), coefficients a layer."""

    value: np.ndarray
    point: np.ndarray
    lam: list[np.ndarray]
