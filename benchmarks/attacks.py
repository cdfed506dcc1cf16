"""What attacks find: a few pixels, small balls, masked gradients; every success verified exactly.

``python benchmarks/attacks.py --out FOLDER [--mnist FOLDER] [--limit N] [--part P ...]``

Parts: ``pixels`` (JSMA at 1 to 8 % of the pixels, differential evolution with 1, 3 and 5),
``balls`` (each ℓ∞ method at two radii), ``gap`` (the ensemble beside what the verifier proves and
refutes), ``masked`` (PGD, BPDA, EOT and Square where gradients are masked) and ``rivals`` (foolbox,
ART and torchattacks, where they are installed, at equal radius on the same points). On the bundled
networks for digits, and with --mnist on a network of two hidden layers trained on all 60000 images.
FOLDER gets attacks.csv, attacks.md, and attacks.png with the success rates on pixels.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from attack_rivals import claims, rivals

from constructions.dataset import DataSet, load_dataset
from relucid.bundled import open_model
from torchbridge.attacks.campaign import Named, Run, attack_points
from torchbridge.attacks.interface import Norm
from torchbridge.attacks.masking import (
    Randomised,
    exact_mean,
    exact_quantised,
    expectation,
    quantised,
    straight_through,
)
from torchbridge.attacks.methods import Effort, chosen, norm_of
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import L2Ball, LinfBall, PixelBall, Region
from torchbridge.attacks.square import Square
from torchbridge.attacks.substitute import Substitute, train_surrogate
from torchbridge.attacks.target import Target, threads_for
from torchbridge.convert import to_network
from verifier.core.decision import Decision, Rule
from verifier.core.files import write_atomic
from verifier.core.network import Network
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted
from verifier.search.portfolio import certify

UNIT = (Fraction(0), Fraction(1))
BALLS: dict[Norm, type[Region]] = {Norm.linf: LinfBall, Norm.l2: L2Ball, Norm.l0: PixelBall}
DIGITS = ("digits-mlp", "digits-mlp-robust", "digits-conv", "digits-conv-robust")
PARTS = ("pixels", "balls", "gap", "masked", "rivals")
#: Success rates of the papers, on their own networks.
REPORTED = {
    "jsma 4%": "97.1 % (LeNet, MNIST, targeted; Papernot et al. 2016)",
    "one-pixel 1": "68 % (CIFAR-10, Su et al. 2019)",
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with the points on which it is attacked."""

    name: str
    network: Network
    centers: list[tuple[Fraction, ...]]
    labels: list[int]
    shape: tuple[int, int, int]
    radii: tuple[str, str]

    @property
    def target(self) -> Target:
        """The network as something to attack."""
        return Target.of(self.network, Decision(Rule.argmax))

    def regions(self, norm: Norm, size: Fraction) -> list[Region]:
        """The ball around each point."""
        return [BALLS[norm](c, size, UNIT) for c in self.centers]


@dataclass(frozen=True)
class Row:
    """One line of the results: of ``clean`` correctly classified points ``broken`` were broken."""

    part: str
    model: str
    attack: str
    size: str
    points: int
    clean: int
    broken: int
    rate: float
    cpu_seconds: float
    note: str = ""


def subject(
    name: str, network: Network, data: DataSet, limit: int, radii: tuple[str, str]
) -> Subject:
    """The first points of a set."""
    count = min(limit, len(data))
    centers = [tuple(Fraction(float(v)) for v in data.float32(i)) for i in range(count)]
    rows, columns = data.shape[-2:]
    labels = [int(v) for v in data.labels[:count]]
    return Subject(name, network, centers, labels, (1, rows, columns), radii)


def subjects(limit: int, mnist: Path | None, only: Sequence[str]) -> Iterator[Subject]:
    """The networks for digits, and one for MNIST that is trained here; or only those named."""
    data = load_dataset("digits:test")
    for name in DIGITS:
        if only and name not in only:
            continue
        yield subject(name, open_model(name).network, data, limit, ("1/20", "1/10"))
    if mnist is not None and (not only or "mnist-mlp" in only):
        train, test = load_dataset(f"{mnist}:train"), load_dataset(f"{mnist}:test")
        x = torch.tensor(train.points.astype(np.float32) / np.float32(255))
        print("mnist-mlp is trained", file=sys.stderr)
        torch.set_num_threads(1)  # small batches: threads would only wait for each other
        module = train_surrogate(x, torch.tensor(train.labels), 10, seed=0, epochs=3, width=100)
        network = to_network(module, (784,), name="mnist-mlp")
        yield subject("mnist-mlp", network, test, limit, ("1/50", "1/20"))


