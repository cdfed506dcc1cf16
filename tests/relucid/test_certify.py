"""``relucid certify`` from the outside: answers, files, JSON, and everything that it refuses."""

import csv
import gzip
import io
import json
from fractions import Fraction

import numpy as np
import onnx
import pytest
from command_line import (
    assert_refused,
    hard_instance,
    identity_network,
    property_text,
    relucid,
    write_model,
)
from onnx import TensorProto, helper

from relucid.bundled import model_path
from tests.stopwatch import within
from verifier.io.onnx import load_model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "m.onnx")


@pytest.fixture
def data(tmp_path):
    """Three points in the plane; the last one lies on the wrong side of x_0 = x_1."""
    path = tmp_path / "d.csv"
    path.write_text("0.5,0.25,0\n0.25,1,1\n0.5,0.75,0\n")
    return path


def write_property(tmp_path, text):
    path = tmp_path / "p.vnnlib"
    path.write_text(text)
    return path


# One property ------------------------------------------------------------------------------------

ENGINES = ["auto", "bab", "milp", "lp", "interval"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_proves_a_safe_property(capsys, tmp_path, model, engine):
    prop = write_property(tmp_path, property_text("0.5"))
    result = relucid(capsys, "certify", model, "--property", prop, "--engine", engine)
    assert result.status == 0
    assert result.out.splitlines()[0] == "proved"


@pytest.mark.parametrize("engine", ["auto", "bab", "milp"])
def test_every_complete_engine_refutes_an_unsafe_property(capsys, tmp_path, model, engine):
    prop = write_property(tmp_path, property_text("0.6"))
    result = relucid(capsys, "certify", model, "--property", prop, "--engine", engine)
    assert result.status == 0
    assert result.out.splitlines()[0] == "refuted"
    assert "X_0 = " in result.out


def test_an_incomplete_engine_says_why_it_does_not_know(capsys, tmp_path, model):
    prop = write_property(tmp_path, property_text("0.7"))
    result = relucid(capsys, "certify", model, "--property", prop, "--engine", "interval")
    assert result.status == 0
    assert result.out.splitlines()[0] == "unknown"
    assert "reason: " in result.out


def check_witness(record, network, prop_top):
    """The JSON's witness, tested from scratch."""
    x = [Fraction(v) for v in record["witness"]["x"]]
    assert Fraction("0.6") <= x[0] <= 1
    assert 0 <= x[1] <= Fraction(prop_top)
    y = network.exact(x)
    assert y[1] >= y[0]
    assert record["witness"]["y"] == [float(v) for v in y]
    assert record["witness"]["margin"] == float(y[1] - y[0])


def test_json_of_one_property(capsys, tmp_path, model):
    prop = write_property(tmp_path, property_text("0.7"))
    result = relucid(capsys, "certify", model, "--property", prop, "--json")
    record = json.loads(result.out)
    assert record["verdict"] == "refuted"
    assert record["model"] == str(model)
    assert record["model_sha256"] == load_model(model).sha256
    assert record["property"] == str(prop)
    assert record["semantics"] == "real"
    assert record["reason"] is None
    assert record["proof"] is None
    assert 0 <= record["seconds"] < 60
    check_witness(record, identity_network(), "0.7")
    replay = record["witness"]["replay"]
    assert replay["violated"] is True
    assert all(np.float32(v) == v for v in replay["x"])
    assert Fraction("0.6") <= Fraction(replay["x"][0])
    assert Fraction(replay["x"][1]) <= Fraction("0.7")


def test_json_of_a_proof_and_of_ignorance(capsys, tmp_path, model):
    prop = write_property(tmp_path, property_text("0.5"))
    record = json.loads(relucid(capsys, "certify", model, "--property", prop, "--json").out)
    assert (record["verdict"], record["witness"], record["reason"]) == ("proved", None, None)
    prop = write_property(tmp_path, property_text("0.7"))
    result = relucid(capsys, "certify", model, "--property", prop, "--json", "--engine", "interval")
    record = json.loads(result.out)
    assert (record["verdict"], record["witness"]) == ("unknown", None)
    assert record["reason"]


def test_a_box_without_float32_points_is_refuted_without_a_replay(capsys, tmp_path, model):
    text = property_text("0.7").replace("(<= 0.6 X_0 1.0)", "(= X_0 0.6)")
    result = relucid(
        capsys, "certify", model, "--property", write_property(tmp_path, text), "--json"
    )
    record = json.loads(result.out)
    assert record["verdict"] == "refuted"
    assert record["witness"]["x"][0] == "3/5"
    assert record["witness"]["replay"] is None
    assert "no float32 point lies in the box" in record["witness"]["replay_note"]


def test_counterexample_file(capsys, tmp_path, model):
    out = tmp_path / "ce.txt"
    prop = write_property(tmp_path, property_text("0.7"))
    relucid(capsys, "certify", model, "--property", prop, "--counterexample", out)
    text = out.read_text()
    assert text.startswith("((X_0 ")
    values = dict(line.strip("()").split() for line in text.split("\n") if line)
    assert Fraction(values["X_1"]) >= Fraction(values["X_0"]) >= Fraction("0.6")
    out.unlink()
    prop = write_property(tmp_path, property_text("0.5"))
    relucid(capsys, "certify", model, "--property", prop, "--counterexample", out)
    assert not out.exists()


def test_version_2_and_gzip(capsys, tmp_path, model):
    text = (
        "(vnnlib-version <2.0>)\n(declare-network N\n (declare-input In float32 [1,2])\n"
        " (declare-output Out float32 [1,2]))\n(assert (and (>= In[0,0] 0.6) (<= In[0,0] 1.0)))\n"
        "(assert (and (>= In[0,1] 0.0) (<= In[0,1] 0.75)))\n(assert (>= Out[0,1] Out[0,0]))\n"
    )
    path, out = tmp_path / "p.vnnlib.gz", tmp_path / "ce.txt"
    path.write_bytes(gzip.compress(text.encode()))
    result = relucid(capsys, "certify", model, "--property", path, "--counterexample", out)
    assert result.out.splitlines()[0] == "refuted"
    lines = out.read_text().splitlines()
    assert lines[0] == "In float32 [1,2]"
    assert lines[3] == "Out float32 [1,2]"


def test_results_files(capsys, tmp_path, model):
    prop = write_property(tmp_path, property_text("0.7"))
    printed = relucid(
        capsys, "certify", model, "--property", prop, "--json", "--out", tmp_path / "r.json"
    )
    assert (tmp_path / "r.json").read_text() == printed.out
    relucid(capsys, "certify", model, "--property", prop, "--out", tmp_path / "r.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text()))
    assert row["verdict"] == "refuted"
    assert row["property"] == str(prop)


def test_the_time_limit_is_kept(capsys, tmp_path):
    path, prop = hard_instance(tmp_path)
    relucid(capsys, "certify", path, "--property", prop, "--timeout", "1")  # compiles the kernels
    for engine in ("auto", "bab", "milp"):
        with within(3.5):
            result = relucid(
                capsys, "certify", path, "--property", prop, "--timeout", "1", "--engine", engine
            )
        assert result.status == 0
        assert result.out.splitlines()[0] == "unknown", engine
        assert "time" in result.out


# A data set --------------------------------------------------------------------------------------


def test_table_of_a_data_set(capsys, model, data):
    result = relucid(capsys, "certify", model, "--data", data, "--eps", "0.125")
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0].endswith("ℓ∞ balls of radius 1/8 around float32 values")
    rows = [line.split()[:3] for line in lines[3:6]]
    # At radius 1/8 the first point may just reach the tie 0.375 = 0.375: that is unsafe.
    assert rows == [["0", "0", "refuted"], ["1", "1", "proved"], ["2", "0", "refuted"]]
    assert "clean accuracy        2/3 = 66.7%" in lines
    assert "certified accuracy    1/3 = 33.3%" in lines
    assert "adversarial accuracy  [33.3%, 33.3%]" in lines
    assert "the sample itself is classified 1" in lines[5]


def test_eps_is_exact(capsys, model, data):
    verdicts = []
    for eps in ("0.1249999999999999999999", "1/8", "0.125"):
        result = relucid(
            capsys, "certify", model, "--data", data, "--eps", eps, "--index", 0, "--json"
        )
        (record,) = json.loads(result.out)
        verdicts.append(record["verdict"])
        assert Fraction(record["eps"]) == Fraction(eps)
    assert verdicts == ["proved", "refuted", "refuted"]


def test_json_of_a_data_set(capsys, model, data):
    result = relucid(capsys, "certify", model, "--data", data, "--eps", "0.1", "--json")
    records = json.loads(result.out)
    assert [r["index"] for r in records] == [0, 1, 2]
    assert [r["label"] for r in records] == [0, 1, 0]
    assert [r["predicted"] for r in records] == [0, 1, 1]
    assert [r["verdict"] for r in records] == ["proved", "proved", "refuted"]
    assert records[2]["witness"]["x"] == ["1/2", "3/4"]
    assert records[2]["witness"]["replay"]["violated"] is True
    for r in records:
        assert {"model", "reason", "semantics", "seconds", "witness", "proof"} <= set(r)


def test_unknown_widens_the_interval_and_never_counts_as_proved(capsys, model, data):
    result = relucid(
        capsys, "certify", model, "--data", data, "--eps", "0.2", "--engine", "interval"
    )
    assert "certified accuracy    1/3 = 33.3%" in result.out
    assert "adversarial accuracy  [33.3%, 66.7%]" in result.out


def test_range_of_points(capsys, model, data):
    def indices(*more):
        result = relucid(capsys, "certify", model, "--data", data, "--eps", "0", "--json", *more)
        return [r["index"] for r in json.loads(result.out)]

    assert indices("--limit", 2) == [0, 1]
    assert indices("--start", 1) == [1, 2]
    assert indices("--start", 1, "--limit", 1) == [1]
    assert indices("--index", 2) == [2]


def test_clip_is_part_of_the_question(capsys, tmp_path, model):
    path = tmp_path / "edge.csv"
    path.write_text("0.25,0.1875,0\n")
    arguments = ["certify", model, "--data", path, "--eps", "0.125", "--json"]

    def witness(*more):
        (record,) = json.loads(relucid(capsys, *arguments, *more).out)
        return [Fraction(v) for v in record["witness"]["x"]], record["clip"]

    assert witness()[1] is None
    x, clip = witness("--clip", "3/16", "0.25")
    assert clip == ["3/16", "1/4"]
    assert all(Fraction(3, 16) <= v <= Fraction(1, 4) for v in x)
    assert_refused(relucid(capsys, *arguments, "--clip", "0.2", "1"), "point 0", "--clip LOW HIGH")


def test_pictures_in_the_unit_range_are_clipped_by_default(capsys):
    arguments = ["certify", "digits-mlp", "--data", "digits", "--eps", "0.01", "--limit", 1]
    assert "cut to [0, 1]" in relucid(capsys, *arguments).out
    assert "cut to" not in relucid(capsys, *arguments, "--no-clip").out


def test_center_is_what_a_deployed_model_sees_or_the_exact_value(capsys, tmp_path):
    model = write_model(tmp_path / "m.onnx")
    path = tmp_path / "d.csv"
    path.write_text("0.1,0.3,0\n")  # misclassified, so that the witness is the center

    def center(*more):
        result = relucid(capsys, "certify", model, "--data", path, "--eps", "0", "--json", *more)
        (record,) = json.loads(result.out)
        return [Fraction(v) for v in record["witness"]["x"]]

    assert center() == [Fraction(float(np.float32(v))) for v in (0.1, 0.3)]
    assert center("--center", "exact") == [Fraction(1, 10), Fraction(3, 10)]


def test_witnesses_of_a_data_set_go_to_a_folder(capsys, tmp_path, model, data):
    folder = tmp_path / "ce"
    relucid(capsys, "certify", model, "--data", data, "--eps", "0.2", "--counterexample", folder)
    assert sorted(p.name for p in folder.iterdir()) == ["0.txt", "2.txt"]
    assert (folder / "2.txt").read_text().startswith("((X_0 0.5)")


def test_a_picture_of_a_refuted_digit(capsys, tmp_path):
    path = tmp_path / "w.png"
    result = relucid(
        capsys, "certify", "digits-mlp", "--data", "digits", "--eps", "0.15", "--limit", 2,
        "--picture", path,
    )  # fmt: skip
    assert "refuted" in result.out
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert "original" in result.out
    assert "change" in result.out


# Bad models --------------------------------------------------------------------------------------


def raw_model(operator="Relu", weight=None, **attributes):
    """A one-node model, or a MatMul with the given weight."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    constants = []
    if weight is None:
        node = helper.make_node(operator, ["x"], ["y"], name="the_node", **attributes)
    else:
        constants = [weight]
        node = helper.make_node("MatMul", ["x", weight.name], ["y"], name="the_node")
    graph = helper.make_graph([node], "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weight_tensor(values):
    return helper.make_tensor("w", TensorProto.FLOAT, [2, 2], values)


def external_model():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return raw_model(weight=tensor)


BAD_MODELS = {
    "missing": (None, ["m.onnx"]),
    "empty": (b"", ["m.onnx"]),
    "random": (bytes(range(256)) * 4, ["m.onnx"]),
    "truncated": (model_path("digits-mlp").read_bytes()[:3000], ["m.onnx"]),
    "NaN": (raw_model(weight=weight_tensor([1.0, np.nan, 0.0, 1.0])), ["m.onnx"]),
    "infinite": (raw_model(weight=weight_tensor([1.0, np.inf, 0.0, 1.0])), ["m.onnx"]),
    "operator": (raw_model("Sin"), ["the_node", "Sin"]),
    "shapes": (
        raw_model(weight=helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [1.0] * 6)),
        ["m.onnx"],
    ),
    "external": (external_model(), ["m.onnx"]),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_are_refused(capsys, tmp_path, name):
    content, words = BAD_MODELS[name]
    path, out = tmp_path / "m.onnx", tmp_path / "out.json"
    if isinstance(content, onnx.ModelProto):
        content = content.SerializeToString()
    if content is not None:
        path.write_bytes(content)
    prop = write_property(tmp_path, property_text())
    result = relucid(capsys, "certify", path, "--property", prop, "--out", out)
    assert_refused(result, *words)
    assert not out.exists()


def test_a_folder_is_no_model(capsys, tmp_path):
    prop = write_property(tmp_path, property_text())
    assert_refused(relucid(capsys, "certify", tmp_path, "--property", prop), str(tmp_path))


# Bad properties ----------------------------------------------------------------------------------

GOOD = property_text()
BAD_PROPERTIES = {
    "missing": (None, ["cannot be read", "No such file"]),
    "empty": (b"", ["the file is empty"]),
    "binary": (b"\x89PNG\r\n\x1a\n\xff", ["not a text file"]),
    "truncated": (GOOD[:-5].encode(), [":7:", "never closed"]),
    "damaged gzip": (gzip.compress(GOOD.encode())[:-4], ["damaged or truncated gzip"]),
    "other network": (property_text(n=3).encode(), ["X_2 is declared", "2 inputs"]),
    "empty box": (GOOD.replace("0.6", "1.6").encode(), ["the property is empty"]),
    "no bounds": (GOOD.replace("(assert (<= 0.0 X_1 0.5))", "").encode(), ["X_1", "bound"]),
    "infinity": (GOOD.replace("0.5", "inf").encode(), ["inf is not a finite number"]),
    "product": (GOOD.replace("Y_1 Y_0", "(* Y_1 Y_0) 0").encode(), ["not linear"]),
    "explosion": (
        (GOOD + "".join(f"(assert (or (>= Y_0 {k}) (>= Y_1 {k})))" for k in range(30))).encode(),
        ["clauses", "the limits are"],
    ),
}


@pytest.mark.parametrize("name", BAD_PROPERTIES)
def test_bad_properties_are_refused(capsys, tmp_path, model, name):
    content, words = BAD_PROPERTIES[name]
    path, out = tmp_path / "p.vnnlib", tmp_path / "out.json"
    if content is not None:
        path.write_bytes(content)
    result = relucid(capsys, "certify", model, "--property", path, "--out", out)
    assert_refused(result, str(path), *words)
    assert not out.exists()


# Bad data ----------------------------------------------------------------------------------------

BAD_DATA = {
    "missing": (None, ["d.csv", "cannot be read"]),
    "empty": ("", ["d.csv", "the file is empty"]),
    "NaN": ("0.5,nan,0\n", ["d.csv:1: column 2", "nan is not a finite number"]),
    "words": ("0.5,x,0\n0.1,y,1\n", ["d.csv:1:", "header"]),
    "dimension": ("0.5,0.1,0.1,0\n", ["3 coordinates", "2 inputs"]),
    "label": ("0.5,0.1,0\n0.1,0.5,2\n", ["label 2 of point 1", "2 outputs"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_are_refused(capsys, tmp_path, model, name):
    content, words = BAD_DATA[name]
    path, out = tmp_path / "d.csv", tmp_path / "out.json"
    if content is not None:
        path.write_text(content)
    result = relucid(capsys, "certify", model, "--data", path, "--eps", "0.1", "--out", out)
    assert_refused(result, *words)
    assert not out.exists()


def test_a_truncated_idx_folder_is_refused(capsys, tmp_path, model):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0\0\x01")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x01\0")
    result = relucid(capsys, "certify", model, "--data", tmp_path, "--eps", "0.1")
    assert_refused(result, "t10k-images-idx3-ubyte", "byte 8", "truncated")


# Bad questions and places ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["either --property FILE or --data SET"]),
        (["--data", "digits", "--property", "p"], ["either --property FILE or --data SET"]),
        (["--data", "digits"], ["--data needs --eps"]),
        (["--data", "digits", "--eps", "-0.1"], ["--eps must be at least 0"]),
        (["--data", "digits", "--eps", "nan"], ["--eps", "decimal such as 0.03", "'nan'"]),
        (["--data", "digits", "--eps", "1/0"], ["--eps", "'1/0'"]),
        (["--data", "digits", "--eps", "9" * 200], ["--eps"]),
        (["--data", "digits", "--eps", "0.1", "--clip", "1", "0"], ["LOW <= HIGH"]),
        (["--data", "digits", "--eps", "0.1", "--clip", "0", "1", "--no-clip"], ["exclude"]),
        (["--data", "digits", "--eps", "0.1", "--index", "3", "--limit", "2"], ["--index"]),
        (["--data", "digits", "--eps", "0.1", "--index", "999"], ["no point 999"]),
        (["--data", "digits", "--eps", "0.1", "--start", "360"], ["no point 360"]),
        (["--data", "nowhere", "--eps", "0.1"], ["no data set 'nowhere'"]),
        (["--data", "digits", "--eps", "0.1", "--timeout", "0"], ["--timeout must be"]),
        (["--data", "digits", "--eps", "0.1", "--timeout", "nan"], ["--timeout must be"]),
        (["--property", "p", "--eps", "0.1"], ["--eps goes with --data"]),
        (["--property", "p", "--index", "1"], ["--index goes with --data"]),
        (["--property", "p", "--start", "1"], ["--start goes with --data"]),
        (["--property", "p", "--no-clip"], ["--no-clip goes with --data"]),
        (["--property", "p", "--center", "exact"], ["--center goes with --data"]),
    ],
)
def test_bad_questions_are_refused(capsys, arguments, words):
    assert_refused(relucid(capsys, "certify", "digits-mlp", *arguments), *words)


def test_places_that_cannot_be_written_are_refused_before_the_work(
    capsys, tmp_path, model, monkeypatch
):
    def fail(*_, **__):
        raise AssertionError("the search must not start")

    monkeypatch.setattr("relucid.runs.certify", fail)
    prop = write_property(tmp_path, property_text())
    start = ("certify", model, "--property", prop)
    nowhere = tmp_path / "none" / "r.json"
    assert_refused(relucid(capsys, *start, "--out", nowhere), "none does not exist")
    assert_refused(relucid(capsys, *start, "--out", tmp_path / "r.xml"), ".json or .csv")
    assert_refused(relucid(capsys, *start, "--counterexample", tmp_path), "is a folder")
    (tmp_path / "x.json").mkdir()
    assert_refused(relucid(capsys, *start, "--out", tmp_path / "x.json"), "is a folder")
    data = ("certify", "digits-mlp", "--data", "digits", "--eps", "0.1")
    assert_refused(relucid(capsys, *data, "--picture", tmp_path / "x.jpg"), ".png")


def test_a_disk_that_fills_up_leaves_nothing_under_the_name(capsys, tmp_path, model, monkeypatch):
    prop, out = write_property(tmp_path, property_text()), tmp_path / "r.json"
    out.write_text("the results of yesterday")
    before = sorted(tmp_path.iterdir())

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = relucid(capsys, "certify", model, "--property", prop, "--out", out)
    assert_refused(result, "No space left on device")
    assert out.read_text() == "the results of yesterday"
    assert sorted(tmp_path.iterdir()) == before
