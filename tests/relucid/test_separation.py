"""``relucid separation`` from the outside: answers, files, JSON, and what it refuses."""

import csv
import json

import numpy as np
import pytest
from command_line import assert_refused, relucid

from constructions.dataset import load_dataset


@pytest.fixture
def points(tmp_path):
    """Four points in the plane; the nearest enemies are 0.25, 0.75, 0.25 and 0.75 away."""
    path = tmp_path / "d.csv"
    path.write_text("0,0,cat\n1,0.5,cat\n0.25,0.125,dog\n1.75,0,dog\n")
    return path


def test_everything_about_a_small_set(capsys, points):
    result = relucid(capsys, "separation", points)
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0] == f"{points}: 4 points of 2 numbers, 2 classes"
    assert "λ    1/4 = 0.25" in lines
    assert "λ/2  1/8 = 0.125" in lines
    assert "closest enemies: point 0 (label cat) and point 2 (label dog)" in lines
    assert "  smallest  1/4 = 0.25" in lines
    assert "  75%       3/4 = 0.75" in lines
    assert lines[-1] == "2 points have an enemy at distance λ"


def test_json_has_exact_numbers(capsys, points, tmp_path):
    out = tmp_path / "enemies.csv"
    record = json.loads(relucid(capsys, "separation", points, "--json", "--out", out).out)
    quantiles = record.pop("quantiles")
    assert record == {
        "data": str(points), "against": None, "points": 4, "classes": 2, "lambda": "1/4",
        "pair": [0, 2], "labels": [0, 1], "attained": 2,
    }  # fmt: skip
    assert (quantiles["0.25"], quantiles["0.5"], quantiles["0.75"]) == ("1/4", "1/4", "3/4")
    with out.open() as stream:
        rows = [tuple(row.values()) for row in csv.DictReader(stream)]
    assert rows == [
        ("0", "0", "2", "1", "1/4"),
        ("1", "0", "2", "1", "3/4"),
        ("2", "1", "0", "0", "1/4"),
        ("3", "1", "1", "0", "3/4"),
    ]


def test_quick_gives_the_same_bound_without_the_rest(capsys, points):
    record = json.loads(relucid(capsys, "separation", points, "--quick", "--json").out)
    assert (record["lambda"], record["pair"]) == ("1/4", [0, 2])
    assert record["quantiles"] is record["attained"] is None
    assert "nearest" not in relucid(capsys, "separation", points, "--quick").out


def test_digits_against_the_training_digits_with_pictures(capsys, tmp_path):
    files = [tmp_path / "pair.png", tmp_path / "histogram.png"]
    result = relucid(
        capsys, "separation", "digits:test", "--against", "digits:train",
        "--picture", files[0], "--histogram", files[1],
    )  # fmt: skip
    test, train = load_dataset("digits:test"), load_dataset("digits:train")
    gaps = np.abs(test.points[:, None].astype(int) - train.points[None].astype(int)).max(axis=2)
    gaps[test.labels[:, None] == train.labels] = 99
    text = result.out
    assert f"λ    {gaps.min()}/16" in text or f"λ    1/{16 // gaps.min()} " in text
    i, j = divmod(int(gaps.argmin()), len(train))
    assert f"point {i} (label {test.labels[i]}) and point {j} of digits:train" in text
    assert f"point {i} " in text.split("closest enemies")[1].splitlines()[2]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")


def test_equal_points_with_different_labels_are_named(capsys, tmp_path):
    path = tmp_path / "equal.csv"
    path.write_text("1,2,0\n3,4,1\n1,2,1\n")
    result = relucid(capsys, "separation", path)
    assert result.status == 0
    assert "λ    0" in result.out.splitlines()
    assert "closest enemies: point 0 (label 0) and point 2 (label 1)" in result.out
    assert "no network is right on both" in result.out


def test_one_label_is_refused(capsys, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("1,2,0\n3,4,0\n")
    assert_refused(relucid(capsys, "separation", path), "one.csv", "label 0", "two labels")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "no data set"]),
        (["digits", "--against", "nowhere"], ["nowhere"]),
        (["digits", "--quick", "--against", "digits"], ["--against", "--quick"]),
        (["digits", "--quick", "--out", "a.csv"], ["--out", "--quick"]),
        (["digits", "--quick", "--histogram", "a.png"], ["--histogram", "--quick"]),
        (["digits", "--out", "/nowhere/a.csv"], ["/nowhere"]),
    ],
)
def test_what_is_refused(capsys, arguments, words):
    assert_refused(relucid(capsys, "separation", *arguments), *words)


def test_a_picture_of_what_is_none_and_sets_that_do_not_fit(capsys, points, tmp_path):
    result = relucid(capsys, "separation", points, "--picture", tmp_path / "a.png")
    assert_refused(result, "--picture", "d.csv", "no pictures")
    assert not (tmp_path / "a.png").exists()
    assert_refused(relucid(capsys, "separation", "digits", "--against", points), "classes")
