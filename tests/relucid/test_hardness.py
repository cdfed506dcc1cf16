"""``relucid hardness`` from the outside: answers, files that other commands read, refusals."""

import json
from fractions import Fraction

import numpy as np
import pytest
from command_line import assert_refused, relucid, write_model

from constructions.dataset import load_dataset
from constructions.exact_layer import exact_layer
from constructions.graphs import load_graph
from constructions.hardness import ColouringProblem
from verifier.core.network import Network
from verifier.io.onnx import load_model

SQUARE = "p edge 4 4\ne 1 2\ne 2 3\ne 3 4\ne 4 1\n"


@pytest.mark.parametrize("decide", [(), ("--decide",)])
def test_petersen_is_coloured_with_either_method(capsys, decide):
    result = relucid(capsys, "hardness", "petersen", *decide)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:4] == [
        "petersen: 10 vertices, 15 edges of 2 vertices",
        "question   weak colouring with 3 colours",
        "instance   25 balls of radius 1 in 10 dimensions, for networks of width 2",
        "answer     yes",
    ]
    (colours,) = (line.split()[1:] for line in lines if line.startswith("colouring"))
    assert load_graph("petersen").monochromatic(colours) is None
    assert set(colours) <= {"1", "2", "3"}


def test_no_is_said_with_its_reason(capsys):
    out = relucid(capsys, "hardness", "moser").out
    assert "answer     no\nby         complete backtracking" in out
    out = relucid(capsys, "hardness", "moser", "--decide").out
    assert "answer     no\nby         a tree of cases with" in out


def test_fano_is_coloured_but_not_split(capsys):
    for options, answer in (
        (("--problem", "colouring"), "yes"),
        (("--problem", "splitting"), "no"),
        (("--problem", "splitting", "--ratio", "0.98", "--decide"), "no"),
    ):
        record = json.loads(relucid(capsys, "hardness", "fano", *options, "--json").out)
        assert record["answer"] == answer
        assert (record["network"] is None) == (answer == "no") == (record["colouring"] is None)
        assert (record["contradictions"] is not None) == ("--decide" in options)


def test_the_network_in_the_json_is_right_on_the_centres(capsys):
    record = json.loads(relucid(capsys, "hardness", "complete-7", "--width", "3", "--json").out)
    assert (record["colours"], record["width"], record["vertices"], record["edges"]) == (
        7,
        3,
        7,
        21,
    )
    assert (record["balls"], record["dimension"], record["radius"]) == (28, 7, "1")
    net = record["network"]
    weights = np.array(net["weights"], dtype=int)
    reduction = ColouringProblem.of(load_graph("complete-7"), 3)
    hidden = np.maximum(reduction.problem.points @ weights.T + np.array(net["biases"], int), 0)
    values = hidden @ np.array(net["out"], int) + int(net["constant"])
    assert (np.sign(values) == reduction.problem.labels).all()
    assert sorted(record["colouring"]) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_certify_proves_the_exported_network_on_the_exported_balls(capsys, tmp_path, suffix):
    graph, data, model = tmp_path / "square.col", tmp_path / f"d.{suffix}", tmp_path / "n.onnx"
    graph.write_text(SQUARE)
    result = relucid(
        capsys, "hardness", graph, "--out-data", data, "--out-network", model, "--json"
    )
    record = json.loads(result.out)
    assert record["written"] == {"data": str(data), "network": str(model)}
    points = load_dataset(str(data))
    expected = ColouringProblem.of(load_graph(str(graph))).problem
    assert [points.sample(i) for i in range(8)] == [expected.point(i) for i in range(8)]
    assert (points.labels * 2 - 1 == expected.labels).all()
    assert load_model(model).network.width == 2
    found = relucid(
        capsys, "certify", model, "--data", data, "--eps", record["radius"], "--no-clip", "--json"
    )
    assert [row["verdict"] for row in json.loads(found.out)] == ["proved"] * 8


def test_a_network_from_elsewhere_gives_its_colouring(capsys, tmp_path):
    model = tmp_path / "n.onnx"
    relucid(capsys, "hardness", "petersen", "--decide", "--out-network", model)
    result = relucid(capsys, "hardness", "petersen", "--network", model)
    assert f"by         {model}, right on every ball, gives the colouring" in result.out
    (colours,) = (
        line.split()[1:] for line in result.out.splitlines() if line.startswith("colouring")
    )
    assert load_graph("petersen").monochromatic(colours) is None
    # Of another graph: wrong at a centre, which is named; of another dimension.
    refused = relucid(capsys, "hardness", "random-10-40-1", "--network", model)
    assert_refused(refused, "wrong at point", "F = ")
    assert_refused(relucid(capsys, "hardness", "moser", "--network", model), "expected 7 inputs")


