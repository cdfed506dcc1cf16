"""The subcommands and their options, as Typer reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import relucid
from relucid.attack import attack
from relucid.build import build
from relucid.certify import certify
from relucid.check import check
from relucid.demo import demo
from relucid.experiment import experiment
from relucid.generate import generate
from relucid.hardness import hardness
from relucid.lipschitz import lipschitz
from relucid.radius import radius
from relucid.separation import separation
from relucid.theorem import theorem
from relucid.train import train

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
app.command(rich_help_panel="Build")(generate)
app.command(rich_help_panel="Build")(hardness)
app.command(rich_help_panel="Build")(train)
app.command(rich_help_panel="Measure")(attack)
app.command(rich_help_panel="Measure")(experiment)
app.command(rich_help_panel="Measure")(lipschitz)
app.command(rich_help_panel="Measure")(radius)
app.command(rich_help_panel="Measure")(separation)
app.command(rich_help_panel="Teach")(theorem)


def invoke(arguments: Sequence[str], debug: bool) -> int:
    """Run a command line and return its exit status.

    Args:
        arguments: without the program's name and without ``--debug``.
        debug: whether complaints about arguments are raised.

    Raises:
        Exception: whatever the command raises, but for complaints about arguments.
    """
    try:
        # Not command.main(): that one would end the process by itself when a pipe is closed.
        command = typer.main.get_command(app)
        with command.make_context("relucid", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort as problem:
        raise KeyboardInterrupt from problem
    except _USAGE_ERROR as error:
        if debug:
            raise
        print(_usage(error), file=sys.stderr, flush=True)
        return 2
    return 0


def _usage(error: Exception) -> str:
    """One line for a wrong argument; the help, when no command was given."""
    message = getattr(error, "format_message", error.__str__)()
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(getattr(error, "message", ""))
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "relucid"
    return " ".join(f"relucid: {message} (see {command} --help)".split())
