"""Data that no answer exists for, or not as given: ``separation`` and every construction."""

import json

import numpy as np
import pytest
from command_line import assert_refused, relucid

from relucid.build import _EVERY_RADIUS, _POINTS_ONLY, Name
from verifier.io.onnx import load_model

ALL = [str(name) for name in Name]
ONE_RADIUS = [str(name) for name in Name if name not in (*_EVERY_RADIUS, *_POINTS_ONLY)]
COMMANDS = ["separation", *ALL]


@pytest.fixture
def ask(capsys, tmp_path):
    """Run ``separation``, or ``build`` with a construction, on a file with this text or array."""

    def run(command, data, *more):
        path = tmp_path / "d.csv"
        if isinstance(data, str):
            path.write_text(data)
        else:
            path = tmp_path / "d.npz"
            np.savez_compressed(path, x=data[0], y=data[1])
        if command == "separation":
            return relucid(capsys, "separation", path, *more)
        width = ["--width", "40"] if command == "blocks" else []
        return relucid(capsys, "build", command, path, "--out", tmp_path / "n.onnx", *width, *more)

    return run


@pytest.fixture
def refused(ask, tmp_path):
    """Run it and expect one line with these words, and no file."""

    def check(command, data, *words, more=()):
        assert_refused(ask(command, data, *more), *words)
        assert [p.name for p in tmp_path.iterdir() if p.suffix not in (".csv", ".npz")] == []

    return check


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "1e999", "many", ""])
def test_values_that_are_no_numbers(refused, command, bad):
    refused(command, f"0,0,a\n1,{bad},b\n3,3,b\n", "d.csv")


@pytest.mark.parametrize("command", COMMANDS)
def test_nan_in_an_array(refused, command):
    points = np.zeros((4, 3))
    points[2, 1] = np.nan
    words = ("d.npz", "coordinate 1 of point 2", "nan")
    refused(command, (points, np.array([0, 1, 0, 1])), *words)


@pytest.mark.parametrize("command", COMMANDS)
def test_one_class_only(refused, command):
    refused(command, "0,0,cat\n1,1,cat\n", "d.csv", "label cat")


@pytest.mark.parametrize("name", ALL)
def test_equal_points_with_different_labels(refused, name):
    refused(name, "0,1,a\n2,3,b\n0,1,b\n", "d.csv", "λ = 0", "points 0 and 2", "a and b")


@pytest.mark.parametrize("more", [["--mu", "2"], ["--mu", "2.000001"], ["--mu", "100"]])
@pytest.mark.parametrize("name", ONE_RADIUS)
def test_a_radius_from_half_the_separation_on(refused, name, more):
    words = ("λ/2 = 2", "midpoint (2, 0)", "0 (label a) and 1 (label b)", "both balls")
    refused(name, "0,0,a\n4,0,b\n0,9,a\n", *words, more=more)


@pytest.mark.parametrize("name", ALL)
def test_repeated_rows_are_built(ask, tmp_path, name):
    answer = json.loads(ask(name, "0,0,a\n4,0,b\n0,0,a\n4,0,b\n4,0,b\n", "--json").out)
    assert answer["points"] == 5
    assert all(claim["holds"] for claim in answer["claims"])
    model = load_model(tmp_path / "n.onnx")
    first, second = (model.run(np.array(x, dtype=np.float32)) for x in ([0, 0], [4, 0]))
    assert first.tolist() != second.tolist()


def test_repeated_rows_are_measured(ask):
    answer = json.loads(ask("separation", "0,0,a\n4,0,b\n0,0,a\n", "--json").out)
    assert (answer["lambda"], answer["pair"], answer["attained"]) == ("4", [0, 1], 3)


@pytest.mark.parametrize("labels", [("-7", "40"), ("cat", "dog"), ("3", "1000000007")])
@pytest.mark.parametrize("command", COMMANDS)
def test_other_labels_are_mapped_and_reported(ask, command, labels):
    text = "".join(f"{x},{y},{labels[k]}\n" for x, y, k in ((0, 0, 1), (4, 0, 0), (0, 8, 1)))
    result = ask(command, text)
    assert result.status == 0
    for label in labels:
        assert label in result.out
    if command != "separation":
        answer = json.loads(ask(command, text, "--json").out)
        assert sorted(answer["labels"]) == sorted(labels)


@pytest.mark.parametrize("command", COMMANDS)
def test_too_many_dimensions(refused, command):
    """λ alone, or the network, would take too much: the estimate comes before it."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.integers(0, 255, (3, 1), dtype=np.uint8), 3_000_000, axis=1)
    refused(command, (points, np.array([0, 1, 0])), "d.npz", "would need about", "GiB")


@pytest.mark.parametrize("name", ["optimal-robust", "class-sum"])
def test_a_network_that_would_be_too_large(refused, name):
    """The points fit, about 8 weights for each of their coordinates would not."""
    n, d = 900, 16_000
    points = np.zeros((n, d), dtype=np.uint8)
    points[:, 0] = np.arange(n) % 2 * 8
    refused(name, (points, np.arange(n) % 2), "d.npz", "weights", "GiB")


def test_more_points_than_depth_two_takes(refused):
    data = (np.arange(201)[:, None], np.arange(201) % 2)
    refused("depth-two", data, "d.npz", "201 points", "at most 200")
