"""What a proof says of bounded subproblems, in as few bytes as it says it.

The subproblems have been rounded to few bits before (``Batch.rounded``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.search.subproblems import Batch, Units, slope_codes, slopes_of


@dataclass(frozen=True, eq=False)
class LeafRecord:
    """Bounded subproblems.

    Args:
        node: (L,) number in the search tree.
        splits: (L,) signs that are assumed.
        unit: (S,) of which units, ascending in each leaf.
        sign: (S,) int8.
        multiplier: (S,) float32 signed multipliers.
        slopes: (L, units) uint8, see ``slope_codes``; or (1, units), the same for all.
        fine_leaf: (F,) leaves whose slopes have a second byte.
        fine: (F, units) uint8, that byte.
        weights: (L, rows) float32 weights on the goals' rows; (L, 0) if these are fixed.
    """

    node: np.ndarray
    splits: np.ndarray
    unit: np.ndarray
    sign: np.ndarray
    multiplier: np.ndarray
    slopes: np.ndarray
    fine_leaf: np.ndarray
    fine: np.ndarray
    weights: np.ndarray

    @staticmethod
    def of(batch: Batch) -> LeafRecord:
        """All subproblems of a batch."""
        leaf, unit = np.nonzero(batch.sign)
        # Where a sign is assumed the slope says nothing.
        codes, fine = slope_codes(np.where(batch.sign == 0, batch.alpha, 0.0))
        fine_leaf = np.flatnonzero(fine.any(axis=1))
        return LeafRecord(
            batch.node.astype(np.int32), np.bincount(leaf, minlength=len(batch)).astype(np.int32),
            unit.astype(np.int32), batch.sign[leaf, unit], batch.mult[leaf, unit], codes,
            fine_leaf.astype(np.int32), fine[fine_leaf], batch.weights,
        )  # fmt: skip

    def dense(self, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(signs, slopes, multipliers), each (L, units)."""
        count = len(self.node)
        leaf = np.repeat(np.arange(count), self.splits)
        sign, mult = np.zeros((count, units), np.int8), np.zeros((count, units), np.float32)
        sign[leaf, self.unit], mult[leaf, self.unit] = self.sign, self.multiplier
        fine = np.zeros(sign.shape, np.uint8)
        fine[self.fine_leaf] = self.fine
        return sign, slopes_of(np.broadcast_to(self.slopes, sign.shape), fine), mult


@dataclass(frozen=True, eq=False)
class Lemma:
    """Bounds of neurons of one layer, each the least of its leaves'.

    Args:
        layer: which one.
        units: (units, 2) pairs (layer, neuron) that the leaves' units stand for.
        neuron, side: (G,) whose bound from below (0) or above (1) follows.
        leaves: (G,) how many each has, one after another in ``record``.
        record: the leaves.
    """

    layer: int
    units: np.ndarray
    neuron: np.ndarray
    side: np.ndarray
    leaves: np.ndarray
    record: LeafRecord

    @staticmethod
    def of(batch: Batch, layer: int, neuron: np.ndarray, side: np.ndarray) -> Lemma:
        """From the leaves of some goals; goal g bounds neuron[g] from side[g], −1 for no use.

        Args:
            batch: all leaves.
            layer: of the goals.
            neuron, side: (goals,).
        """
        used = np.flatnonzero(side[batch.goal] >= 0)
        order = used[np.argsort(batch.goal[used], kind="stable")]
        leaves = np.bincount(batch.goal[used], minlength=len(side))
        kept = leaves > 0
        record = LeafRecord.of(batch.take(order))
        units = unit_table(batch.units)
        return Lemma(layer, units, neuron[kept], side[kept], leaves[kept], record)


def unit_table(units: Units) -> np.ndarray:
    """(units, 2) pairs (layer, neuron)."""
    return np.stack([units.layer, units.neuron], axis=1).astype(np.int64)
