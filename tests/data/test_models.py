"""The shipped models are the ones that the manifest describes, and as good as it says."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from constructions.dataset import DIGITS_TRAINING
from relucid.bundled import model_names, model_path

MANIFEST = Path(__file__).resolve().parents[2] / "data" / "MANIFEST.md"
HELD_OUT = slice(DIGITS_TRAINING, 1797)


class Row(NamedTuple):
    """One line of the manifest's table."""

    file: str
    architecture: str
    shape: str
    training: str
    exporter: str
    seed: str
    accuracy: str
    sha256: str

    @property
    def name(self) -> str:
        return self.file.removesuffix(".onnx")


def rows() -> list[Row]:
    lines = [line for line in MANIFEST.read_text().splitlines() if line.startswith("| `")]
    return [Row(*(cell.strip(" `") for cell in line.strip("|").split("|"))) for line in lines]


ROWS = rows()
each_model = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_manifest_lists_exactly_the_shipped_models():
    assert sorted(row.name for row in ROWS) == model_names()
    assert 3 <= len(ROWS) <= 5


def test_both_exporters_and_both_batch_forms_are_there():
    assert {row.exporter.split(",")[0] for row in ROWS} == {"torchscript", "dynamo"}
    assert {row.shape.split(",")[0] for row in ROWS} == {"[batch", "[1"}


def test_manifest_names_the_split_that_the_data_set_reader_uses():
    text = " ".join(MANIFEST.read_text().split())
    assert f"Rows 0 to {HELD_OUT.start - 1} of `load_digits()` train the models" in text
    assert f"rows {HELD_OUT.start} to {HELD_OUT.stop - 1} are held out" in text
    assert len(load_digits().target) == HELD_OUT.stop


@each_model
def test_file_is_the_one_described(row: Row):
    content = model_path(row.name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == row.sha256
    assert len(content) < 200_000


@each_model
def test_file_names_no_machine(row: Row):
    model = onnx.load(model_path(row.name))
    onnx.checker.check_model(model, full_check=True)
    for trace in (b"/home", b"/root", b"/work", b"site-packages", b".py"):
        assert trace not in model.SerializeToString()


@each_model
def test_accuracy_is_the_one_stated(row: Row):
    session = onnxruntime.InferenceSession(model_path(row.name))
    entry = session.get_inputs()[0]
    assert str(entry.shape).replace("'", "") == row.shape
    data = load_digits()
    images = (data.images[HELD_OUT] / 16).astype(np.float32)
    found = [
        session.run(None, {entry.name: image.reshape(1, *entry.shape[1:])})[0].argmax()
        for image in images
    ]
    hits = int((np.array(found) == data.target[HELD_OUT]).sum())
    assert f"{hits}/{len(images)}" == row.accuracy


def test_convolutional_models_have_pools_a_residual_and_batch_normalisation():
    for row in ROWS:
        if "conv" in row.name:
            operators = {node.op_type for node in onnx.load(model_path(row.name)).graph.node}
            assert operators >= {"Conv", "MaxPool", "AveragePool", "Add", "BatchNormalization"}
