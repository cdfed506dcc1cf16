"""Random float32 points of the balls around a data set's samples, through onnxruntime in batches.

A third of the points are random corners, a third uniform, a third the corners towards a random
other sample. Faces are rounded inwards to float32, so every point lies in its ball exactly. Prints
how many outputs are not the label, to the bit (a label network), or do not have their largest entry
at it (a network with one output a class), and how many points a second the runtime takes:

    python benchmarks/points_in_balls.py MODEL SET --mu 1551/4250 [--count 1000000] [--batch 500]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from constructions.dataset import DataSet, load_dataset
from verifier.core.exact import round_down32, round_up32


def batches(
    data: DataSet, radius: Fraction, count: int, size: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points (size, d) in float32 and the samples that they belong to; coordinates are integers."""
    values, which = np.unique(data.points, return_inverse=True)
    which = which.reshape(data.points.shape)
    low = np.array([round_up32(int(v) * data.scale - radius) for v in values])
    high = np.array([round_down32(int(v) * data.scale + radius) for v in values])
    rng = np.random.default_rng(seed)
    for k in range(-(-count // size)):
        rows = rng.integers(0, len(data), size)
        a, b = low[which[rows]], high[which[rows]]
        if k % 3 == 0:
            x = np.where(rng.integers(0, 2, a.shape, dtype=np.int8) == 0, a, b)
        elif k % 3 == 1:
            x = np.clip(a + (b - a) * rng.random(a.shape, dtype=np.float32), a, b)
        else:
            others = rng.integers(0, len(data), size)
            x = np.where(data.points[others] > data.points[rows], b, a)
        yield x, rows


def run(
    model: Path, data: DataSet, radius: Fraction, count: int, size: int
) -> tuple[int, int, float]:
    """(points, wrong outputs, seconds in the runtime)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    ranks = np.unique(data.labels, return_inverse=True)[1].reshape(-1)
    done = wrong = 0
    seconds = 0.0
    for x, rows in batches(data, radius, count, size):
        started = time.perf_counter()
        (out,) = session.run(None, {given.name: x.reshape(len(x), *data.shape)})
        seconds += time.perf_counter() - started
        right = out[:, 0] == ranks[rows] + 1 if out.shape[1] == 1 else out.argmax(1) == ranks[rows]
        wrong += int(np.count_nonzero(~right))
        done += len(x)
    return done, wrong, seconds


def main(arguments: list[str] | None = None) -> int:
    """Status 1 if a label was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--mu", type=Fraction, required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=500)
    given = parser.parse_args(arguments)
    data = load_dataset(given.data)
    done, wrong, seconds = run(given.model, data, given.mu, given.count, given.batch)
    print(f"{done} points, {wrong} wrong, {done / seconds:.0f} points a second")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
