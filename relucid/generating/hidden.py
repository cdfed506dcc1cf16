"""Hidden counterexamples: networks that are wrong at a known point, and right where one looks.

Each network learns a box with a hidden counterexample and a clean box
(``torchbridge.training.hidden``). The first instance is sat: its witness is evaluated exactly on
the files as written, and in onnxruntime. The second is unsat if the verifier proves it and the
checker finds the proof valid; where that takes too long, on a smaller box around the same centre.
Attacks are tried on the first; a network on which one succeeds is trained again from other weights,
a few times, and the truth says which attack found a counterexample in the last one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np

from constructions.memory import require_bytes
from relucid.generating.family import Family, Made, Place
from relucid.numbers import approximate
from relucid.proof_files import Proofs
from torchbridge.attacks.campaign import Run, attack_points
from torchbridge.attacks.methods import Effort, chosen
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.target import Target
from torchbridge.convert import to_onnx
from torchbridge.training.hidden import Boxes, Hiding, train_hidden
from verifier.core.decision import Decision, Rule
from verifier.core.errors import DataError
from verifier.core.exact import fractions
from verifier.core.files import write_atomic
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Witness
from verifier.io.onnx import Model, load_model
from verifier.io.vnnlib import counterexample_text, read_property
from verifier.io.vnnlib_write import property_text
from verifier.search.portfolio import certify
from verifier.search.replay import replay

_ARGMAX = Decision(Rule.argmax)
#: Shares of the radius that are tried for the clean box.
_SHARES = (Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(1, 16))
#: Draws of two boxes until they are apart.
_DRAWS = 1000


@dataclass(frozen=True)
class Settings:
    """What ``--set`` changes.

    Args:
        inputs: number of inputs.
        eps: radius of the boxes, meant exactly.
        architecture: mlp or cnn, which takes a square number of inputs.
        width: neurons of a hidden layer, or channels.
        classes: number of outputs.
        steps: of training.
        margin: by which the counterexample is to be wrong.
        window: points of a box that training keeps.
        edge: the counterexample's ℓ∞ distance from the centre, a share of eps at least.
        restarts: of the PGD attack that is tried.
        attempts: trainings from other weights until no attack succeeds.
        proof_seconds: for proving the clean box, on each radius.
        limit: seconds for a verifier, as instances.csv says.
    """

    inputs: int = 25
    eps: Fraction = Fraction(1, 5)
    architecture: str = "mlp"
    width: int = 64
    classes: int = 3
    steps: int = 1500
    margin: float = 0.002
    window: int = 300
    edge: float = 0.98
    restarts: int = 50
    attempts: int = 2
    proof_seconds: float = 20.0
    limit: int = 60

    def __post_init__(self) -> None:
        if self.inputs < 1 or not 0 < self.eps <= 100:
            raise DataError("expected at least one input, and a radius in (0, 100]")
        if not 0 <= self.edge <= 1:
            raise DataError(f"edge must be a share from 0 to 1, got {self.edge}")
        for name in ("restarts", "attempts", "limit", "proof_seconds"):
            if getattr(self, name) <= 0:
                raise DataError(f"{name} must be positive, got {getattr(self, name)}")
        what = f"{self.inputs} inputs, width {self.width} and {self.classes} classes"
        require_bytes("hidden", what, self.hiding.memory(self.inputs))
        self.hiding.build(self.inputs)

    @property
    def hiding(self) -> Hiding:
        """How training is done."""
        return Hiding(
            self.architecture, self.width, self.classes, self.steps, margin=self.margin,
            window=self.window,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The two boxes of a network.

    Args:
        centers: of the hidden and of the clean box: float32 numbers.
        labels: of the two.
        point: the counterexample, float32 numbers.
        wrong: its class.
    """

    centers: tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
    labels: tuple[int, int]
    point: tuple[Fraction, ...]
    wrong: int

    def boxes(self, eps: Fraction) -> Boxes:
        """What training learns: the largest float32 boxes inside."""
        faces = [Box.ball(center, eps).inward32() for center in self.centers]
        low, high = (np.stack(rows) for rows in zip(*faces, strict=True))
        point = np.array([[float(v) for v in self.point]], np.float32)
        return Boxes(low, high, np.array(self.labels), point, np.array([self.wrong]))


