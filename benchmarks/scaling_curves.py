"""The curves of ``scaling.py``: what is asked at each value of a parameter, with fixed seeds.

Searches are asked about networks that are trained here on scikit-learn's digits (or bundled ones),
and about held-out digits that the network gets right; they run branch and bound alone, so that no
attack's luck is in the times. Constructions go through ``relucid build`` and ``relucid certify``.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from relucid.bundled import open_model
from relucid.cli import run as relucid
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted
from verifier.search.portfolio import certify

#: Held-out digits that each search is about.
POINTS = 20
_TRAINING = 1437
_UNIT = (Fraction(0), Fraction(1))
#: 0.99 of the largest radius that any network can have on all digits, whose λ is 7/16.
_RADIUS = Fraction(99, 100) * Fraction(7, 32)
#: What engines call what they went through.
COUNTS = ("boxes", "nodes", "subproblems")


@dataclass(frozen=True)
class Answer:
    """What came of one measurement.

    Args:
        proved, refuted: questions (a construction with all its balls is one).
        nodes: that searches went through, or nonzeros of a construction.
        late: questions that met their time limit.
    """

    proved: int
    nodes: int
    refuted: int = 0
    late: int = 0


#: What is timed.
Work = Callable[[], Answer]


@dataclass(frozen=True)
class Curve:
    """One panel.

    Args:
        parameter: what varies, and the question.
        values: in ascending order.
        prepare: what to time at a value, and seconds a question may take; not timed itself.
        counted: what ``Answer.nodes`` counts.
    """

    parameter: str
    values: Sequence[float]
    prepare: Callable[[float, float], Work]
    counted: str = "nodes"


def pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    """All digits resampled to side x side pixels in [0, 1], and their labels."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    found = load_digits()
    images = found.images / 16.0
    if side != 8:
        factor = side / 8.0
        images = np.clip(zoom(images, (1.0, factor, factor), order=1), 0.0, 1.0)
    return images.reshape(len(images), -1), found.target


def trained(hidden: Sequence[int], side: int = 8) -> tuple[Network, np.ndarray, np.ndarray]:
    """A network trained with a fixed seed, and held-out points with labels that it gets right."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, labels = pictures(side)
    model = MLPClassifier(tuple(hidden), alpha=0.1, max_iter=40, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after these epochs it is good enough
        model.fit(x[:_TRAINING], labels[:_TRAINING])
    layers: list[Layer] = []
    for weight, bias in zip(model.coefs_, model.intercepts_, strict=True):
        last = len(layers) == len(model.coefs_) - 1
        w, b = (array.astype(np.float32).astype(np.float64) for array in (weight.T, bias))
        layers.append(Layer(np.ascontiguousarray(w), b, np.full(len(b), not last)))
    network = Network(tuple(layers))
    return network, *_right(network, x[_TRAINING:], labels[_TRAINING:])


def _right(network: Network, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first points that the network gets right, in float32."""
    x = x.astype(np.float32).astype(np.float64)
    good = np.flatnonzero(network.float64(x).argmax(axis=1) == labels)[:POINTS]
    return x[good], labels[good]


def questions(
    network: Network, x: np.ndarray, labels: np.ndarray, eps: float, limit: float
) -> Work:
    """Robustness on the balls around the points, one question each."""
    radius = Fraction(eps).limit_denominator(10**6)
    props = [
        Property.robustness(Box.ball(point.tolist(), radius, _UNIT), int(label), network.n_outputs)
        for point, label in zip(x, labels, strict=True)
    ]

    def work() -> Answer:
        found = [certify(network, prop, timeout=limit, engine="bab") for prop in props]
        proved = sum(isinstance(v, Proved) for v in found)
        refuted = sum(isinstance(v, Refuted) for v in found)
        nodes = sum(int(v.statistics.get(name, 0)) for v in found for name in COUNTS)
        return Answer(proved, nodes, refuted, len(found) - proved - refuted)

    return work


def _width(value: float, limit: float) -> Work:
    return questions(*trained((int(value), int(value))), 0.1, limit)


def _depth(value: float, limit: float) -> Work:
    return questions(*trained((32,) * int(value)), 0.06, limit)


def _inputs(value: float, limit: float) -> Work:
    return questions(*trained((32, 32), round(value**0.5)), 0.06, limit)


def _eps(value: float, limit: float) -> Work:
    model, (x, labels) = open_model("digits-mlp"), pictures(8)
    points = _right(model.network, x[_TRAINING:], labels[_TRAINING:])
    return questions(model.network, *points, value, limit)


def _command(*arguments: str) -> str:
    """What a command prints, run in this process.

    Raises:
        RuntimeError: it failed; it has said why on standard error.
    """
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = relucid([str(a) for a in arguments])
    if status:
        raise RuntimeError(f"relucid {' '.join(map(str, arguments))}: status {status}")
    return said.getvalue()


def _build(name: str) -> Callable[[float, float], Work]:
    """Building a network of N digits and reading it back."""

    def prepare(value: float, _: float) -> Work:
        def work() -> Answer:
            with tempfile.TemporaryDirectory() as folder:
                return Answer(1, _written(name, value, Path(folder) / "n.onnx"))

        return work

    return prepare


def _written(name: str, value: float, out: Path) -> int:
    """Nonzeros of the network that ``relucid build`` makes."""
    said = _command(
        "build", name, "digits:all", "--limit", str(int(value)), "--mu", str(_RADIUS), "--no-prove",
        "--json", "--out", str(out),
    )  # fmt: skip
    return int(json.loads(said)["nonzeros"])


def _prove(name: str) -> Callable[[float, float], Work]:
    """Proving all N balls of it, with reading the file."""

    def prepare(value: float, limit: float) -> Work:
        folder = tempfile.TemporaryDirectory()
        out = Path(folder.name) / "n.onnx"
        nonzeros = _written(name, value, out)

        def work() -> Answer:
            said = _command(
                "certify", str(out), "--data", "digits:all", "--limit", str(int(value)), "--eps",
                str(_RADIUS), "--center", "exact", "--no-clip", "--timeout", str(limit), "--json",
            )  # fmt: skip
            words = [point["verdict"] for point in json.loads(said)]
            if set(words) - {"proved", "unknown"}:
                raise RuntimeError(f"{name}: a ball is refuted, against the theorem")
            # One answer about all balls: the time is not divided by their number.
            done = "unknown" not in words
            return Answer(int(done), nonzeros, late=int(not done))

        weakref.finalize(work, folder.cleanup)
        return work

    return prepare


_N = (50, 100, 200, 400, 800, 1600)
CURVES: Mapping[str, Curve] = {
    "width": Curve(
        "neurons in each of 2 hidden layers, ε = 0.1", (16, 32, 64, 128, 256, 512), _width
    ),
    "depth": Curve("hidden layers of 32 neurons, ε = 0.06", (1, 2, 3, 4, 5, 6, 8), _depth),
    "inputs": Curve(
        "inputs (pixels of one picture), ε = 0.06", (25, 64, 144, 256, 576, 1024), _inputs
    ),
    "eps": Curve("radius ε, digits-mlp", (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16), _eps),
    **{
        f"build-{name}": Curve(f"points N, build {name}", values, _build(name), "nonzeros")
        for name, values in (("class-sum", _N), ("compact", _N), ("optimal-robust", _N[:5]))
    },
    **{
        f"prove-{name}": Curve(f"points N, all balls of {name}", values, _prove(name), "nonzeros")
        for name, values in (("class-sum", _N), ("compact", _N), ("optimal-robust", _N[:5]))
    },
}
