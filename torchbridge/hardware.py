"""What Torch computes on: the one rule by which devices are named."""

from __future__ import annotations

import torch

from verifier.core.errors import SolverError


def device_of(name: str) -> torch.device:
    """The device of Torch that a name given to ``--device`` means.

    ``cpu`` and ``torch``: the processor. They differ only where relucid has code of its own besides
    Torch, which is what ``cpu`` means there (``torchbridge.device.find``). ``cuda``, ``cuda:N``: a
    GPU. ``auto``: ``cuda`` if there is one, else ``cpu``. Any other name is Torch's.

    Raises:
        SolverError: Torch knows no such device, or has none here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device("cpu" if name == "torch" else name)
        if device.type == "cuda" and (device.index or 0) >= gpus:
            raise SolverError(
                f"--device {name}: Torch {torch.__version__} finds {gpus} CUDA devices"
            )
        if device.type == "cpu" and device.index is not None:
            raise RuntimeError("there is one processor")
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        first = str(problem).splitlines()[0]
        raise SolverError(
            f"--device {name}: expected auto, cpu, torch, cuda, cuda:N or another device that "
            f"Torch has here ({first})"
        ) from problem
    return device


def use_threads(count: int | None) -> None:
    """Compute on so many threads of the processor; None leaves the number to Torch."""
    if count is not None:
        torch.set_num_threads(count)