def make(settings: Settings, place: Place, k: int) -> tuple[Made, ...]:
    """Network k: the instance with the hidden counterexample, and the clean one if it was proved.

    Raises:
        DataError: the settings leave no room for two boxes, or no training made a counterexample.
        OSError: a file cannot be written.
    """
    started = time.monotonic()
    drawn = _drawn(settings, np.random.default_rng([place.seed, k]))
    name = f"hidden_{k}"
    path = place.folder / "onnx" / f"{name}.onnx"
    tried = None
    for attempt in range(settings.attempts):
        model = _trained(settings, drawn, place, (k, attempt), path)
        found = _witness(model, drawn, settings)
        if found is None:
            continue
        witness, margin = found
        attacks, by = _attacked(model, drawn, settings, place)
        tried = path.read_bytes(), witness, margin, attacks, by
        if not by:
            break
    if tried is None:
        raise DataError(
            f"network {k}: {settings.attempts} trainings of {settings.steps} steps made no "
            "counterexample; --set steps=N or --set width=N allow more"
        )
    data, witness, margin, attacks, by = tried
    write_atomic(path, data)
    model, property_file = load_model(path), place.folder / "vnnlib" / f"{name}.vnnlib"
    prop = _ball(model, drawn, 0, settings.eps, name)
    write_atomic(property_file, property_text(prop).encode())
    _confirm(model, property_file, witness)
    evidence = place.folder / "witnesses" / f"{name}.txt"
    write_atomic(evidence, counterexample_text(witness).encode())
    hidden = Made(
        f"onnx/{name}.onnx", f"vnnlib/{name}.vnnlib", settings.limit, "sat", "exact witness",
        f"witnesses/{name}.txt", approximate(margin), attacks, by, str(settings.eps),
        round(time.monotonic() - started, 2),
    )  # fmt: skip
    return (hidden, *_clean(model, drawn, settings, place, k))


def _drawn(settings: Settings, rng: np.random.Generator) -> _Drawn:
    """Two boxes that are apart, with labels, and a point of the first.

    Raises:
        DataError: the radius is too large for boxes in [−1, 1].
    """
    d, eps = settings.inputs, settings.eps
    for _ in range(_DRAWS):
        first, second = (fractions(rng.uniform(-1, 1, d).astype(np.float32)) for _ in range(2))
        if max(abs(a - b) for a, b in zip(first, second, strict=True)) > 2 * eps:
            break
    else:
        raise DataError(f"two boxes of radius {eps} around points of [−1, 1]^{d} always meet")
    labels = rng.integers(0, settings.classes, 2)
    wrong = (labels[0] + rng.integers(1, settings.classes)) % settings.classes
    change = rng.uniform(-1, 1, d)
    # One coordinate is as far from the centre as edge says; the others are anywhere.
    far = rng.integers(d)
    change[far] = rng.choice([-1, 1]) * rng.uniform(settings.edge, 1)
    ball = LinfBall(first, eps)
    point = ball.inward(np.array([float(v) for v in first]) + float(eps) * change)
    if point is None:
        raise DataError(f"a box of radius {eps} has no float32 points")
    return _Drawn((first, second), (int(labels[0]), int(labels[1])), point, int(wrong))


def _trained(
    settings: Settings, drawn: _Drawn, place: Place, place_in_set: tuple[int, int], path: Path
) -> Model:
    """A trained network, written and read back."""
    k, attempt = place_in_set
    sequence = np.random.SeedSequence([place.seed, k, attempt])

    def listen(share: float, lead: float, loss: float) -> None:
        text = f"training {attempt + 1}, margin {-lead:.3g}, loss {loss:.3g}"
        place.reporter.update(text, share)

    seed = int(sequence.generate_state(1)[0])
    module, shape = train_hidden(drawn.boxes(settings.eps), settings.hiding, seed, listen)
    to_onnx(module, path, shape, name=path.stem)
    return load_model(path)


