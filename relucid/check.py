"""``relucid check``: is this file a proof about this model and this property?"""

from __future__ import annotations

import json
import sys
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
    from threadpoolctl import threadpool_limits

    from relucid.bundled import open_model
    from relucid.progress import Reporter
    from relucid.proof_check import check_proof
    from verifier.core.errors import CertificateError
    from verifier.io.vnnlib import read_property

    try:
        with proof.open("rb"):
            pass
    except OSError as problem:
        raise CertificateError(f"{proof}: cannot be read: {problem.strerror}") from problem
    opened = open_model(model)
    network = opened.network
    file = read_property(property_file, n_inputs=network.n_inputs, n_outputs=network.n_outputs)
    with Reporter(1) as reporter, threadpool_limits(1, user_api="blas"):
        reporter.begin(str(proof))
        result = check_proof(opened, file.prop, file.sha256, proof, reporter.update, plain=plain)
    for note in network.notes:
        print(f"note: {note}", file=sys.stderr)
    if json_output:
        about = {
            "model": model,
            "model_sha256": opened.sha256,
            "property": str(property_file),
            "property_sha256": file.sha256,
            "proof": str(proof),
        }
        sys.stdout.write(json.dumps(about | result.record(), indent=2) + "\n")
    else:
        print("\n".join(result.lines()))
    if result.verdict is None:
        raise typer.Exit(1)
