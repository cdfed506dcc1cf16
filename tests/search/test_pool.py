"""The pool hands out what was put into it, in order, against a plain list."""

import numpy as np
import pytest

from verifier.search.pool import _ROWS, Pool
from verifier.search.subproblems import Batch


def batch(rng, count, first, units=7, weights=2):
    sign = rng.integers(-1, 2, (count, units)).astype(np.int8)
    alpha = (rng.integers(0, 257, (count, units)) / 256).astype(np.float32)
    mult = (rng.integers(-1000, 1000, (count, units)) / 8).astype(np.float32)
    return Batch(
        None, None, None, rng.integers(0, 3, count), sign, np.where(sign == 0, alpha, 0),
        np.where(sign == 0, 0, mult).astype(np.float32),
        rng.random((count, weights)).astype(np.float32), np.arange(first, first + count),
        np.round(rng.normal(size=count), 2),
    )  # fmt: skip


def rows(found):
    arrays = [getattr(found, name) for name in Batch.ARRAYS]
    return {int(found.node[i]): tuple(a[i].tolist() for a in arrays) for i in range(len(found))}


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_changed_and_the_order_is_kept(seed):
    rng = np.random.default_rng(seed)
    pool, waiting, count = Pool(), {}, 0
    for _ in range(40):
        if rng.random() < 0.6 or not waiting:
            more = batch(rng, int(rng.integers(0, 3 * _ROWS // 4)), count)
            count += len(more)
            pool.put(more)
            waiting |= rows(more)
        else:
            size, newest = int(rng.integers(1, _ROWS)), bool(rng.integers(2))
            bounds = sorted(row[-1] for row in waiting.values())[:size]
            youngest = sorted(waiting, reverse=True)[:size]
            found = rows(pool.pick(size, newest))
            if newest:
                assert list(found) == youngest
            else:
                assert [row[-1] for row in found.values()] == bounds
            assert all(waiting.pop(node) == row for node, row in found.items())
        assert len(pool) == len(waiting)
        assert pool.used_bytes == len(pool) * (16 + 7 * 3 + 2 * 4)


def test_memory_is_used_again():
    rng = np.random.default_rng(0)
    pool = Pool()
    for k in range(20):
        pool.put(batch(rng, _ROWS, k * _ROWS))
        pool.pick(_ROWS)
    assert len(pool._blocks) == 1


def test_what_float16_cannot_hold_is_a_start_nearby():
    more = batch(np.random.default_rng(1), 2, 0)
    more.sign[:] = 1
    more.mult[:] = np.array([[1e30], [-1e-30]])
    more.alpha[:] = 0
    pool = Pool()
    pool.put(more)
    found = pool.pick(2)
    assert sorted(found.mult[:, 0]) == [0.0, 65504.0]
    with pytest.raises(LookupError):
        pool.pick(1)
