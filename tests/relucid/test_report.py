"""Tables, accuracies, JSON and CSV say what the verdicts say."""

import csv
import io
import json
from fractions import Fraction

import pytest

from relucid import report
from relucid.report import Accuracy
from relucid.runs import Outcome
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted, Replay, Unknown, Witness

HALF = Fraction(1, 2)


def sample(index, verdict, predicted=0, center=(Fraction(3, 4), Fraction(1, 4))):
    prop = Property.robustness(Box.ball(center, HALF), 0, 2)
    return Outcome("d", prop, verdict, 0.25, index, 0, predicted, center)


def refuted(x=(HALF, HALF), y=(HALF, Fraction(2, 3)), replay=None):
    return Refuted(Witness(tuple(x), tuple(y), 0, 0, replay))


PROVED = Proved(None, {"nodes": 13, "open": 0})
UNKNOWN = Unknown("time limit of 1 s")
OUTCOMES = [
    sample(0, PROVED),
    sample(1, UNKNOWN),
    sample(2, refuted()),
    sample(3, refuted((Fraction(3, 4), Fraction(1, 4)), (HALF, HALF)), predicted=1),
]


def test_accuracies_enclose_the_truth():
    accuracy = Accuracy.of(OUTCOMES)
    assert (accuracy.total, accuracy.clean, accuracy.proved, accuracy.refuted) == (4, 3, 1, 2)
    assert accuracy.adversarial == (Fraction(1, 4), HALF)
    assert accuracy.lines() == [
        "clean accuracy        3/4 = 75.0%",
        "certified accuracy    1/4 = 25.0%",
        "adversarial accuracy  [25.0%, 50.0%]",
    ]


def test_the_table_is_aligned_and_names_the_evidence():
    assert report.data_table(OUTCOMES) == [
        "index  label  verdict  seconds  evidence",
        "    0      0  proved      0.25  proof (13 nodes)",
        "    1      0  unknown     0.25  time limit of 1 s",
        "    2      0  refuted     0.25  witness at distance 0.25, classified 1, margin ≈0.166667; "
        "not replayed: no float32 point lies in the box, so onnxruntime cannot be asked",
        "    3      0  refuted     0.25  the sample itself is classified 1, margin 0; "
        "not replayed: no float32 point lies in the box, so onnxruntime cannot be asked",
    ]


@pytest.mark.parametrize(
    ("violated", "text"), [(True, "onnxruntime agrees"), (False, "onnxruntime does not break here")]
)
def test_the_replay_is_always_told(violated, text):
    outcome = sample(0, refuted(replay=Replay((0.5, 0.5), (0.5, 0.75), violated)))
    assert report.evidence(outcome).endswith(text)


def test_a_correctly_classified_sample_is_shown_first():
    assert report.shown(OUTCOMES[::-1]).index == 2
    assert report.shown(OUTCOMES[3:]).index == 3
    assert report.shown(OUTCOMES[:2]) is None


def test_a_picture_needs_a_change_to_show():
    assert report.picture_lines(OUTCOMES[3], (1, 2)) == []
    assert report.picture_lines(OUTCOMES[1], (1, 2)) == []
    assert report.picture_lines(OUTCOMES[2], (2,)) == []
    lines = report.picture_lines(OUTCOMES[2], (1, 2))
    assert lines[0].startswith("sample 2, label 0: witness at distance 0.25")
    assert lines[1:] == ["orig   witn   chan", "@@     ++++   −−++"]


def test_lines_of_one_property():
    prop = Property.robustness(Box((HALF,) * 2, (HALF,) * 2), 0, 2)
    lines = report.property_lines(Outcome("p", prop, UNKNOWN, 1.0))
    assert lines == ["unknown", "seconds: 1.00", "reason: time limit of 1 s"]
    lines = report.property_lines(Outcome("p", prop, PROVED, 1.0))
    assert lines == ["proved", "seconds: 1.00", "evidence: proof (13 nodes)"]
    lines = report.property_lines(Outcome("p", prop, refuted(), 1.0))
    assert lines[0] == "refuted"
    assert lines[3:] == ["X_0 = 0.5", "X_1 = 0.5", "Y_0 = 0.5", "Y_1 = ≈0.66666666666666663"]


def test_records_keep_exact_inputs_and_are_valid_json():
    y = (Fraction(10) ** 400, HALF)
    replay = Replay((0.5, 0.5), (float("inf"), float("nan")), False)
    outcome = sample(2, refuted((Fraction(1, 3), HALF), y, replay))
    record = json.loads(report.json_text(report.record(outcome, "m.onnx", "ab", eps="1/2")))
    assert record["witness"]["x"] == ["1/3", "1/2"]
    assert record["witness"]["y"] == ["inf", 0.5]
    assert record["witness"]["replay"]["y"] == ["inf", "nan"]
    assert (record["eps"], record["index"], record["verdict"]) == ("1/2", 2, "refuted")


def test_csv_has_a_line_an_instance():
    records = [report.record(o, "m.onnx", "ab") for o in OUTCOMES]
    rows = list(csv.DictReader(io.StringIO(report.csv_text(records))))
    assert [r["verdict"] for r in rows] == ["proved", "unknown", "refuted", "refuted"]
    assert rows[1]["reason"] == "time limit of 1 s"
    assert "witness" not in rows[0]


def test_a_pair_is_two_numbers_in_one_csv_cell():
    (row,) = csv.DictReader(io.StringIO(report.csv_text([{"eps": "1/20", "clip": ["0", "1"]}])))
    assert row == {"eps": "1/20", "clip": "0 1"}


def test_only_refuted_instances_have_a_class_that_breaks_them():
    with pytest.raises(ValueError, match="only a refuted instance"):
        report.broken_by(OUTCOMES[0])
    assert report.broken_by(OUTCOMES[2]) == 1
