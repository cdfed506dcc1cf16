"""Random graphs mean exactly what their nodes say: compared with Fractions, node by node."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_graphs import Writer

from verifier.io.onnx import load_model

Exact = np.ndarray  # of Fractions


def exact(array: Any) -> Exact:
    """Each float as the Fraction that it is."""
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(np.asarray(array))


class RandomGraph:
    """Random nodes on rows (1, k), each with its exact value at a few points as an oracle."""

    def __init__(self, seed: int, dtype: Any, kind: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.kind = kind
        n = int(self.rng.integers(1, 5))
        self.writer = Writer((1, n), dtype)
        self.points = [self.numbers(1, n) for _ in range(3)]
        self.values: dict[str, list[Exact]] = {"x": [exact(p) for p in self.points]}
        self.last = "x"

    def numbers(self, *shape: int) -> np.ndarray:
        """Integers, dyadic numbers of few bits, or generic floats of the model's type."""
        if self.kind == "integer":
            return self.rng.integers(-3, 4, shape).astype(self.writer.dtype)
        values = self.rng.standard_normal(shape) * 10.0 ** self.rng.integers(-3, 4, shape)
        return values.astype(self.writer.dtype)

    def pick(self) -> tuple[str, int]:
        """An earlier tensor, the last one more often than not, and its width."""
        names = list(self.values)
        name = self.last if self.rng.random() < 0.6 else str(self.rng.choice(names))
        return name, self.values[name][0].shape[1]

    def add(
        self, operator: str, names: list[Any], value: Callable[..., Exact], **attributes: Any
    ) -> None:
        """Add a node and its exact values."""
        made = self.writer.node(operator, *names, **attributes)
        known = [self.values[v] if isinstance(v, str) else [exact(v)] * 3 for v in names]
        self.values[made] = [value(*args) for args in zip(*known, strict=True)]
        self.last = made

    def partner(self, width: int) -> str:
        """An earlier tensor of this width, made by a Gemm if there is none."""
        names = [n for n, v in self.values.items() if v[0].shape[1] == width]
        if len(names) > 1 and self.rng.random() < 0.7:
            return str(self.rng.choice(names))
        name, k = self.pick()
        self.add("Gemm", [name, self.numbers(k, width), self.numbers(width)], _gemm)
        return self.last

    def step(self) -> None:
        """One random node."""
        name, k = self.pick()
        choice = str(self.rng.choice(list(STEPS)))
        STEPS[choice](self, name, k)


def _gemm(a: Exact, w: Exact, b: Exact) -> Exact:
    return a @ w + b


def _linear(g: RandomGraph, name: str, k: int) -> None:
    m = int(g.rng.integers(1, 5))
    g.add("Gemm", [name, g.numbers(k, m), g.numbers(m)], _gemm)


def _relu(g: RandomGraph, name: str, _: int) -> None:
    g.add("Relu", [name], lambda a: np.maximum(a, 0))


def _abs(g: RandomGraph, name: str, _: int) -> None:
    g.add("Abs", [name], np.abs)


def _leaky(g: RandomGraph, name: str, _: int) -> None:
    alpha = float(np.float32(g.rng.choice([0.01, 0.25, -0.5, 1.7, 0.1])))
    slope = Fraction(alpha)
    g.add("LeakyRelu", [name], lambda a: np.where(a >= 0, a, slope * a), alpha=alpha)


def _prelu(g: RandomGraph, name: str, k: int) -> None:
    g.add("PRelu", [name, g.numbers(k)], lambda a, s: np.where(a >= 0, a, s * a))


def _clip(g: RandomGraph, name: str, _: int) -> None:
    low, high = np.sort(g.numbers(2))
    g.add(
        "Clip",
        [name, np.array(low), np.array(high)],
        lambda a, lo, hi: np.minimum(np.maximum(a, lo), hi),
    )


def _pair(operator: str, value: Callable[[Exact, Exact], Exact]) -> Any:
    def step(g: RandomGraph, name: str, k: int) -> None:
        other: Any = g.partner(k) if g.rng.random() < 0.7 else g.numbers(1, k)
        names = [name, other] if g.rng.random() < 0.5 else [other, name]
        g.add(operator, names, value)

    return step


def _scale(g: RandomGraph, name: str, k: int) -> None:
    g.add("Mul", [name, g.numbers(k)], lambda a, s: a * s)


def _concat(g: RandomGraph, name: str, _: int) -> None:
    other, _ = g.pick()
    g.add("Concat", [name, other], lambda a, b: np.concatenate([a, b], axis=1), axis=1)


def _gather(g: RandomGraph, name: str, k: int) -> None:
    index = g.rng.integers(0, k, int(g.rng.integers(1, 5)))
    made = g.writer.node("Gather", name, index.astype(np.int64), axis=1)
    g.values[made] = [v[:, index] for v in g.values[name]]
    g.last = made


def _pad(g: RandomGraph, name: str, _: int) -> None:
    fill = g.numbers(1)[0]
    made = g.writer.node("Pad", name, np.array([0, 1, 0, 0]), np.array(fill))
    one = exact([[fill]])
    g.values[made] = [np.concatenate([one, v], axis=1) for v in g.values[name]]
    g.last = made


STEPS: dict[str, Any] = {
    "Gemm": _linear,
    "Relu": _relu,
    "Abs": _abs,
    "LeakyRelu": _leaky,
    "PRelu": _prelu,
    "Clip": _clip,
    "Max": _pair("Max", np.maximum),
    "Min": _pair("Min", np.minimum),
    "Add": _pair("Add", np.add),
    "Sub": _pair("Sub", np.subtract),
    "Mul": _scale,
    "Concat": _concat,
    "Gather": _gather,
    "Pad": _pad,
}


def check(graph: RandomGraph, path: Path, validate: bool) -> None:
    """The imported network equals the oracle at every point, as Fractions."""
    model = load_model(graph.writer.save(path, graph.last), validate=validate)
    assert model.network.notes == ()
    for point, expected in zip(graph.points, graph.values[graph.last], strict=True):
        assert model.network.exact(point.ravel()) == tuple(expected.ravel())


@pytest.mark.parametrize("kind", ["integer", "float"])
@pytest.mark.parametrize("seed", range(60))
def test_random_float32_graphs_are_exact_and_agree_with_onnxruntime(
    seed: int, kind: str, tmp_path: Path
) -> None:
    graph = RandomGraph(seed, np.float32, kind)
    for _ in range(10):
        graph.step()
    check(graph, tmp_path / "m.onnx", validate=True)


@pytest.mark.parametrize("seed", range(60))
def test_random_float64_graphs_are_exact(seed: int, tmp_path: Path) -> None:
    # Products of two float64 numbers are never representable: every composition is refused.
    graph = RandomGraph(1000 + seed, np.float64, "float")
    for _ in range(10):
        graph.step()
    check(graph, tmp_path / "m.onnx", validate=False)
