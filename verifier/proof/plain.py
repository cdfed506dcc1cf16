"""A second checker, small and slow: the same rules in exact arithmetic, one node at a time.

It shares the reader of the file format with the checker of ``check.py`` and nothing else, so that
an error in one of them does not hide in the other. Rules: ``plain_rules.py`` (visit, rounding),
``plain_leaves.py`` (lemma, neurons), ``plain_pairs.py`` (pairs, intervals).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from verifier.core.network import Network
from verifier.core.property import Property
from verifier.proof.format import Reader
from verifier.proof.outcome import FLOAT32, REAL, Checked, InvalidError
from verifier.proof.plain_bounds import nearest
from verifier.proof.plain_leaves import lemma, neurons
from verifier.proof.plain_pairs import Intervals
from verifier.proof.plain_rules import Case, rounding, visit

RULES = {"visit": visit, "lemma": lemma, "neurons": neurons, "rounding": rounding}


def check_plainly(
    network: Network, prop: Property, reader: Reader, *,
    model_sha256: str, property_sha256: str, float32: Network | None = None,
) -> Checked:  # fmt: skip
    """Check a proof file against a model and a property, as ``claim.check_file`` does.

    Raises:
        InvalidError: it is about other files, or proves something else, or nothing.
        CertificateError: it is damaged.
    """
    claim = reader.header
    for name, actual in (("model", model_sha256), ("property", property_sha256)):
        if claim.get(name) != actual:
            why = f"the proof is about another {name}, not that with SHA-256 {actual}"
            raise InvalidError("header", name, why)
    semantics, verdict = claim.get("semantics"), claim.get("verdict")
    if semantics == FLOAT32 and float32 is not None:
        network = float32
    elif semantics != REAL:
        raise InvalidError("header", "semantics", f"{semantics!r:.80} is not known of this model")
    if verdict == "proved":
        return Checked("proved", prove(network, prop, reader, semantics == FLOAT32), semantics)
    if verdict != "refuted":
        raise InvalidError("header", "verdict", f"{verdict!r:.80}, not 'proved' or 'refuted'")
    for number, (name, _) in enumerate(reader.blocks()):
        raise InvalidError(name, f"block {number}", "a refutation has no blocks")
    refute(network, prop, claim.get("witness"), semantics == FLOAT32)
    return Checked("refuted", 0, semantics)


def prove(network: Network, prop: Property, reader: Reader, float32: bool) -> int:
    """Follow the blocks of a proof to their end.

    Returns:
        the number of nodes.
    """
    if prop.mixes_inputs:
        network = network.with_inputs_as_outputs()
    intervals, case, done, nodes = Intervals(network, prop), None, 0, 0
    for number, (name, columns) in enumerate(reader.blocks()):
        step = f"block {number}"
        if name in ("case", "intervals") and case is not None and case.stack:
            raise InvalidError(name, step, f"nodes of case {done - 1} are left")
        if float32 and name in ("pairs", "intervals"):
            raise InvalidError(name, step, "the rule holds in exact arithmetic only")
        if name == "pairs":
            intervals.pairs(columns, step)
        elif name in ("case", "intervals"):
            cases = columns["case"].tolist()
            last = done + (1 if name == "case" else len(cases))
            if cases != list(range(done, min(last, len(prop.cases)))) or (
                name == "case" and not cases
            ):
                raise InvalidError(name, step, f"{cases[:9]}, not case {done} and those after it")
            case = Case(network, prop, done, float32) if name == "case" else None
            if name == "intervals":
                intervals.prove(cases, step)
                nodes += len(cases)
            done = last
        elif case is None:
            raise InvalidError(name, step, "it comes before the first case")
        else:
            nodes += RULES[name](case, columns, step)
    if done != len(prop.cases) or (case is not None and case.stack):
        why = f"{done} of {len(prop.cases)} cases, or nodes are left"
        raise InvalidError("case", "end", why)
    return nodes


def refute(network: Network, prop: Property, witness: Any, float32: bool) -> None:
    """The rule "witness": the point lies in some case's box, and its outputs are unsafe."""
    if not isinstance(witness, list) or len(witness) != network.n_inputs:
        raise InvalidError("witness", "header", f"not {network.n_inputs} coordinates")
    for j, text in enumerate(witness):
        rational = r"-?[0-9]{1,4000}(/0*[1-9][0-9]{0,4000})?"
        if not isinstance(text, str) or not re.fullmatch(rational, text):
            raise InvalidError("witness", f"coordinate {j}", f"{text!r:.80} is no rational")
    x = tuple(Fraction(text) for text in witness)
    if not any(case.box.contains(x) for case in prop.cases):
        raise InvalidError("witness", "header", "the point lies outside of all boxes")
    y = _in_float32(network, x) if float32 else network.exact(x)
    if prop.violation(x, y) is None:
        raise InvalidError("witness", "header", "the outputs at the point are not unsafe")


def _in_float32(network: Network, x: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """The outputs in the order of summation of FORMAT.md, section 5, each step rounded."""
    numbers = [Fraction(v) for y in network.layers for v in (*y.dense.ravel(), *y.bias)]
    if any(nearest(v) != v for v in (*x, *numbers)):
        raise InvalidError("witness", "header", "a coordinate, weight or bias is no float32 number")
    for layer in network.layers:
        z = []
        for weights, bias, relu in zip(layer.dense, layer.bias, layer.relu, strict=True):
            total = Fraction(0)
            for w, a in zip(weights, x, strict=True):
                if w:
                    total = nearest(total + nearest(Fraction(w) * a))
            total = nearest(total + Fraction(bias))
            z.append(max(total, Fraction(0)) if relu else total)
        x = tuple(z)
    return x
