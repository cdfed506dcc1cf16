"""Scaling curves: the fit, where a curve ends, and what the real curves ask."""

import csv
import math
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling

    return scaling


def test_an_exact_power_is_found(scaling):
    x = [10.0, 20.0, 50.0, 100.0]
    found = scaling.fit(x, [3e-4 * v**1.7 for v in x])
    assert found.exponent == pytest.approx(1.7)
    assert found.factor == pytest.approx(3e-4)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_the_fit_is_that_of_numpy(scaling):
    rng = np.random.default_rng(5)
    x = rng.uniform(1, 100, 12)
    y = 0.2 * x**-0.4 * np.exp(rng.normal(0, 0.3, 12))
    (slope, shift), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    found = scaling.fit(list(x), list(y))
    assert found.exponent == pytest.approx(slope)
    assert math.log(found.factor) == pytest.approx(shift)
    assert found.error == pytest.approx(math.sqrt(covariance[0, 0]))


def test_too_few_points_have_no_error_or_no_exponent(scaling):
    assert math.isnan(scaling.fit([1.0, 2.0], [1.0, 4.0]).error)
    assert scaling.fit([1.0, 2.0], [1.0, 4.0]).exponent == pytest.approx(2.0)
    assert scaling.fit([3.0, 3.0], [1.0, 4.0]) is None


def curve(scaling, answer, values=(1, 2, 4, 8)):
    """A curve whose work takes a few milliseconds; ``answer`` says what comes of a value."""

    def prepare(value, limit):
        def work():
            end = time.process_time() + 0.002 * value
            while time.process_time() < end:
                pass
            return answer(value)

        return work

    return scaling.Curve("size", values, prepare)


def test_a_curve_ends_visibly_where_a_question_meets_its_limit(scaling, monkeypatch, tmp_path):
    def answer(value):
        late = int(value >= 4)
        return scaling.Answer(2 - late, int(10 * value), 0, late)

    monkeypatch.setattr(scaling, "CURVES", {"made": curve(scaling, answer)})
    figures = tmp_path / "FIGURES.md"
    figures.write_text("| head |\n| --- |\n")
    assert scaling.main(["--out", str(tmp_path / "out"), "--row", str(figures)]) == 0
    with (tmp_path / "out" / "runs.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [float(r["value"]) for r in rows] == [4, 1, 2, 1, 2, 1, 2]
    assert all(float(r["memory_mb"]) >= 0 for r in rows)
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| made | 4 |" in text
    assert "time limit met at 4" in text
    assert text.index("| made | 1 |") < text.index("| made | 4 |")
    assert "made 1 to 2: exponent" in figures.read_text().splitlines()[-1]
    assert (tmp_path / "out" / "scaling.png").stat().st_size > 1000


def test_time_is_per_question(scaling):
    runs = scaling.measure_curve(
        "made", curve(scaling, lambda v: scaling.Answer(1, 0, 1), (5, 10)), 2, 1.0, 30.0
    )
    assert [(r.value, r.repetition) for r in runs] == [(5, 1), (10, 1), (5, 2), (10, 2)]
    assert all(r.seconds == pytest.approx(r.cpu / 2) for r in runs)
    assert all(0.002 * r.value <= r.cpu for r in runs)


def test_a_long_measurement_is_the_last_of_its_curve(scaling):
    made = curve(scaling, lambda v: scaling.Answer(1, 0))
    runs = scaling.measure_curve("made", made, 1, 1.0, 0.003)
    assert [r.value for r in runs] == [1, 2]
    assert "too long after 2" in scaling.Panel.of("made", made, runs).text


def test_questions_of_the_searches_are_answered(scaling):
    import scaling_curves

    for name in ("width", "inputs", "eps"):
        made = scaling.CURVES[name]
        answer = made.prepare(made.values[0], 30.0)()
        assert answer.late == 0
        assert answer.proved + answer.refuted == scaling_curves.POINTS


def test_training_has_a_fixed_seed(scaling):
    import scaling_curves

    first, second = (scaling_curves.trained((16,), 5)[0] for _ in range(2))
    for one, other in zip(first.layers, second.layers, strict=True):
        assert np.array_equal(one.weight, other.weight)
    assert [layer.n_out for layer in first.layers] == [16, 10]
    assert first.n_inputs == 25


def test_constructions_are_built_and_proved(scaling):
    built = scaling.CURVES["build-compact"].prepare(50, 30.0)()
    proved = scaling.CURVES["prove-compact"].prepare(50, 30.0)()
    assert built.proved == proved.proved == 1
    assert built.nodes == proved.nodes > 0
