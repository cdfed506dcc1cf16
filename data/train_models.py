"""Train the models that ship, export them, and write MANIFEST.md. Run it with ``make models``.

Everything is seeded and runs on one thread, so that a second run on the same kind of processor
writes the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from constructions.dataset import DIGITS_TRAINING

HERE = Path(__file__).resolve().parent
MODELS = HERE / "relucid_models"
TRAINING, HELD_OUT = slice(0, DIGITS_TRAINING), slice(DIGITS_TRAINING, 1797)


class Residual(nn.Module):
    """x ↦ x + block(x)."""

    def __init__(self, *block: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of x's shape."""
        return x + self.block(x)


def mlp() -> nn.Sequential:
    """64-32-32-10."""
    return nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def convolutional() -> nn.Sequential:
    """Convolution, maximum pool, pre-activation residual block, average pool, linear layer.

    The batch normalisations stand where no exporter can fold them into a convolution.
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Residual(
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1),
        ),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


def interval(module: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds on the module's outputs over the boxes [low, high] (training aid, not rigorous)."""
    if isinstance(module, nn.Sequential):
        for part in module:
            low, high = interval(part, low, high)
        return low, high
    if isinstance(module, Residual):
        inner_low, inner_high = interval(module.block, low, high)
        return low + inner_low, high + inner_high
    if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.AvgPool2d | nn.Flatten):
        return module(low), module(high)  # monotone
    middle, radius = (low + high) / 2, (high - low) / 2
    if isinstance(module, nn.Linear):
        middle, radius = module(middle), functional.linear(radius, module.weight.abs())
    elif isinstance(module, nn.Conv2d):
        middle = module(middle)
        radius = functional.conv2d(radius, module.weight.abs(), padding=module.padding)
    elif isinstance(module, nn.BatchNorm2d):
        scale = module.weight / torch.sqrt(module.running_var + module.eps)
        shift = module.bias - module.running_mean * scale
        scale, shift = scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)
        middle, radius = middle * scale + shift, radius * scale.abs()
    else:
        raise TypeError(f"no interval rule for {type(module).__name__}")
    return middle - radius, middle + radius


