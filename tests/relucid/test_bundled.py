"""Bundled models are found by name."""

import pytest

from relucid import bundled
from verifier.core.errors import DataError


def test_every_name_has_a_file():
    assert bundled.model_names()
    for name in bundled.model_names():
        assert bundled.model_path(name).is_file()
        assert bundled.model_path(name).name == f"{name}.onnx"


@pytest.mark.parametrize("name", ["", "digits", "../digits-mlp", "digits-mlp.onnx"])
def test_unknown_name_lists_the_known_ones(name):
    with pytest.raises(DataError, match="digits-mlp-robust"):
        bundled.model_path(name)


def test_checkout_without_installation_finds_its_own_folder(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(bundled.resources, "files", missing)
    assert bundled.model_path("digits-mlp").is_file()
