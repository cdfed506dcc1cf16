"""Data sets and properties are put to the engines as they were meant."""

from fractions import Fraction

import numpy as np
import pytest
from command_line import identity_network, write_model

from constructions.dataset import DataSet, load_dataset
from relucid import runs
from relucid.ball_pass import Ball, boxes
from relucid.bundled import model_path
from relucid.progress import Reporter
from relucid.runs import Options, check_data, open_model, run_data, run_property
from verifier.core.errors import DataError, ModelError, PropertyError
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted, Unknown, word


@pytest.fixture
def model(tmp_path):
    return open_model(str(write_model(tmp_path / "m.onnx", identity_network())))


def points(*rows, labels=None):
    labels = [0] * len(rows) if labels is None else labels
    return DataSet(np.array(rows), np.array(labels), (2,), max(labels) + 1, "d", Fraction(1, 16))


def run(model, data, eps, engine="auto", **ball):
    with Reporter(len(data)) as reporter:
        options = Options(20.0, engine)
        where = Ball(Fraction(eps), **ball)
        return list(run_data(model, data, range(len(data)), where, options, reporter))


def test_bundled_models_are_found_by_name_and_files_come_first(tmp_path, monkeypatch):
    assert open_model("digits-mlp").sha256 == open_model(str(model_path("digits-mlp"))).sha256
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "digits-mlp")
    assert open_model("digits-mlp").network.n_inputs == 2
    with pytest.raises(ModelError):
        open_model("digits-none")


def test_a_misclassified_or_tied_sample_is_its_own_witness(model, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("no search is needed")

    monkeypatch.setattr(runs, "certify", fail)
    wrong, tied = run(model, points([4, 8], [5, 5]), "1/16")
    assert isinstance(wrong.verdict, Refuted)
    assert wrong.verdict.witness.x == wrong.center == (Fraction(1, 4), Fraction(1, 2))
    assert (wrong.predicted, wrong.correct) == (1, False)
    assert (tied.predicted, tied.correct, tied.margin) == (1, False, 0)
    assert wrong.verdict.witness.replay.violated


def test_verdicts_at_the_exact_radius(model):
    # At (12, 4)/16 a tie is reached exactly at radius 4/16, and ties are unsafe.
    below, at = (run(model, points([12, 4]), eps)[0].verdict for eps in ("0.2499", "1/4"))
    assert isinstance(below, Proved)
    assert isinstance(at, Refuted)
    assert at.witness.x == (HALF, HALF)


HALF = Fraction(1, 2)


def test_what_is_asked_of_the_engines(model, monkeypatch):
    asked = []

    def certify(network, prop, **options):
        asked.append((network, prop, options))
        return Unknown("nothing tried")

    monkeypatch.setattr(runs, "certify", certify)
    data = points([12, 4], labels=[0])
    with Reporter(1) as reporter:
        (outcome,) = run_data(
            model, data, [0], Ball(HALF, (Fraction(0), Fraction(1))),
            Options(3.0, "milp", "cbc", 7), reporter,
        )  # fmt: skip
    ((network, prop, options),) = asked
    assert network is model.network
    assert prop.cases[0].box == Box((Fraction(1, 4), Fraction(0)), (Fraction(1), Fraction(3, 4)))
    assert prop.label == 0
    assert {k: options[k] for k in ("timeout", "engine", "solver", "seed")} == {
        "timeout": 3.0, "engine": "milp", "solver": "cbc", "seed": 7,
    }  # fmt: skip
    assert outcome.verdict == Unknown("nothing tried")


def test_a_sample_outside_of_the_clip_range_is_refused(model):
    with pytest.raises(DataError, match=r"point 0 has values outside of \[0, 1/2\]"):
        run(model, points([12, 4]), "1/4", clip=(Fraction(0), HALF))


def test_data_that_do_not_fit_are_refused(model):
    digits = load_dataset("digits")
    with pytest.raises(DataError, match=r"64 coordinates \(8, 8\), but the model takes 2 inputs"):
        check_data(model, digits, range(3))
    with pytest.raises(DataError, match="label 2 of point 1 is not one of the model's 2 outputs"):
        check_data(model, points([1, 2], [3, 4], labels=[0, 2]), range(2))
    check_data(model, points([1, 2], [3, 4], labels=[0, 2]), range(1))
    with pytest.raises(DataError, match="no point 2"):
        check_data(model, points([1, 2], [3, 4]), [2])


def test_a_property_that_does_not_fit_is_refused(model):
    prop = Property.robustness(Box((HALF,) * 3, (HALF,) * 3), 0, 2)
    with pytest.raises(PropertyError, match="3 inputs and 2 outputs, but the network has 2 and 2"):
        run_property(model, prop, "p", Options(), Reporter(1))


def test_float32_and_exact_centers(model):
    data = DataSet(np.array([[3, 1]]), np.array([0]), (2,), 1, "d", Fraction(1, 10))
    (exact,) = run(model, data, "0", "bab", exact_center=True)
    (rounded,) = run(model, data, "0", "bab")
    assert exact.center == (Fraction(3, 10), Fraction(1, 10))
    assert rounded.center == tuple(Fraction(float(np.float32(v))) for v in (0.3, 0.1))
    assert isinstance(exact.verdict, Proved)


def test_the_first_pass_proves_what_it_can_and_leaves_the_rest(model):
    data = points([8, 2], [8, 7], [3, 8], labels=[0, 0, 0])
    first, close, wrong = run(model, data, "1/8")
    assert (word(first.verdict), first.predicted, first.correct) == ("proved", 0, True)
    assert first.verdict.statistics["interval pass"] == 1
    assert (word(close.verdict), word(wrong.verdict)) == ("refuted", "refuted")
    alone = [word(o.verdict) for o in run(model, data, "1/8", "bab")]
    assert alone == ["proved", "refuted", "refuted"]


@pytest.mark.parametrize("exact_center", [True, False])
@pytest.mark.parametrize("clip", [None, (Fraction(1, 16), Fraction(1, 2))])
def test_boxes_are_the_outward_balls(clip, exact_center):
    rows = [[1, 3], [8, 5], [0, 9]]
    data = DataSet(np.array(rows), np.array([0, 1, 0]), (2,), 2, "d", Fraction(1, 10))
    ball = Ball(Fraction(1, 30), clip, exact_center)
    lower, upper, inside = boxes(data, np.array([2, 0, 1]), ball)
    for k, i in enumerate((2, 0, 1)):
        center = data.sample(i) if exact_center else data.float32(i).tolist()
        if clip is not None and not all(clip[0] <= Fraction(v) <= clip[1] for v in center):
            assert not inside[k]
            continue
        assert inside[k]
        expected = Box.ball(center, ball.eps, clip).outward()
        assert lower[k].tolist() == expected[0].tolist()
        assert upper[k].tolist() == expected[1].tolist()
