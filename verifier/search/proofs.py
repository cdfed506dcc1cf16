"""The one door from a verdict's evidence to a proof file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, BinaryIO

from verifier.core.errors import CertificateError, ExportError
from verifier.core.network import Network
from verifier.core.property import Case as PropertyCase
from verifier.core.property import Property
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict
from verifier.proof.case import Case
from verifier.proof.claim import header
from verifier.proof.float32 import Float32Error, evaluate, rounded
from verifier.proof.format import Writer
from verifier.proof.outcome import FLOAT32, REAL
from verifier.search import proof_input_split, proof_interval, proof_neuron_split
from verifier.search.balls import EnclosureEvidence
from verifier.search.branch_and_bound import NeuronSplitTree
from verifier.search.input_split import InputSplitTree
from verifier.search.interval import IntervalEvidence
from verifier.search.lp_tree import LpEvidence
from verifier.search.rounded_root import write_root

#: Appends the blocks of one case: (evidence, the checker's view of the case, the proof's writer).
WriteCase = Callable[[Any, Case, Writer], None]


def _input_split(tree: InputSplitTree, case: Case, writer: Writer) -> None:
    if case.float32:
        write_root(case, writer)
    proof_input_split.write(tree, case, writer)


#: Evidence that is a record of a search, and who writes it.
WRITERS: dict[type, WriteCase] = {
    InputSplitTree: _input_split,
    NeuronSplitTree: proof_neuron_split.write,
}
#: Evidence that says only that bounds on the outputs are enough.
PASSES = (IntervalEvidence, EnclosureEvidence)
_NAMES: dict[type, str] = {LpEvidence: "linear programs not converted in time"}


def write(
    stream: BinaryIO,
    network: Network,
    prop: Property,
    verdict: Verdict,
    *,
    model_sha256: str,
    property_sha256: str,
    float32: bool = False,
) -> None:
    """Write what supports a verdict so that ``verifier.proof`` can check it.

    Args:
        stream: open for writing bytes; the proof is written block by block.
        network, prop: what the verdict is about, as the two files say.
        verdict: of ``certify`` or ``certify_float32`` with ``proof=True``.
        model_sha256, property_sha256: of the two files.
        float32: whether the verdict is about what float32 sums can give; the network then has
            the layers that a runtime computes.

    Raises:
        ExportError: there is nothing to write, or it cannot be written (yet), with the reason.
    """
    if isinstance(verdict, Unknown):
        raise ExportError("nothing was decided")
    semantics = FLOAT32 if float32 else REAL
    if isinstance(verdict, Refuted):
        x = verdict.witness.x
        if float32 and not _breaks(network, prop, x):
            raise ExportError("only onnxruntime's own order of summation gives unsafe outputs")
        text = header(model_sha256, property_sha256, x, semantics=semantics)
        Writer(stream, text).close()
        return
    writer = Writer(stream, header(model_sha256, property_sha256, semantics=semantics))
    try:
        _write_cases(writer, rounded(network) if float32 else network, prop, verdict)
    except CertificateError as problem:
        raise ExportError(f"no proof can be written: {problem}") from problem


def _write_cases(writer: Writer, network: Network, prop: Property, verdict: Proved) -> None:
    """Case by case; evidence there is for the cases that are not trivially safe."""
    extended = network.with_inputs_as_outputs() if prop.mixes_inputs else network
    needed = [index for index, case in enumerate(prop.cases) if _is_open(case)]
    # The pass over all balls gives one piece for the one case of each.
    given = (verdict.evidence,) if isinstance(verdict.evidence, PASSES) else verdict.evidence
    if len(needed) != len(given):
        raise CertificateError(f"evidence for {len(given)} cases, {len(needed)} need it")
    evidence = dict(zip(needed, given, strict=True))
    pairs = True
    for passes, group in groupby(
        range(len(prop.cases)), key=lambda index: isinstance(evidence.get(index), PASSES)
    ):
        if passes:
            # The checker bounds many boxes in about the time of a few.
            proof_interval.write(list(group), extended, writer, pairs=pairs)
            pairs = False
            continue
        for index in group:
            state = Case(extended, prop, index)
            writer.block("case", case=[index])
            if index in evidence:
                _writer(evidence[index])(evidence[index], state, writer)
    writer.close()


def _breaks(network: Network, prop: Property, x: Sequence[Fraction]) -> bool:
    """Whether the checker's order of summation gives unsafe outputs at a float32 point."""
    try:
        return prop.violation(x, evaluate(network, x)) is not None
    except Float32Error:
        return False


def _is_open(case: PropertyCase) -> bool:
    """Whether some clause is left once constraints without variables are decided."""
    return any(all(c.terms or c.holds(()) for c in clause) for clause in case.clauses)


def _writer(evidence: Any) -> WriteCase:
    """Who can write this kind of evidence.

    Raises:
        ExportError: nobody yet.
    """
    if type(evidence) in WRITERS:
        return WRITERS[type(evidence)]
    name = _NAMES.get(type(evidence), type(evidence).__name__)
    raise ExportError(f"no proof can be written for evidence by {name} yet")
