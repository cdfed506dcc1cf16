"""``--device``: who proposes the numbers that bounds are made from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated

import typer

from relucid.options import SEARCH

DeviceName = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="cpu|auto|cuda[:N]|torch",
        help="Who proposes slopes and multipliers when neurons are split: the processor, a GPU "
        "through Torch (auto: if there is one), or Torch on the processor. Bounds and verdicts are "
        "always computed on the processor.",
        rich_help_panel=SEARCH,
    ),
]


def require_device(name: str, engine: str) -> None:
    """Refuse a device of another name, or for an engine that proposes nothing.

    Raises:
        typer.BadParameter: one of these.
    """
    kind, _, number = name.partition(":")
    if name not in ("cpu", "auto", "cuda", "torch") and not (kind == "cuda" and number.isdecimal()):
        raise typer.BadParameter(f"--device must be cpu, auto, cuda, cuda:N or torch, got {name!r}")
    if name != "cpu" and engine not in ("auto", "bab"):
        raise typer.BadParameter(f"--device {name} goes with --engine auto or bab, not {engine}")


@contextmanager
def lent(name: str) -> Iterator[None]:
    """Let a device propose for all searches meanwhile; Torch is imported for no other name.

    Args:
        name: as given to ``--device``.

    Raises:
        SolverError: Torch is not installed, or there is no such GPU (``auto`` takes the processor).
    """
    if name == "cpu":
        yield
        return
    if name == "auto" and find_spec("torch") is None:
        print("device: the processor (Torch is not installed)", file=sys.stderr)
        yield
        return
    from torchbridge.installed import require_torch

    require_torch(f"--device {name}")
    from torchbridge.device import find
    from verifier.bounds.passes import made_by

    device = find(name)
    if device is None:
        print("device: the processor (Torch finds no GPU)", file=sys.stderr)
        yield
        return
    print(f"device: {device.title}", file=sys.stderr)
    with made_by(device):
        yield
