"""Subproblems that wait, in blocks of memory that are used again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.search.subproblems import Batch

#: Subproblems of one block.
_ROWS = 1024
#: The largest numbers of float16, where warm starts are kept.
_HALF = 65504.0


@dataclass(eq=False)
class _Block:
    """Arrays of ``_ROWS`` rows.

    Args:
        goal: numbers as in ``Batch``.
        sign: (rows, n_units) int8.
        param: (rows, n_units) float16, a multiplier where a sign is assumed, else a slope.
        weights: (rows, n) float32.
    """

    goal: np.ndarray
    sign: np.ndarray
    param: np.ndarray
    weights: np.ndarray

    @classmethod
    def like(cls, batch: Batch) -> _Block:
        """An empty block for such subproblems."""
        units, weights = batch.sign.shape[1], batch.weights.shape[1]
        return cls(
            np.empty(_ROWS, batch.goal.dtype), np.empty((_ROWS, units), np.int8),
            np.empty((_ROWS, units), np.float16), np.empty((_ROWS, weights), np.float32),
        )  # fmt: skip

    @property
    def row_bytes(self) -> int:
        """Bytes of a subproblem."""
        return sum(array.nbytes for array in vars(self).values()) // _ROWS


class Pool:
    """Waiting subproblems of one search; those with the least bounds, or the newest, come first.

    Slopes and multipliers are kept in 16 bits: they are where the next steps start, and prove
    nothing themselves. The bounds that they had are kept exactly.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._value = np.zeros(0)
        self._node = np.zeros(0, dtype=np.int64)
        self._used = np.zeros(0, dtype=bool)
        self._like: Batch | None = None

    def __len__(self) -> int:
        return int(np.count_nonzero(self._used))

    @property
    def used_bytes(self) -> int:
        """Bytes of what waits."""
        if not self._blocks:
            return 0
        return len(self) * (self._blocks[0].row_bytes + self._node.itemsize)

    def put(self, batch: Batch) -> None:
        """Let subproblems wait; all of one pool belong to the same search."""
        if not len(batch):
            return
        if self._like is None:
            self._like = batch.take(np.arange(0))
        missing = len(batch) - int(np.count_nonzero(~self._used))
        for _ in range(-(-missing // _ROWS)):
            self._blocks.append(_Block.like(batch))
            self._value = np.concatenate([self._value, np.zeros(_ROWS)])
            self._node = np.concatenate([self._node, np.zeros(_ROWS, dtype=np.int64)])
            self._used = np.concatenate([self._used, np.zeros(_ROWS, dtype=bool)])
        slots = np.flatnonzero(~self._used)[: len(batch)]
        self._value[slots], self._node[slots] = batch.value, batch.node
        self._used[slots] = True
        param = np.where(batch.sign == 0, batch.alpha, batch.mult)
        param = np.clip(param, -_HALF, _HALF).astype(np.float16)
        for number, (rows, mine) in self._by_block(slots):
            block = self._blocks[number]
            block.goal[rows] = batch.goal[mine]
            block.sign[rows], block.param[rows] = batch.sign[mine], param[mine]
            block.weights[rows] = batch.weights[mine]

    def pick(self, size: int, newest: bool = False) -> Batch:
        """Take out those with the least bounds, or the newest; at most ``size``, and in order.

        Taking the newest, whose numbers are the largest, is a search in depth: what waits grows by
        the depth of the tree at most.

        Raises:
            LookupError: nothing waits.
        """
        used = np.flatnonzero(self._used)
        if self._like is None or not len(used):
            raise LookupError("nothing waits")
        key = -self._node[used] if newest else self._value[used]
        if size < len(used):
            first = np.argpartition(key, size - 1)[:size]
            used, key = used[first], key[first]
        slots = used[np.argsort(key, kind="stable")]
        self._used[slots] = False
        return self._read(self._like, slots)

    def _read(self, like: Batch, slots: np.ndarray) -> Batch:
        """The subproblems in some slots."""
        out = like.take(np.zeros(0, dtype=np.int64))
        count, units = len(slots), like.sign.shape[1]
        out.goal, out.node = np.empty(count, like.goal.dtype), self._node[slots]
        out.sign, param = np.empty((count, units), np.int8), np.empty((count, units), np.float32)
        out.weights = np.empty((count, like.weights.shape[1]), np.float32)
        for number, (rows, mine) in self._by_block(slots):
            block = self._blocks[number]
            out.goal[mine] = block.goal[rows]
            out.sign[mine], param[mine] = block.sign[rows], block.param[rows]
            out.weights[mine] = block.weights[rows]
        out.alpha = np.where(out.sign == 0, param, np.float32(0.0))
        out.mult = np.where(out.sign == 0, np.float32(0.0), param)
        out.value = self._value[slots]
        return out

    @staticmethod
    def _by_block(slots: np.ndarray) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
        """For each block that is touched its rows, and their places among the slots."""
        number = slots // _ROWS
        out = []
        for block in np.unique(number):
            mine = np.flatnonzero(number == block)
            out.append((int(block), (slots[mine] % _ROWS, mine)))
        return out
