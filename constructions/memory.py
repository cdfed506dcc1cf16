"""How much memory one piece of work may take: said before it begins, not after it fails."""

from __future__ import annotations

from verifier.core.errors import DataError

#: More than this is refused before anything is built.
MEMORY = 4 * 2**30


def require_bytes(name: str, what: str, needed: int, limit: int = MEMORY) -> None:
    """Refuse what would not fit, before any of it is done.

    Args:
        name: the data set, for the message.
        what: what needs the memory.
        needed: an estimate from above.
        limit: bytes.

    Raises:
        DataError: with the estimate.
    """
    if needed > limit:
        raise DataError(
            f"{name}: {what} would need about {needed / 2**30:.1f} GiB of memory; "
            f"the limit is {limit / 2**30:.1f} GiB"
        )
