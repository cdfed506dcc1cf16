"""How many subproblems a second a device of Torch bounds, beside the processor.

    python benchmarks/gpu.py [MODEL ...] [--eps 0.03] [--device auto|cuda|cuda:1|torch]
    python benchmarks/gpu.py mnist-net_256x4.onnx --property prop_0_0.03.vnnlib

MODEL is a bundled model (by default all of them, on the ball around the first held-out digit) or an
ONNX file with a property, whose first box is taken. Subproblems are differences of two outputs with
the signs of a few unstable neurons assumed, as in a search. For each batch size a row says how many
a second the steps on slopes and multipliers take on the processor and on the device, how many the
processor's rigorous bound takes that decides afterwards, how far the bounds that both sides'
numbers prove lie apart, and what share of the time nvidia-smi saw the GPU at work.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from machine import Watch

from constructions.dataset import load_dataset
from relucid.bundled import model_names, open_model
from torchbridge.installed import require_torch
from verifier.bounds.linear import root_bounds
from verifier.bounds.reduced import Asked, Climb, Reduced
from verifier.bounds.threads import cores, single_threaded_blas
from verifier.core.errors import RelucidError
from verifier.core.network import Network
from verifier.io.vnnlib import read_property

HEADER = (
    "| model | unstable | batch | processor, steps | device, steps | times | processor, bounds "
    "| apart | GPU busy |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def box_of(network: Network, eps: float, path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The first box of a property, or the ball around the first held-out digit."""
    if path is None:
        data = load_dataset("digits:test")
        centre = np.array([float(v) for v in data.sample(0)])
        return np.clip(centre - eps, 0.0, 1.0), np.clip(centre + eps, 0.0, 1.0)
    file = read_property(path, n_inputs=network.n_inputs, n_outputs=network.n_outputs)
    box = file.prop.cases[0].box
    return np.array([float(v) for v in box.lower]), np.array([float(v) for v in box.upper])


def subproblems(network: Network, units: int, count: int, splits: int = 6) -> Asked:
    """Differences of two outputs, on random sides of some unstable neurons."""
    rng = np.random.default_rng(0)
    rows = np.zeros((count, network.n_outputs))
    first = rng.integers(0, network.n_outputs, count)
    second = (first + rng.integers(1, max(2, network.n_outputs), count)) % network.n_outputs
    rows[np.arange(count), first] = 1.0
    rows[np.arange(count), second] -= 1.0
    sign = np.zeros((count, units), dtype=np.int8)
    for i in range(count if units else 0):
        chosen = rng.permutation(units)[:splits]
        sign[i, chosen] = rng.choice([-1, 1], len(chosen))
    param = np.where(sign == 0, 0.5, 0.0).astype(np.float32)
    return Asked(rows, np.zeros(count), sign, param)


def rate(work: Callable[[Asked], object], q: Asked, seconds: float) -> tuple[float, Asked]:
    """Subproblems a second, after one run that counts for nothing, and what the last one left."""
    work(q.take(np.arange(len(q))))
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or not runs:
        last = q.take(np.arange(len(q)))
        work(last)
        runs += 1
    return runs * len(q) / (time.perf_counter() - started), last


def measure(
    name: str, network: Network, box: tuple[np.ndarray, np.ndarray], given: argparse.Namespace
) -> Iterator[str]:
    """The rows of one network, one a batch size."""
    from torchbridge.device import Device, find

    device = find(given.device) or Device("cpu")
    engine, bounds = root_bounds(network, *box)
    here, there = Reduced(engine, bounds), device(engine, bounds)
    units = sum(part.unstable for part in here.parts)
    how = Climb(given.steps, enough=np.inf)

    def never() -> bool:
        return False

    for size in given.batch:
        q = subproblems(network, units, size)
        mine, ours = rate(lambda a: here.climb(a, how, never), q, given.seconds)
        with Watch().running() as watch:
            theirs, other = rate(lambda a: there.climb(a, how, never), q, given.seconds)
        exact, _ = rate(here.values, q, given.seconds)
        apart = np.abs(here.values(ours) - here.values(other)).max()
        yield (
            f"| {name} | {units} | {size} | {mine:.0f}/s | {theirs:.0f}/s | {theirs / mine:.2f} "
            f"| {exact:.0f}/s | {apart:.1e} | {watch} |"
        )


def main(arguments: list[str] | None = None) -> int:
    """Status 2 if something cannot be opened or there is no such device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=model_names())
    parser.add_argument("--property", type=Path)
    parser.add_argument("--eps", type=float, default=0.03)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args(arguments)
    single_threaded_blas()
    try:
        require_torch("this benchmark")
        from torchbridge.device import Device, find

        title = (find(given.device) or Device("cpu")).title
        print(f"processor: {cores()} cores; device: {title}; {given.steps} steps\n\n{HEADER}")
        for name in given.models:
            network = open_model(name).network
            box = box_of(network, given.eps, given.property)
            for row in measure(Path(name).stem, network, box, given):
                print(row, flush=True)
    except RelucidError as problem:
        print(f"gpu.py: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
