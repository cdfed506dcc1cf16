"""The header of a proof: which files it is about, and witnesses."""

import io
import json
import struct
from fractions import Fraction

import numpy as np
import pytest

from verifier.core.errors import ExportError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, Property
from verifier.proof.case import InvalidError
from verifier.proof.claim import check_file, header
from verifier.proof.format import MAGIC, Reader, Writer

MODEL, PROPERTY = "a" * 64, "b" * 64
#: y = (relu(x_0), relu(x_1)); unsafe on the box where x_1 >= x_0 and both outputs show it.
NETWORK = Network(
    (
        Layer(np.eye(2), np.zeros(2), np.ones(2, dtype=bool)),
        Layer(np.eye(2), np.zeros(2), np.zeros(2, dtype=bool)),
    )
)
PROP = Property.robustness(Box((0, 0), (1, 1)), 0, 2)
WITNESS = (Fraction(1, 3), Fraction(2, 3))


def written(tmp_path, head, blocks=()):
    path, stream = tmp_path / "p.proof", io.BytesIO()
    writer = Writer(stream, head)
    for name, columns in blocks:
        writer.block(name, **columns)
    writer.close()
    path.write_bytes(stream.getvalue())
    return path


def checked(path, prop=PROP):
    with Reader(path) as reader:
        return check_file(NETWORK, prop, reader, model_sha256=MODEL, property_sha256=PROPERTY)


def test_an_exact_witness_is_accepted(tmp_path):
    result = checked(written(tmp_path, header(MODEL, PROPERTY, WITNESS)))
    assert (result.verdict, result.nodes) == ("refuted", 0)


def test_a_proof_is_handed_to_the_rules(tmp_path):
    box = Box((0.5, 0), (1, 0.25))
    blocks = [("case", {"case": [0]}), ("visit", {"action": [0], "axis": [0], "at": [0]})]
    path = written(tmp_path, header(MODEL, PROPERTY), blocks)
    assert checked(path, Property.robustness(box, 0, 2)).verdict == "proved"
    with pytest.raises(InvalidError, match="still open"):
        checked(path)


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        ({"model": "c" * 64}, "header", "about the model"),
        ({"model": None}, "header", "about the model"),
        ({"model": MODEL.upper()}, "header", "about the model"),
        ({"property": "c" * 64}, "header", "about the property"),
        ({"property": [PROPERTY]}, "header", "about the property"),
        ({"semantics": "float32"}, "header", "only real"),
        ({"semantics": None}, "header", "only real"),
        ({"verdict": "unknown"}, "header", "expected 'proved' or 'refuted'"),
        ({"verdict": ["refuted"]}, "header", "expected 'proved' or 'refuted'"),
        ({"verdict": "proved"}, "case", "0 of 1 cases"),
        ({"witness": None}, "witness", "0 coordinates"),
        ({"witness": "1/3"}, "witness", "0 coordinates"),
        ({"witness": ["1/3"]}, "witness", "1 coordinates"),
        ({"witness": ["1/3", "2/3", "0"]}, "witness", "3 coordinates"),
        ({"witness": ["1/3", 0.5]}, "witness", "no rational"),
        ({"witness": ["1/3", "0.5"]}, "witness", "no rational"),
        ({"witness": ["1/3", "1e999999999"]}, "witness", "no rational"),
        ({"witness": ["1/3", "1/0"]}, "witness", "no rational"),
        ({"witness": ["1/3", "1/00"]}, "witness", "no rational"),
        ({"witness": ["1/3", "٢/3"]}, "witness", "no rational"),
        ({"witness": ["1/3", "2/3\n"]}, "witness", "no rational"),
        ({"witness": ["1/3", "9" * 4001]}, "witness", "no rational"),
        ({"witness": ["1/3", "4/3"]}, "witness", "input 1 is '4/3', not in [0, 1]"),
        ({"witness": ["-1/3", "2/3"]}, "witness", "input 0"),
        ({"witness": ["2/3", "1/3"]}, "witness", "not unsafe"),
        ({"witness": ["2/3", f"{10**40 * 2 // 3}/{10**40}"]}, "witness", "not unsafe"),
    ],
)
def test_every_field_is_looked_at(tmp_path, change, rule, words):
    head = header(MODEL, PROPERTY, WITNESS) | change
    with pytest.raises(InvalidError) as caught:
        checked(written(tmp_path, head))
    assert caught.value.rule == rule
    assert words in caught.value.why


def test_a_tie_counts_exactly(tmp_path):
    for x, good in ((("2/3", "2/3"), True), (("2/3", f"{2 * 10**40}/{3 * 10**40 + 1}"), False)):
        path = written(tmp_path, header(MODEL, PROPERTY) | {"verdict": "refuted", "witness": [*x]})
        if good:
            assert checked(path).verdict == "refuted"
        else:
            with pytest.raises(InvalidError, match="not unsafe"):
                checked(path)


def test_a_refutation_has_no_blocks_and_several_boxes_are_named(tmp_path):
    path = written(tmp_path, header(MODEL, PROPERTY, WITNESS), [("case", {"case": [0]})])
    with pytest.raises(InvalidError, match="no blocks"):
        checked(path)
    cases = tuple(Case(Box((k, k), (k, k)), PROP.cases[0].clauses) for k in (2, 3))
    with pytest.raises(InvalidError, match="all 2 boxes"):
        checked(written(tmp_path, header(MODEL, PROPERTY, WITNESS)), Property(cases, 2, 2))


def test_a_witness_with_too_many_digits_is_not_written():
    with pytest.raises(ExportError, match="4000 digits"):
        header(MODEL, PROPERTY, [Fraction(1, 10**4000)])
    assert header(MODEL, PROPERTY, [])["witness"] == []


def test_a_header_that_nests_without_end_is_damage(tmp_path):
    path, text = tmp_path / "p.proof", b"[" * 200_000
    path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text)
    with pytest.raises(Exception, match="damaged header"):
        Reader(path)
    text = json.dumps([1]).encode()
    path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text)
    with pytest.raises(Exception, match="no JSON object"):
        Reader(path)
