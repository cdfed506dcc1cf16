"""Few pixels towards chosen classes: every input to every other class, each success exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from torchbridge.attacks.interface import Control, Task
from torchbridge.attacks.jsma import reach
from torchbridge.attacks.regions import PixelBall, Point
from torchbridge.attacks.target import Target


@dataclass(frozen=True)
class Reached:
    """What became of one input and one class.

    Args:
        target: the class.
        point: a point where its output is the largest, alone, by exact evaluation; or None.
        pixels: how many pixels differ there, 0 without a point.
    """

    target: int
    point: Point | None
    pixels: int


def reach_classes(
    target: Target, region: PixelBall, position: int, shape: tuple[int, int, int], control: Control
) -> tuple[Reached, ...]:
    """JSMA from one input to every class but its own; nothing if it is not classified as that.

    Args:
        target: a classifier whose largest output wins.
        region: the input, and how many pixels may change.
        position: its class.
        shape: (channels, rows, columns) of an input.
        control: progress, and stop.
    """
    if not _alone(target, region.center, position):
        return ()
    others = [k for k in range(target.n_outputs) if k != position]
    rows = torch.arange(len(others)) * 0
    low, high = (
        torch.tensor(face[None]).to(target.device, target.dtype) for face in region.search_box
    )
    x = torch.tensor(region.center32[None]).to(low)
    one = Task(
        target.module, torch.minimum(torch.maximum(x, low), high), torch.tensor([position]), low,
        high, float(region.size), shape, region.span,
    )  # fmt: skip
    found = reach(one.rows(rows.to(low.device)), torch.tensor(others).to(low.device), control)
    moved = found.cpu().numpy().astype(np.float64)
    out = []
    for k, row in zip(others, moved, strict=True):
        point = region.inward(row)
        good = point is not None and region.contains(point) and _alone(target, point, k)
        pixels = region.changed(point) if good and point is not None else 0
        out.append(Reached(k, point if good else None, pixels))
    return tuple(out)


def _alone(target: Target, point: Point, k: int) -> bool:
    """Whether output k is larger than all others, exactly."""
    y = target.exact(point)
    return all(v < y[k] for j, v in enumerate(y) if j != k)
