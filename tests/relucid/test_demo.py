"""``relucid demo`` does the main job on real data, and its numbers hold."""

import re
from fractions import Fraction

import pytest
from command_line import relucid

from constructions.dataset import load_dataset
from relucid import demonstration
from relucid.bundled import model_names
from relucid.demonstration import MODELS, RADII
from relucid.runs import open_model
from tests.stopwatch import within


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits:test")


def test_the_demo_is_as_large_as_it_is_said_to_be():
    import inspect

    from relucid.demo import demo

    assert inspect.signature(demo).parameters["digits"].default >= 50
    assert len(set(RADII)) >= 2
    assert len(set(MODELS)) >= 2
    assert set(MODELS) <= set(model_names())


def test_the_whole_demo(capsys, digits):
    with within(60):
        result = relucid(capsys, "demo")
    assert result.status == 0
    rows = re.findall(
        r"^(digits-\S+) +(\S+) +(\d+)/50 +(\d+)/50 +(\d+) +(\d+) +\[", result.out, re.M
    )
    assert [(name, Fraction(radius)) for name, radius, *_ in rows] == [
        (name, radius) for name in MODELS for radius in RADII
    ]
    for name, _, clean, proved, refuted, unknown in rows:
        assert int(proved) + int(refuted) + int(unknown) == 50
        # Clean accuracy by onnxruntime, which had no part in the table.
        model = open_model(name)
        hits = sum(
            int(model.run(digits.float32(i)).argmax() == digits.labels[i]) for i in range(50)
        )
        assert int(clean) == hits
        assert int(proved) <= hits
    assert sum(int(row[3]) for row in rows) >= 50
    assert sum(int(row[4]) for row in rows) >= 1
    assert "original" in result.out
    assert "exact margin" in result.out
    assert "onnxruntime" in result.out


def test_a_small_budget_is_kept_and_admitted(capsys):
    with within(20):
        result = relucid(capsys, "demo", "--digits", 20, "--budget", 1)
    assert result.status == 0


def test_the_clock_leaves_something_for_everyone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(demonstration.time, "monotonic", lambda: now[0])
    clock = demonstration._Clock(10.0, 100)
    for _ in range(100):
        share = clock.share()
        assert demonstration.LEAST_SECONDS <= share <= demonstration.MOST_SECONDS
        now[0] += share
    assert now[0] <= 10.0 + demonstration.MOST_SECONDS


def test_wrong_sizes_are_refused(capsys):
    assert relucid(capsys, "demo", "--digits", 361).status == 2
    assert relucid(capsys, "demo", "--budget", 0).status == 2