def test_a_network_may_be_right_on_the_centres_only(capsys, tmp_path):
    # One output; a square in two colours, alternating, needs no more than one unit and a bit of C.
    reduction = ColouringProblem.of(load_graph("cycle-4"))
    k = reduction.scale
    layers = (
        exact_layer([[1, 0, 1, 0], [0, 1, 0, 1]], [0, 0], relu=True),
        exact_layer([[-1, -1]], [k - Fraction(1, 4)], relu=False),
    )
    wrong = write_model(tmp_path / "wrong.onnx", Network(layers))
    assert_refused(relucid(capsys, "hardness", "cycle-4", "--network", wrong), "wrong at point 4")
    layers = (
        exact_layer([[2, -1, 2, -1], [-1, 2, -1, 2]], [0, 0], relu=True),
        exact_layer([[-1, -1]], [2 * k - Fraction(1, 4)], relu=False),
    )
    thin = write_model(tmp_path / "thin.onnx", Network(layers))
    out = relucid(capsys, "hardness", "cycle-4", "--network", thin).out
    assert "right on the centres, not shown on all balls" in out
    record = json.loads(relucid(capsys, "hardness", "cycle-4", "--network", thin, "--json").out)
    assert Fraction(record["margin"]) < 0
    assert record["colouring"] == [1, 2, 1, 2]


def test_a_network_that_does_not_exist_is_not_written(capsys, tmp_path):
    model = tmp_path / "n.onnx"
    result = relucid(capsys, "hardness", "complete-4", "--out-network", model)
    assert result.status == 0
    assert "answer     no" in result.out
    assert result.err == f"relucid: {model} is not written: there is no network\n"
    assert not model.exists()


@pytest.mark.parametrize("graph", [("tutte", "--decide"), ("random-900-2100-1",)])
def test_too_little_time_is_undecided(capsys, graph):
    result = relucid(capsys, "hardness", *graph, "--timeout", "0.01", "--json")
    record = json.loads(result.out)
    assert (record["answer"], record["reason"]) == ("undecided", "the time limit was reached")
    assert record["network"] is record["colouring"] is record["contradictions"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), ("no graph 'nobody'", "petersen")),
        (("petersen", "--problem", "splitting"), ("edges of 3 vertices",)),
        (("petersen", "--ratio", "0.5"), ("--ratio goes with splitting",)),
        (("fano", "--problem", "splitting", "--ratio", "1"), ("below 1",)),
        (("fano", "--problem", "splitting", "--ratio", "half"), ("--ratio", "'half'")),
        (("fano", "--problem", "splitting", "--width", "2"), ("--width goes with colouring",)),
        (("fano", "--width", "3", "--decide"), ("--decide handles width 2",)),
        (("fano", "--network", "n.onnx", "--decide"), ("exclude each other",)),
        (("fano", "--network", "/nowhere/n.onnx"), ("/nowhere/n.onnx",)),
        (("fano", "--network", "digits-mlp"), ("digits-mlp",)),
        (("fano", "--width", "9"), ("--width",)),
        (("fano", "--problem", "packing"), ("packing",)),
        (("fano", "--out-data", "d.txt"), (".csv or .npz", "d.txt")),
        (("fano", "--out-data", "/nowhere/d.csv"), ("/nowhere",)),
        (("random-40-400-1", "--decide"), ("440 points", "at most 400")),
        (("random-4-0-1",), ("no edges",)),
        ((), ("GRAPH",)),
    ],
)
def test_bad_arguments_are_refused(capsys, arguments, words):
    assert_refused(relucid(capsys, "hardness", *arguments), *words)


def test_a_damaged_file_is_refused_with_its_line(capsys, tmp_path):
    path = tmp_path / "g.col"
    path.write_text(SQUARE.replace("e 3 4", "e 3 5"))
    assert_refused(relucid(capsys, "hardness", path), f"{path}:4", "vertex 5 is not one of 1..4")
