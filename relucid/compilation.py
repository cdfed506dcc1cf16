"""A word to the user before compiled code is made for the first time."""

from __future__ import annotations

import sys


def note_compilation() -> None:
    """Say on stderr that the search for nearest enemies is being compiled, if it has to be."""
    from constructions.warm_up import is_compiled

    if not is_compiled():
        print(
            "relucid: compiling the search for nearest enemies, once (some seconds) ...",
            file=sys.stderr,
            flush=True,
        )
