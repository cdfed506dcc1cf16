"""Whether Torch is there, asked without importing it."""

from __future__ import annotations

from importlib.util import find_spec

from verifier.core.errors import SolverError


def require_torch(what: str) -> None:
    """Refuse what needs Torch where it is not installed.

    Args:
        what: the command or function, as a user knows it.

    Raises:
        SolverError: it is not.
    """
    if find_spec("torch") is None:
        raise SolverError(f"{what} needs Torch, which is not installed: pip install relucid[torch]")
