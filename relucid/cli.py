"""The ``relucid`` command, and what becomes of every error.

Exit status: 0 the command did its job (whatever the verdict), 1 a proof is not valid or could not
be written, 2 the input or the place to write to is at fault (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from relucid import blas, interrupt, plain_arguments
from verifier.core.errors import RelucidError


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: without the program's name. ``--debug`` may stand anywhere.
    """
    debug = "--debug" in arguments
    rest = [a for a in arguments if a != "--debug"]
    try:
        status = plain_arguments.run(rest)
        if status is None:
            from relucid.commands import invoke

            status = invoke(rest, debug)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except RelucidError as error:
        if debug:
            raise
        return _complain(str(error), 2)
    except BrokenPipeError:
        # What is still buffered has no reader; without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _complain("the program that reads the output has gone", 2)
    except MemoryError:
        if debug:
            raise
        return _complain("out of memory", 2)
    except OSError as error:
        if debug:
            raise
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)


def _drop_output() -> None:
    """Forget buffered output that cannot be written, so that the interpreter's end is quiet."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    """The one line on stderr."""
    line = " ".join(message.split())
    try:
        print(f"relucid: {line}", file=sys.stderr, flush=True)
    except OSError:
        return status  # stderr is gone as well: the exit status is all that is left to say
    return status


def main() -> NoReturn:
    """Entry point of the installed command."""
    _reopen()
    blas.tell()
    interrupt.watch()
    _leave(run(sys.argv[1:]))


def _reopen() -> None:
    """Let standard streams that the user has closed lead nowhere: no file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def _leave(status: int) -> NoReturn:
    """End the process without Python's own end, which takes a sixth of the shortest commands.

    It would free memory object by object, which the system does at once. What was to be written has
    been: files are whole when they get their names, standard output was flushed by ``run``.
    """
    with suppress(OSError):  # stderr is gone: the exit status is all that is left to say
        sys.stderr.flush()
    os._exit(status)
