"""Models and steps that are found again are those that belong together."""

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from relucid.experiments.workshop import Data, Workshop
from torchbridge.convert import to_network
from verifier.core.errors import DataError


def shop_of(out, models):
    return Workshop(
        Data.of("digits", None), out, models, device="cpu", architecture="mlp", epochs=1
    )


def trained(shop):
    return shop.trained("normal")


def same_function(model):
    x = np.linspace(0, 1, 64)
    return np.array_equal(
        model.model.network.float64(x[None]), to_network(model.module, (1, 8, 8)).float64(x[None])
    )


def test_the_file_is_that_of_the_weights_even_where_the_checkpoint_went_away(tmp_path):
    first = trained(shop_of(tmp_path / "a", tmp_path / "a"))
    assert same_function(first)
    other = trained(shop_of(tmp_path / "b", tmp_path / "b"))
    shutil.copy(tmp_path / "a" / first.path.name, tmp_path / "kept.onnx")
    # A file of that name with other weights, and nothing that says how they were trained.
    _perturb(tmp_path / "b" / f"{other.path.stem}.checkpoint")
    other.path.unlink()
    changed = trained(shop_of(tmp_path / "c", tmp_path / "b"))
    shutil.copy(changed.path, first.path)
    first.path.with_suffix(".checkpoint").unlink()
    again = trained(shop_of(tmp_path / "a", tmp_path / "a"))
    assert same_function(again)
    assert again.path.read_bytes() == (tmp_path / "kept.onnx").read_bytes()


def test_results_of_other_weights_are_not_taken_for_these(tmp_path):
    first = trained(shop_of(tmp_path / "out", tmp_path / "models"))
    trained(shop_of(tmp_path / "out", tmp_path / "models"))  # the same ones are welcome
    _perturb(first.path.with_suffix(".checkpoint"))
    first.path.unlink()
    with pytest.raises(DataError, match="other weights of mlp-normal"):
        trained(shop_of(tmp_path / "out", tmp_path / "models"))
    assert same_function(trained(shop_of(tmp_path / "new", tmp_path / "models")))


def _perturb(path):
    """One weight of a checkpoint, as another device might have trained it."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    name = next(key for key in arrays if key.startswith("model."))
    arrays[name] = arrays[name] + np.float32(2.0**-10)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
