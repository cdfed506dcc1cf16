"""Draw docs/img/robustness.png from verdicts: ``python docs/img/make_picture.py``.

Left: how many of the first held-out digits stay correct under any change of the given size, for the
normal and the robustly trained network, proved from below and refuted from above. Right: one digit,
a change that breaks the normal network, and the result. Takes some minutes.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from constructions.dataset import DataSet, load_dataset
from relucid.ball_pass import Ball
from relucid.progress import Reporter
from relucid.report import Accuracy, broken_by
from relucid.runs import Options, Outcome, open_model, run_data
from verifier.core.verdict import Refuted

OUT = Path(__file__).resolve().parent / "robustness.png"
DIGITS = 100
RADII = [Fraction(k, 100) for k in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15)]
NETWORKS = (("digits-mlp", "normal training", "#b2182b"),
            ("digits-mlp-robust", "robust training", "#2166ac"))  # fmt: skip
CLIP = (Fraction(0), Fraction(1))
TIMEOUT = 5.0


def outcomes(data: DataSet, name: str, radius: Fraction) -> list[Outcome]:
    """The verdicts on the first digits."""
    model = open_model(name)
    with Reporter(DIGITS) as reporter:
        ball, options = Ball(radius, CLIP), Options(TIMEOUT)
        return list(run_data(model, data, range(DIGITS), ball, options, reporter))


def draw_curves(axes: Axes, results: dict[tuple[str, Fraction], list[Outcome]]) -> None:
    """Proved and not refuted shares against the radius."""
    undecided = 0.0
    for name, label, colour in NETWORKS:
        shares = [Accuracy.of(results[name, radius]).adversarial for radius in RADII]
        x = [float(radius) for radius in RADII]
        low, high = ([float(share[k]) for share in shares] for k in (0, 1))
        axes.plot(x, low, "o-", color=colour, markersize=4, label=label)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        undecided = max([undecided, *(b - a for a, b in zip(low, high, strict=True))])
    rest = "undecided shaded" if undecided else "all others refuted"
    axes.set_title(f"Proved correct under every change;\n{rest}", fontsize=11)
    axes.set_xlabel("largest change of a pixel (0 black, 1 white)")
    axes.set_ylabel(f"share of {DIGITS} held-out digits")
    axes.set_ylim(0, 1)
    axes.set_xlim(0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def draw_witness(axes: list[Axes], outcome: Outcome, shape: tuple[int, ...]) -> None:
    """Digit, change, witness."""
    if not isinstance(outcome.verdict, Refuted) or outcome.center is None:
        raise ValueError("only a refuted digit has a witness")
    before = np.array([float(v) for v in outcome.center]).reshape(shape)
    after = np.array([float(v) for v in outcome.verdict.witness.x]).reshape(shape)
    limit = np.abs(after - before).max()
    pictures = (
        (before, {"cmap": "gray", "vmin": 0, "vmax": 1}, f"digit, seen as {outcome.label}"),
        (after - before, {"cmap": "RdBu", "vmin": -limit, "vmax": limit}, f"change ≤ {limit:.2f}"),
        (after, {"cmap": "gray", "vmin": 0, "vmax": 1}, f"witness, seen as {broken_by(outcome)}"),
    )
    for place, (picture, style, title) in zip(axes, pictures, strict=True):
        place.imshow(picture, **style)
        place.set_title(title, fontsize=10)
        place.axis("off")


def main() -> None:
    """Decide, draw, and print the counts that the picture shows."""
    data = load_dataset("digits:test")
    results = {}
    for name, _, _ in NETWORKS:
        for radius in RADII:
            results[name, radius] = outcomes(data, name, radius)
            print(name, radius, Accuracy.of(results[name, radius]), flush=True)
    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    grid = figure.add_gridspec(1, 4, width_ratios=(2.2, 1, 1, 1))
    draw_curves(figure.add_subplot(grid[0]), results)
    broken = next(
        outcome
        for radius in RADII
        for outcome in results["digits-mlp", radius]
        if radius >= Fraction(4, 100) and outcome.correct and isinstance(outcome.verdict, Refuted)
    )
    draw_witness([figure.add_subplot(grid[k]) for k in (1, 2, 3)], broken, data.shape)
    figure.savefig(OUT, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