def worst_logits(model: nn.Sequential, x: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Upper bounds (n, 10) on y_j − y_label over the ℓ∞ balls cut to [0, 1]; 0 at the label."""
    low, high = interval(model[:-1], (x - eps).clamp(0, 1), (x + eps).clamp(0, 1))
    last = model[-1]
    difference = last.weight[None] - last.weight[labels][:, None]  # (n, 10, features)
    bias = last.bias[None] - last.bias[labels][:, None]
    middle, radius = (low + high) / 2, (high - low) / 2
    product = torch.einsum("njf,nf->nj", difference, middle)
    return product + torch.einsum("njf,nf->nj", difference.abs(), radius) + bias


@dataclass(frozen=True)
class Recipe:
    """How one model comes to be.

    Args:
        name: of the file, without ``.onnx``.
        build: makes the untrained module.
        input_shape: of one input.
        exporter: ``torchscript`` or ``dynamo``.
        dynamic_batch: whether the exported batch dimension is symbolic (else it is 1).
        eps: radius of the certified training; 0 trains normally.
        architecture: in words, for the manifest.
        epochs, seed: of the training.
    """

    name: str
    build: Callable[[], nn.Sequential]
    input_shape: tuple[int, ...]
    exporter: str
    dynamic_batch: bool
    eps: float
    architecture: str
    epochs: int
    seed: int

    @property
    def training(self) -> str:
        """The kind of training, for the manifest."""
        return f"interval bounds, eps {self.eps}" if self.eps else "normal"


MLP = "64-32-32-10, ReLU"
CONVOLUTIONAL = (
    "Conv 3×3 (6) – ReLU – MaxPool 2 – residual [BatchNorm – ReLU – Conv 3×3 – ReLU – Conv 3×3] – "
    "BatchNorm – ReLU – AveragePool 2 – Linear 24-10"
)
RECIPES = (
    Recipe("digits-mlp", mlp, (64,), "torchscript", True, 0.0, MLP, 60, 1),
    Recipe("digits-mlp-robust", mlp, (64,), "dynamo", False, 0.12, MLP, 400, 2),
    Recipe(
        "digits-conv", convolutional, (1, 8, 8), "dynamo", True, 0.0, CONVOLUTIONAL, 60, 3
    ),
    Recipe(
        "digits-conv-robust", convolutional, (1, 8, 8), "torchscript", False, 0.06,
        CONVOLUTIONAL, 200, 4,
    ),
)  # fmt: skip


def digits(rows: slice, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Pixels / 16 in float32, one input of the given shape a row, and labels."""
    data = load_digits()
    images = (data.images[rows] / 16.0).astype(np.float32)
    return torch.from_numpy(images.reshape(-1, *shape)), torch.from_numpy(data.target[rows])


def train(recipe: Recipe) -> nn.Sequential:
    """The trained module in evaluation mode.

    A certified recipe raises the radius over the first half of the epochs and mixes the loss at
    the image with the loss at the interval bounds' worst logits, half and half at the end.
    """
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    images, labels = digits(TRAINING, recipe.input_shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    for epoch in range(recipe.epochs):
        ramp = min(1.0, 2 * epoch / recipe.epochs)
        model.train()
        for batch in torch.randperm(len(images)).split(64):
            x, y = images[batch], labels[batch]
            loss = functional.cross_entropy(model(x), y)
            if recipe.eps and ramp > 0:
                worst = worst_logits(model, x, y, ramp * recipe.eps)
                robust = functional.cross_entropy(worst, y)
                loss = (1 - ramp / 2) * loss + ramp / 2 * robust
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def export(recipe: Recipe, model: nn.Sequential) -> Path:
    """Write the ONNX file with the recipe's exporter, without paths or stack traces."""
    example = torch.zeros(2 if recipe.dynamic_batch else 1, *recipe.input_shape)
    path = MODELS / f"{recipe.name}.onnx"
    names = {"input_names": ["input"], "output_names": ["logits"]}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The old exporter is asked for, deprecated or not; the new one warns about itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        draft = Path(folder) / "draft.onnx"
        if recipe.exporter == "dynamo":
            shapes = ({0: torch.export.Dim("batch")},) if recipe.dynamic_batch else None
            torch.onnx.export(
                model, (example,), draft, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=shapes, opset_version=20, **names,
            )  # fmt: skip
        else:
            axes = {"input": {0: "batch"}, "logits": {0: "batch"}} if recipe.dynamic_batch else None
            torch.onnx.export(
                model, (example,), draft, dynamo=False, dynamic_axes=axes, opset_version=13, **names
            )
        graph = onnx.load(draft)
    clean(graph)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def clean(model: onnx.ModelProto) -> None:
    """Remove the traces of the machine that an exporter leaves: metadata and doc strings."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for items in (graph.node, graph.initializer, graph.value_info, graph.input, graph.output):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]


def correct(path: Path, recipe: Recipe) -> int:
    """How many held-out digits onnxruntime classifies correctly, one at a time."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images, labels = digits(HELD_OUT, recipe.input_shape)
    outputs = [session.run(None, {"input": image[None].numpy()})[0] for image in images]
    return int((np.concatenate(outputs).argmax(axis=1) == labels.numpy()).sum())


HEADER = """# The data that ships

Written by `data/train_models.py` (`make models`); do not edit. The script is seeded and runs on one
thread: the same Torch on the same kind of processor writes the same bytes.

## Digits

The optical recognition of handwritten digits data set of the UCI Machine Learning Repository
(E. Alpaydin and C. Kaynak, 1998, doi 10.24432/C50P49; licence CC BY 4.0), 1797 images of 8 × 8
pixels with values 0 to 16, as the package scikit-learn (BSD-3-Clause) bundles them; nothing of it
is copied here. Inputs are pixels / 16, exact in float32. Rows {train} of `load_digits()` train the
models; rows {test} are held out, {count} images, mostly by writers that the models have not seen.

## Models

All were trained for relucid, are in the public domain as far as possible and otherwise under the
licence of this repository (Apache-2.0). Accuracy is on the held-out rows, in onnxruntime.

| file | architecture | input | training | exporter, opset | seed | held-out accuracy | sha256 |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def manifest_row(recipe: Recipe, path: Path, hits: int, total: int) -> str:
    """One line of the table."""
    batch = "batch" if recipe.dynamic_batch else "1"
    shape = ", ".join([batch, *map(str, recipe.input_shape)])
    opset = onnx.load(path).opset_import[0].version
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cells = (
        f"`{path.name}`", recipe.architecture, f"[{shape}]", recipe.training,
        f"{recipe.exporter}, {opset}", str(recipe.seed), f"{hits}/{total}", f"`{digest}`",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Train, export and measure every recipe."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, we do not
    total = HELD_OUT.stop - HELD_OUT.start
    text = HEADER.format(
        train=f"{TRAINING.start} to {TRAINING.stop - 1}",
        test=f"{HELD_OUT.start} to {HELD_OUT.stop - 1}",
        count=total,
    )
    for recipe in RECIPES:
        path = export(recipe, train(recipe))
        hits = correct(path, recipe)
        print(f"{path.name}: {hits}/{total} held-out digits, {path.stat().st_size} bytes")
        text += manifest_row(recipe, path, hits, total)
    (HERE / "MANIFEST.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