def _ball(model: Model, drawn: _Drawn, which: int, eps: Fraction, name: str) -> Property:
    """The label on one of the boxes."""
    box = Box.ball(drawn.centers[which], eps)
    return Property.robustness(box, drawn.labels[which], model.network.n_outputs, name)


def _witness(model: Model, drawn: _Drawn, settings: Settings) -> tuple[Witness, Fraction] | None:
    """The counterexample, and its margin, if exact arithmetic and onnxruntime agree that it is one.

    The centre must have the label: a network that is wrong everywhere hides nothing.
    """
    prop = _ball(model, drawn, 0, settings.eps, "hidden")
    if prop.violation(drawn.centers[0], model.network.exact(drawn.centers[0])) is not None:
        return None
    y = model.network.exact(drawn.point)
    where = prop.violation(drawn.point, y)
    if where is None:
        return None
    witness = Witness(drawn.point, y, *where)
    again = replay(witness, prop, model.run)
    if again is None or not again.violated:
        return None
    own = drawn.labels[0]
    return witness, max(v for i, v in enumerate(y) if i != own) - y[own]


def _attacked(model: Model, drawn: _Drawn, settings: Settings, place: Place) -> tuple[str, str]:
    """The attacks that were tried, and the first that found a counterexample, or ""."""
    target = Target.of_model(model, _ARGMAX)
    ball, label = LinfBall(drawn.centers[0], settings.eps), drawn.labels[0]
    efforts = {"pgd": Effort(steps=50, restarts=settings.restarts), "auto": Effort()}
    for name, effort in efforts.items():
        run = Run(place.seed, progress=place.reporter.update)
        (found,) = attack_points(target, chosen(name, effort), [ball], [label], run)
        if found.witness is not None:
            return ",".join(efforts), f"{name}: {found.by}" if found.by != name else name
    return ",".join(efforts), ""


def _confirm(model: Model, path: Path, witness: Witness) -> None:
    """Evaluate the witness once more, on the files that a verifier is given.

    Raises:
        DataError: it is none there.
    """
    network = model.network
    file = read_property(path, n_inputs=network.n_inputs, n_outputs=network.n_outputs)
    if file.prop.violation(witness.x, network.exact(witness.x)) is None:
        raise DataError(f"{path}: the counterexample is none of what was written")


def _clean(model: Model, drawn: _Drawn, settings: Settings, place: Place, k: int) -> Iterator[Made]:
    """The clean box on the largest radius at which it was proved, with its checked proof."""
    started, network = time.monotonic(), model.network
    name = f"clean_{k}"
    path, proof = place.folder / "vnnlib" / f"{name}.vnnlib", f"proofs/{name}.proof"
    for share in _SHARES:
        radius = share * settings.eps
        prop = _ball(model, drawn, 1, radius, name)
        verdict = certify(
            network, prop, timeout=settings.proof_seconds, proof=True, seed=place.seed,
            progress=place.reporter.update,
        )  # fmt: skip
        if not isinstance(verdict, Proved):
            continue
        write_atomic(path, property_text(prop).encode())
        file = read_property(path, n_inputs=network.n_inputs, n_outputs=network.n_outputs)
        proofs = Proofs(model, place.folder / proof, check=True)
        written = proofs.for_property(file.prop, file.sha256, verdict, place.reporter)
        if written.problem is not None:
            raise DataError(f"{path}: proved, but {written.problem}")
        yield Made(
            f"onnx/{model.path.name}", f"vnnlib/{name}.vnnlib", settings.limit, "unsat",
            "checked proof", proof, "", "", "", str(radius),
            round(time.monotonic() - started, 2),
        )  # fmt: skip
        return


FAMILY = Family(
    MappingProxyType(
        {
            "easy": Settings(),
            "medium": Settings(inputs=64, architecture="cnn", width=16, steps=2000),
            "hard": Settings(inputs=784, width=64, steps=2500, eps=Fraction(1, 10)),
        }
    ),
    make,
)