def measured(
    part: str, one: Subject, target: Target, name: str, attacks: Sequence[Named],
    regions: list[Region], size: str, note: str = "",
) -> Row:  # fmt: skip
    """Attack, and look at every success once more."""
    started = time.process_time()
    with threads_for(one.network, 256):
        found = list(attack_points(target, attacks, regions, one.labels, Run(), shape=one.shape))
    seconds = time.process_time() - started
    clean = sum(a.witness is None or bool(a.by) for a in found)
    broken = 0
    for a, region, label in zip(found, regions, one.labels, strict=True):
        if a.witness is None or not a.by:
            continue
        y = target.exact(a.witness.x)
        if not region.contains(a.witness.x) or max(y[:label] + y[label + 1 :]) < y[label]:
            raise RuntimeError(f"{name} on {one.name}: point {a.row} is no success")
        broken += 1
    return Row(
        part, one.name, name, size, len(found), clean, broken, broken / max(1, clean),
        round(seconds, 2), note,
    )  # fmt: skip


def method(part: str, one: Subject, name: str, size: Fraction, text: str = "") -> Row:
    """A method by its name."""
    note = REPORTED.get(f"{name} {text or size}", "")
    regions = one.regions(norm_of(name), size)
    return measured(
        part, one, one.target, name, chosen(name, Effort()), regions, text or str(size), note
    )


