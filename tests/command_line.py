"""Small models and a way to run the command line, shared by its tests."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

from relucid.cli import run
from verifier.core.network import Layer, Network
from verifier.io.onnx import export_onnx


def identity_network(n: int = 2) -> Network:
    """y = relu(x), n of them."""
    return Network(
        (
            Layer(np.eye(n), np.zeros(n), np.ones(n, dtype=bool)),
            Layer(np.eye(n), np.zeros(n), np.zeros(n, dtype=bool)),
        )
    )


def write_model(path: Path, network: Network | None = None) -> Path:
    """The network as an ONNX file."""
    export_onnx(identity_network() if network is None else network, path)
    return path


def property_text(top: str = "0.5", n: int = 2) -> str:
    """x_0 in [0.6, 1], the others in [0, top]; unsafe if an output reaches the first one."""
    names = [f"{v}_{i}" for v in "XY" for i in range(n)]
    lines = [f"(declare-const {name} Real)" for name in names]
    lines += ["(assert (<= 0.6 X_0 1.0))"]
    lines += [f"(assert (<= 0.0 X_{i} {top}))" for i in range(1, n)]
    lines += [f"(assert (or {' '.join(f'(and (>= Y_{i} Y_0))' for i in range(1, n))}))"]
    return "\n".join(lines) + "\n"


def hard_instance(folder: Path) -> tuple[Path, Path]:
    """A model and a property that nothing decides within a minute.

    The threshold lies three times above what random points reach: too high for an attack, too low
    for bounds.
    """
    rng = np.random.default_rng(1)
    sizes = (30, 100, 100, 100, 100, 5)
    layers = [
        Layer(rng.normal(size=(m, n)) * (2 / n) ** 0.5, np.zeros(m), np.full(m, k < 4))
        for k, (n, m) in enumerate(itertools.pairwise(sizes))
    ]
    network = Network(tuple(layers))
    top = float(network.float64(rng.uniform(-0.3, 0.3, (20000, 30)))[:, 0].max())
    names = [f"X_{i}" for i in range(30)] + [f"Y_{i}" for i in range(5)]
    text = "".join(f"(declare-const {n} Real)" for n in names)
    text += "".join(f"(assert (<= -0.3 X_{i} 0.3))" for i in range(30))
    prop = folder / "hard.vnnlib"
    prop.write_text(text + f"(assert (>= Y_0 {3 * top:.3f}))")
    return write_model(folder / "hard.onnx", network), prop


class Result:
    """What a run of the command line left behind.

    Args:
        status: exit status.
        out, err: what it wrote.
    """

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


def relucid(capsys, *arguments: object) -> Result:
    """Run the command line in this process."""
    capsys.readouterr()
    status = run([str(a) for a in arguments])
    captured = capsys.readouterr()
    return Result(status, captured.out, captured.err)


def assert_refused(result: Result, *words: str) -> None:
    """Exit status 2, one line on stderr with the words, nothing on stdout, no traceback."""
    assert result.status == 2, result.err
    assert result.out == ""
    assert result.err.startswith("relucid: ")
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err, result.err


def command(*arguments: object) -> list[str]:
    """The command line as a process of its own."""
    return [sys.executable, "-c", "from relucid.cli import main; main()", *map(str, arguments)]
