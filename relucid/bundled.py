"""The models that ship with relucid, found in a checkout and in an installation alike."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.core.errors import DataError

if TYPE_CHECKING:
    from verifier.io.onnx import Model


def _folder() -> Path:
    """The folder of the installed package ``relucid_models``, or the checkout's own.

    Raises:
        DataError: the models are missing from both.
    """
    try:
        return Path(str(resources.files("relucid_models")))
    except ModuleNotFoundError:
        checkout = Path(__file__).resolve().parent.parent / "data" / "relucid_models"
        if not checkout.is_dir():
            raise DataError(
                f"the bundled models are missing: neither the package relucid_models nor "
                f"{checkout} is there; install relucid again"
            ) from None
        return checkout


def model_names() -> list[str]:
    """Names of the bundled models, sorted, e.g. ``digits-mlp``."""
    return sorted(path.stem for path in _folder().glob("*.onnx"))


def model_path(name: str) -> Path:
    """The ONNX file of a bundled model.

    Args:
        name: one of ``model_names()``.

    Raises:
        DataError: no bundled model has that name.
    """
    names = model_names()
    if name not in names:
        raise DataError(f"no bundled model is called {name!r}; there are: {', '.join(names)}")
    return _folder() / f"{name}.onnx"


def open_model(name: str) -> Model:
    """The model in an ONNX file, or the bundled model of that name.

    Raises:
        ModelError: see ``load_model``.
    """
    from verifier.io.onnx import load_model

    if not Path(name).exists() and name in model_names():
        return load_model(model_path(name))
    return load_model(Path(name))
