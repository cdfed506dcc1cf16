"""``--device``: what is computed on; in a search, who proposes the numbers of its bounds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import typer


def device_option(panel: str, more: str = "") -> Any:
    """``--device``, which names devices alike in every command.

    Args:
        panel: of the help.
        more: what the command uses it for.
    """
    return typer.Option(
        "--device",
        metavar="auto|cpu|torch|cuda[:N]",
        help="auto: a GPU if there is one, else cpu. cpu: the processor. torch: Torch on the "
        f"processor. cuda, cuda:N: a GPU.{more}",
        rich_help_panel=panel,
    )


def require_proposer(name: str, engine: str) -> None:
    """Refuse a device for an engine that proposes nothing.

    Raises:
        typer.BadParameter: it was.
    """
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