def pixels(one: Subject) -> Iterator[Row]:
    """A few pixels, of any change."""
    count = one.shape[1] * one.shape[2]
    for percent in (1, 2, 4, 8):
        size = Fraction(max(1, percent * count // 100))
        yield method("pixels", one, "jsma", size, f"{percent}%")
    for size in (1, 3, 5):
        yield method("pixels", one, "one-pixel", Fraction(size))


def balls(one: Subject) -> Iterator[Row]:
    """Every ℓ∞ method at two radii."""
    for radius in one.radii:
        for name in ("fgsm", "pgd", "apgd", "cw", "fab", "square", "auto"):
            yield method("balls", one, name, Fraction(radius))


def gap(one: Subject, seconds: float = 4.0) -> Iterator[Row]:
    """The ensemble beside exact answers: proved and refuted, and by intervals alone."""
    radius = Fraction(one.radii[0])
    auto = method("gap", one, "auto", radius)
    yield auto
    for engine in ("auto", "interval"):
        started = time.process_time()
        verdicts = [
            certify(
                one.network,
                Property.robustness(Box.ball(c, radius, UNIT), label, one.network.n_outputs),
                timeout=seconds, engine=engine,
            )
            for c, label in zip(one.centers, one.labels, strict=True)
        ]  # fmt: skip
        spent = time.process_time() - started
        proved = sum(isinstance(v, Proved) for v in verdicts)
        wrong = len(verdicts) - auto.clean
        refuted = sum(isinstance(v, Refuted) for v in verdicts) - wrong
        if proved > auto.clean - auto.broken or (engine == "auto" and refuted < 0):
            raise RuntimeError(f"{one.name}: an attack broke what is proved")
        note = f"{proved} proved, {auto.clean - proved - max(0, refuted)} undecided"
        yield Row(
            "gap", one.name, f"certify {engine}", str(radius), len(verdicts), auto.clean,
            max(0, refuted), max(0, refuted) / max(1, auto.clean), round(spent, 2), note,
        )  # fmt: skip


def masked(one: Subject) -> Iterator[Row]:
    """The network behind a staircase, and behind random shifts."""
    radius, plain = Fraction(one.radii[1]), one.target
    regions = one.regions(Norm.linf, radius)
    layer, pgd = quantised(16), PGD(restarts=1)
    stairs = Target(
        lambda x: plain.module(layer(x)), exact_quantised(plain.exact, 16), plain.decision,
        plain.n_outputs, plain.dtype,
    )  # fmt: skip
    through = Substitute(straight_through(layer, plain.module), pgd)
    for name, attack in (("pgd", pgd), ("bpda", through), ("square", Square())):
        named = [Named(name, attack)]
        yield measured("masked", one, stairs, name, named, regions, str(radius), "⌊16 x⌋ / 16")
    numbers = np.random.default_rng(0).integers(-32, 33, (16, one.network.n_inputs)) / 64.0
    shifts = torch.tensor(numbers, dtype=plain.dtype)
    random = Randomised(plain.module, shifts, torch.Generator().manual_seed(0))
    mean = exact_mean(plain.exact, [[Fraction(float(v)) for v in row] for row in numbers])
    noisy = Target(random, mean, plain.decision, plain.n_outputs, plain.dtype, sure=False)
    for name, attack in (("pgd", pgd), ("eot", Substitute(expectation(random, 16), pgd))):
        named = [Named(name, attack)]
        yield measured("masked", one, noisy, name, named, regions, str(radius), "random shifts")


def beside(one: Subject) -> Iterator[Row]:
    """Foolbox, ART and torchattacks on the same points; what is left of their claims exactly."""
    radius = Fraction(one.radii[1])
    target, regions = one.target, one.regions(Norm.linf, radius)
    for name in ("fgsm", "pgd", "apgd", "fab", "square", "auto"):
        yield method("rivals", one, name, radius)
    x = np.stack([r.center32 for r in regions])
    labels = np.array(one.labels)
    for name, attack in rivals(target, one.shape, float(radius)):
        with threads_for(one.network, 256):
            started = time.process_time()
            moved = attack(x, labels)
            spent = time.process_time() - started
        claimed, inside, clean = claims(one.network.exact, regions, labels, moved)
        yield Row(
            "rivals", one.name, name, str(radius), len(x), clean, claimed, claimed / max(1, clean),
            round(spent, 2), f"{inside} of them inside the ball",
        )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """A table a part."""
    lines = [
        "# Attacks",
        "",
        "Every success lies inside its ball and is wrong in exact arithmetic;",
    ]
    lines += ["rates are shares of the points that are classified correctly.", ""]
    for part in dict.fromkeys(row.part for row in rows):
        lines += [f"## {part}", "", "| network | attack | size | broken | rate | seconds | note |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        lines += [
            f"| {r.model} | {r.attack} | {r.size} | {r.broken} of {r.clean} | {r.rate:.1%} | "
            f"{r.cpu_seconds} | {r.note} |"
            for r in rows
            if r.part == part
        ]
        lines.append("")
    return "\n".join(lines)


def picture(rows: Sequence[Row]) -> bytes:
    """Success rates on pixels as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for axis, name, label in zip(
        axes, ("jsma", "one-pixel"), ("share of pixels (%)", "pixels"), strict=True
    ):
        for model in dict.fromkeys(r.model for r in rows):
            mine = [r for r in rows if (r.part, r.model, r.attack) == ("pixels", model, name)]
            sizes = [float(r.size.rstrip("%")) for r in mine]
            axis.plot(sizes, [100 * r.rate for r in mine], marker="o", label=model)
        axis.set_xlabel(label)
        axis.set_title(name)
    axes[0].set_ylabel("broken (%)")
    axes[1].legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    plt.close(figure)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, a line for each row, then the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's IDX files")
    parser.add_argument("--limit", type=int, default=100, help="points of each set")
    parser.add_argument("--part", action="append", choices=PARTS, help="all but rivals by default")
    parser.add_argument(
        "--model", action="append", choices=(*DIGITS, "mnist-mlp"), help="all by default"
    )
    options = parser.parse_args(arguments)
    if options.limit < 1:
        parser.error(f"--limit must be at least 1, got {options.limit}")
    options.out.mkdir(parents=True, exist_ok=True)
    parts = options.part or PARTS[:-1]
    table: dict[str, Callable[[Subject], Iterator[Row]]] = {
        "pixels": pixels, "balls": balls, "gap": gap, "masked": masked, "rivals": beside
    }  # fmt: skip
    rows: list[Row] = []
    for one in subjects(options.limit, options.mnist, options.model or ()):
        for part in parts:
            for row in table[part](one):
                rows.append(row)
                print(*astuple(row), sep="\t", flush=True)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([f.name for f in fields(Row)])
    writer.writerows(astuple(row) for row in rows)
    write_atomic(options.out / "attacks.csv", stream.getvalue().encode())
    write_atomic(options.out / "attacks.md", markdown(rows).encode())
    if "pixels" in parts:
        write_atomic(options.out / "attacks.png", picture(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
