"""The ``relucid`` command: its subcommands, and what becomes of every error.

Exit status: 0 the command did its job (whatever the verdict), 1 a proof is not valid or could not
be written, 2 the input or the place to write to is at fault (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

import relucid
from relucid import interrupt
from relucid.attack import attack
from relucid.build import build
from relucid.certify import certify
from relucid.check import check
from relucid.demo import demo
from relucid.hardness import hardness
from relucid.lipschitz import lipschitz
from relucid.radius import radius
from relucid.separation import separation
from relucid.theorem import theorem
from verifier.core.errors import RelucidError

# The common base of all complaints about arguments; its name differs between versions of typer.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"relucid {relucid.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")
    ] = False,
) -> None:
    """Prove or refute the robustness of ReLU networks, exactly, with evidence."""


app.command(rich_help_panel="Prove")(certify)
app.command(rich_help_panel="Prove")(check)
app.command(rich_help_panel="Prove")(demo)
app.command(rich_help_panel="Build")(build)
app.command(rich_help_panel="Build")(hardness)
app.command(rich_help_panel="Measure")(attack)
app.command(rich_help_panel="Measure")(lipschitz)
app.command(rich_help_panel="Measure")(radius)
app.command(rich_help_panel="Measure")(separation)
app.command(rich_help_panel="Teach")(theorem)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: without the program's name. ``--debug`` may stand anywhere.
    """
    debug = "--debug" in arguments
    rest = [a for a in arguments if a != "--debug"]
    try:
        # Not command.main(): that one would end the process by itself when a pipe is closed.
        command = typer.main.get_command(app)
        with command.make_context("relucid", rest) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except _USAGE_ERROR as error:
        if debug:
            raise
        return _usage(error)
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


def _usage(error: Exception) -> int:
    """One line for a wrong argument (help, when no command was given, prints itself)."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(getattr(error, "message", ""), file=sys.stderr)
        return 2
    command = context.command_path if context is not None else "relucid"
    message = getattr(error, "format_message", error.__str__)()
    return _complain(f"{message} (see {command} --help)", 2)


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
    interrupt.watch()
    sys.exit(run(sys.argv[1:]))
