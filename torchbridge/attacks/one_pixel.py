"""A few pixels found by differential evolution (Su, Vargas and Sakurai 2019), without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, margin


@dataclass(frozen=True)
class OnePixel:
    """A candidate is, for each pixel that may change, its row, its column and its new values.

    scipy's ``differential_evolution`` minimises the margin; a generation is evaluated as one batch,
    and the search of an input ends with the first negative margin.

    Args:
        queries: evaluations of each input.
        population: candidates of a generation, about.
    """

    queries: int = 4000
    population: int = 200

    @property
    def norm(self) -> Norm:
        """Number of pixels."""
        return Norm.l0

    def run(self, task: Task, control: Control) -> Tensor:
        """One input after another; see ``Attack.run``."""
        best = Best(task)
        seeds = control.integers(2**31, (len(task),), task.x).tolist()
        for i, seed in enumerate(seeds):
            if control.stop():
                break
            control.progress("one-pixel", i / len(task))
            self._evolve(task, i, seed, best, control)
        control.progress("one-pixel", 1.0)
        return best.points

    def _evolve(self, task: Task, i: int, seed: int, best: Best, control: Control) -> None:
        """The search for one input."""
        from scipy.optimize import differential_evolution

        count = min(int(task.size), task.shape[1] * task.shape[2])
        if count == 0:
            return
        limits = _limits(task, i, count)
        share = max(1, -(-self.population // len(limits)))
        generations = max(0, self.queries // (share * len(limits)) - 1)
        row = torch.tensor([i], device=task.x.device)

        @torch.no_grad()
        def values(candidates: np.ndarray) -> np.ndarray:
            points = _drawn(task, i, candidates.T.reshape(-1, count, len(limits) // count))
            margins = margin(task.model(points), task.labels[i].expand(len(points)))
            k = int(torch.nan_to_num(margins, nan=torch.inf).argmin())
            best.offer(row, points[k : k + 1], margins[k : k + 1])
            return np.nan_to_num(margins.cpu().numpy().astype(np.float64), nan=np.inf)

        def enough(intermediate_result: Any) -> bool:
            return bool(best.margins[i] < 0) or control.stop()

        differential_evolution(
            values, limits, maxiter=generations, popsize=share, seed=np.random.default_rng(seed),
            init="random", mutation=0.5, recombination=1.0, tol=0.0, atol=-1.0, polish=False,
            updating="deferred", vectorized=True, callback=enough,
        )  # fmt: skip


def _limits(task: Task, i: int, count: int) -> list[tuple[float, float]]:
    """(row, column, values) of each pixel: lowest and highest."""
    channels, height, width = task.shape
    low, high = float(task.lower[i].min()), float(task.upper[i].max())
    # scipy refuses an empty interval; floor and clamp make nothing of the rest.
    one = [(0.0, float(height)), (0.0, float(width)), *[(low, max(high, low + 1e-9))] * channels]
    return one * count


def _drawn(task: Task, i: int, pixels: np.ndarray) -> Tensor:
    """The input with the pixels of each candidate, (candidates, d).

    Args:
        task: the task.
        i: which input.
        pixels: (candidates, pixels, 2 + channels).
    """
    channels, height, width = task.shape
    rows = np.clip(pixels[..., 0].astype(int), 0, height - 1)
    columns = np.clip(pixels[..., 1].astype(int), 0, width - 1)
    place = torch.tensor(rows * width + columns, device=task.x.device)
    out = task.x[i].repeat(len(pixels), 1)
    for channel in range(channels):
        new = torch.tensor(pixels[..., 2 + channel]).to(out)
        out.scatter_(1, place + channel * height * width, new)
    return torch.minimum(torch.maximum(out, task.lower[i]), task.upper[i])
