"""The one door from evidence to a proof file."""

import io
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from verifier.core.errors import ExportError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.proof.claim import check_file
from verifier.proof.format import Reader
from verifier.search.portfolio import certify
from verifier.search.proofs import write

NETWORK = Network(
    (
        Layer(np.eye(2), np.zeros(2), np.ones(2, dtype=bool)),
        Layer(np.eye(2), np.zeros(2), np.zeros(2, dtype=bool)),
    )
)
SHA = {"model_sha256": "a", "property_sha256": "b"}


def at_least(bound, *terms):
    return LinearConstraint(tuple((i, Fraction(v)) for i, v in terms), Fraction(bound))


def written(prop, verdict):
    stream = io.BytesIO()
    write(stream, NETWORK, prop, verdict, **SHA)
    return stream.getvalue()


def checked(tmp_path, data, prop):
    path = tmp_path / "p.proof"
    path.write_bytes(data)
    with Reader(path) as reader:
        return check_file(NETWORK, prop, reader, **SHA)


@pytest.mark.parametrize("engine", ["auto", "bab", "interval", "lp", "milp"])
def test_cases_with_and_without_evidence(tmp_path, engine):
    """A case with nothing unsafe has no evidence, and still its place in the proof."""
    box = Box((-1, -1), (1, 1))
    never, high = at_least(1), at_least(2, (0, 1))
    cases = (
        Case(box, ((never,),)),
        Case(box, ((high,), (never, high))),
        Case(box, ()),
        Case(Box((0, 0), (0, 0)), ((at_least(Fraction(1, 3), (0, 1), (1, -1)),),)),
        Case(box, ((never,),)),
    )
    prop = Property(cases, 2, 2)
    verdict = certify(NETWORK, prop, proof=True, engine=engine)
    assert isinstance(verdict, Proved)
    assert len(verdict.evidence) == 2
    data = written(prop, verdict)
    assert checked(tmp_path, data, prop).verdict == "proved"
    with pytest.raises(ExportError, match="evidence for 3 cases, 2 need it"):
        written(prop, Proved((*verdict.evidence, verdict.evidence[0])))


def test_a_property_that_mixes_inputs_and_outputs(tmp_path):
    """relu(x_0) > x_0 + 1/2 somewhere on [-1/4, 1]: it is not."""
    unsafe = at_least(Fraction(1, 2), (0, 1), (2, -1))
    prop = Property(
        (Case(Box((Fraction(-1, 4), 0), (1, 1)), ((unsafe,),)),), 2, 2, mixes_inputs=True
    )
    verdict = certify(NETWORK, prop, proof=True)
    assert checked(tmp_path, written(prop, verdict), prop).verdict == "proved"
    wider = Property((Case(Box((-1, 0), (1, 1)), ((unsafe,),)),), 2, 2, mixes_inputs=True)
    verdict = certify(NETWORK, wider, proof=True)
    assert isinstance(verdict, Refuted)
    assert checked(tmp_path, written(wider, verdict), wider).verdict == "refuted"


@dataclass
class Nonsense:
    """Evidence of a kind that does not exist."""


def test_what_cannot_be_written_is_said():
    prop = Property((Case(Box((0, 0), (1, 1)), ((at_least(2, (0, 1)),),)),), 2, 2)
    with pytest.raises(ExportError, match="nothing was decided"):
        written(prop, Unknown("time limit"))
    with pytest.raises(ExportError, match="no proof can be written for evidence by Nonsense yet"):
        written(prop, Proved((Nonsense(),)))
    many = Case(Box((0, 0), (1, 1)), ((at_least(2, (0, 2**54 + 1), (1, 2)),),))
    with pytest.raises(ExportError, match="more than 53 bits"):
        written(Property((many,), 2, 2), Proved((Nonsense(),)))


def test_neighbouring_cases_of_the_interval_pass_share_a_block(tmp_path):
    """The pairs once, then all cases in a row; a case with nothing unsafe comes between."""
    first = Layer(np.array([[1.0, 0.0], [-1.0, 1.0]]), np.zeros(2), np.array([False, True]))
    last = Layer(np.ones((1, 2)), np.zeros(1), np.zeros(1, dtype=bool))
    maximum = Network((first, last))
    boxes = [Box((Fraction(i, 8), 0), (1, 1)) for i in range(5)]
    clauses = [((at_least(2, (0, 1)),),) if i != 2 else () for i in range(5)]
    prop = Property(tuple(Case(b, c) for b, c in zip(boxes, clauses, strict=True)), 2, 1)
    verdict = certify(maximum, prop, engine="interval", proof=True)
    stream = io.BytesIO()
    write(stream, maximum, prop, verdict, **SHA)
    path = tmp_path / "p.proof"
    path.write_bytes(stream.getvalue())
    with Reader(path) as reader:
        blocks = [
            (name, columns["case"].tolist()) for name, columns in reader.blocks() if name != "pairs"
        ]
    assert blocks == [("intervals", [0, 1]), ("case", [2]), ("intervals", [3, 4])]
    with Reader(path) as reader:
        assert check_file(maximum, prop, reader, **SHA).verdict == "proved"
