"""What a run is computed on."""

from __future__ import annotations

import torch

from verifier.core.errors import SolverError


def device_of(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one, else the processor.

    Raises:
        SolverError: Torch knows no such device, or has none here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        first = str(problem).splitlines()[0]
        raise SolverError(f"--device {name}: Torch has no such device here ({first})") from problem
    return device


def use_threads(count: int | None) -> None:
    """Compute on so many threads of the processor; None leaves the number to Torch."""
    if count is not None:
        torch.set_num_threads(count)
