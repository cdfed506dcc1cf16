"""``relucid check``: is this file a proof about this model and this property?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    model: Annotated[str, typer.Argument(help="An ONNX file, or a bundled model's name.")],
    property_file: Annotated[
        Path, typer.Argument(metavar="PROPERTY", help="A VNN-LIB 1.0 or 2.0 file, gzip or not.")
    ],
    proof: Annotated[Path, typer.Argument(help="A file that relucid certify --proof wrote.")],
    plain: Annotated[
        bool,
        typer.Option("--plain", help="A second checker, small and slow, in exact arithmetic."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a proof: VALID, or INVALID with the rule, the step and the reason.

    Nothing of the search takes part: every bound of the proof is computed again in integers, by
    code that shares nothing with what found it. The exit status is 0 for VALID, 1 for INVALID.
    """
    from relucid.proof_check import check_files

    raise typer.Exit(check_files(model, property_file, proof, plain, json_output))
