"""Where an experiment works: trained models and finished steps are kept, and found again.

A model is trained once for all experiments that want it. Both a run that was interrupted and one
that is repeated go on with what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constructions.dataset import DataSet
from relucid.progress import Reporter
from relucid.steps import keep, recall
from relucid.training import points_of, sets_of, state_text
from torchbridge.convert import to_onnx
from torchbridge.hardware import device_of
from torchbridge.training.architectures import Module
from torchbridge.training.checkpoint import EpochRow
from torchbridge.training.loop import Report, Training
from torchbridge.training.points import Points
from torchbridge.training.recipe import Recipe, recipe
from verifier.core.errors import DataError
from verifier.io.onnx import Model, load_model


@dataclass(frozen=True, eq=False)
class Data:
    """What is learnt and what is measured on.

    Args:
        name: as the user gave it.
        learnt, held_out: exact data sets.
        learnt_points, held_out_points: the same for Torch.
    """

    name: str
    learnt: DataSet
    held_out: DataSet
    learnt_points: Points
    held_out_points: Points

    @property
    def title(self) -> str:
        """What is measured on, without its folder: for titles."""
        return Path(self.held_out.name).name

    @classmethod
    def of(cls, name: str, held_out: str | None) -> Data:
        """The training part of a set, and its test part or another set.

        Raises:
            DataError: a set cannot be read, or their classes do not go together.
        """
        learnt, measured = sets_of(name, held_out)
        return cls(name, learnt, measured, points_of(learnt), points_of(measured))


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model.

    Args:
        recipe: how.
        module: Torch's, on the processor, in evaluation mode.
        path: its ONNX file.
        history: its epochs.
    """

    recipe: Recipe
    module: Module
    path: Path
    history: tuple[EpochRow, ...]

    @property
    def model(self) -> Model:
        """The file as the verifier reads it."""
        return load_model(self.path)

    @property
    def seconds(self) -> float:
        """Time that training took."""
        return sum(row.seconds for row in self.history)


@dataclass(frozen=True, eq=False)
class Workshop:
    """A folder to work in.

    Args:
        data: what is learnt and measured on.
        out: the folder of results; ``steps`` in it keeps finished steps.
        models: the folder of trained models.
        device: as ``torchbridge.hardware.device_of`` takes it.
        architecture: instead of the experiment's own.
        epochs: passes over the data, instead of a recipe's own number.
        seed: of everything random.
        limit: most held-out points to attack or to decide; None leaves it to the experiment.
        timeout: seconds for each exact decision.
        reporter: shows progress.
    """

    data: Data
    out: Path
    models: Path
    device: str = "auto"
    architecture: str | None = None
    epochs: int | None = None
    seed: int = 0
    limit: int | None = None
    timeout: float = 20.0
    reporter: Reporter = field(default_factory=lambda: Reporter(1))

    def trained(self, name: str, **changes: Any) -> Trained:
        """A model of a recipe, trained on the data if that was not done before.

        Args:
            name: of the recipe.
            changes: of it, as ``torchbridge.training.recipe.recipe`` takes them; the user's
                architecture and number of epochs win.

        Raises:
            DataError: the recipe or the data are at fault, or the folder of results holds those of
                other weights of the same name.
            OSError: a folder cannot be written to.
        """
        wanted = {"architecture": self.architecture, "epochs": self.epochs, "seed": self.seed}
        given = {key: value for key, value in wanted.items() if value is not None}
        made = recipe(name, **(changes | given))
        points = self.data.learnt_points
        digest = _digest(made.described(), points.described())
        stem = f"{made.architecture}-{made.name}-{digest}"
        self.models.mkdir(parents=True, exist_ok=True)
        run = Training(
            made, points, self.data.held_out_points, device=device_of(self.device),
            path=self.models / f"{stem}.checkpoint",
        )  # fmt: skip
        path = self.models / f"{stem}.onnx"
        if not (run.resume() and run.state.step == run.steps):
            path.unlink(missing_ok=True)  # of another run, whose checkpoint is gone
        self.reporter.begin(f"training {made.name} {made.architecture}")

        def listen(report: Report) -> None:
            self.reporter.update(state_text(report, made), report.share)

        module = run.run(listen).to("cpu")
        if not path.exists():
            to_onnx(module, path, points.shape, name=stem)
        self._require_known(stem, module)
        return Trained(made, module, path, tuple(run.state.history))

    def _require_known(self, stem: str, module: Module) -> None:
        """Steps are remembered by a model's name; so that name has one set of weights here.

        Another device or another version of Torch can train other weights.

        Raises:
            DataError: steps in the folder of results may be of other weights of the same name.
        """
        digest = hashlib.sha256()
        for tensor in module.state_dict().values():
            digest.update(tensor.contiguous().numpy().tobytes())
        path, now = self.out / "steps" / f"model-{stem}.json", {"weights": digest.hexdigest()}
        before = recall(path, dict)
        if before is None:
            keep(path, now)
        elif before != now:
            raise DataError(
                f"{self.out}: its results were made with other weights of {stem} than those in "
                f"{self.models}; choose another --out, or the models that they were made with"
            )

    def remembered(
        self, name: str, settings: object, compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """A step's result: read back if the step was finished before with the same settings.

        Args:
            name: of the step, for its file.
            settings: all that the result depends on: anything that JSON or ``str`` writes.
            compute: gives an object of JSON.

        Raises:
            DataError: the file is damaged.
            OSError: the folder cannot be written to.
        """
        held = self.data.held_out_points.described()
        key = json.dumps([settings, held, self.seed], sort_keys=True, default=str)
        path = self.out / "steps" / f"{name}-{_digest(key)}.json"
        found = recall(path, dict)
        if found is not None:
            return found
        self.reporter.begin(name)
        result = compute()
        keep(path, result)
        return result


def _digest(*texts: str) -> str:
    """A short name for texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:10]
