"""Attacks on the bias classifier: its adversary creation rate, and what kinds of access give (T8).

C(C, ρ) = P(argmax B_C(x + ρV) ≠ y), V uniform in {−1, 1}^d: by T8 D.1 and D.2 this is what a sign
attack on C + W_R x reaches for the secret W_R of information-theoretic safety, if its target class
does not depend on W_R. The other attacks do not keep to that rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import inf
from typing import Any

from relucid.experiments.bias_parts import EPS, training
from relucid.experiments.findings import Cell, Findings, Table, bars
from relucid.experiments.workshop import Trained, Workshop
from torchbridge.attacks.guided import Guided, RandomSigns, straight
from torchbridge.attacks.interface import Attack, Classifier, Control
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.square import Square
from torchbridge.attacks.substitute import Substitute
from torchbridge.bias_attacks import (
    RIGHT,
    UNDECIDED,
    WRONG,
    Inputs,
    Subject,
    attack_states,
    clean_states,
    first_degree_guides,
    inputs_of,
    measured_wrong,
    smooth_guides,
)

RADII = (Fraction(1, 10), Fraction(1, 5), Fraction(3, 10))
#: The slides' creation rate for MNIST at 0.1.
SLIDES = Fraction(88, 10000)
#: Held-out points that are attacked; random directions are tried at so many times more.
POINTS, MORE = 200, 10
DRAWS = 5
STEPS, ROUNDS, QUERIES = 40, 2, 500
TAUS = (0.3, 0.1, 0.03)
_ATTACKED = ("adversarial", "bias-adversarial")
_WHITE, _BLACK, _SAFE = "white box", "black box", "safe direction"


@dataclass(frozen=True, eq=False)
class _Way:
    """An attack with its place in the table."""

    access: str
    name: str
    make: Callable[[], Attack]
    settings: str


def run(shop: Workshop) -> Findings:
    """Train what is missing, try random directions, attack, and verify every success.

    Raises:
        DataError: the points are no pictures that LeNet-5 takes.
        OSError: a folder cannot be written to.
    """
    models = {name: training(shop, name) for name in ("normal", *_ATTACKED)}
    other = replace(shop, seed=shop.seed + 1).trained(
        "adversarial-fast", architecture="lenet5", eps=EPS, epochs=5
    )
    created = _creation(shop, models)
    attacked, shares = _attacks(shop, models, other)
    used = models["normal"].recipe.architecture
    title = f"{used} on {shop.data.held_out.name}: attacks on the bias classifier"
    return Findings(title, (attacked, created), _notes(shop), {"": _picture(shares, title)})


def _inputs(shop: Workshop, times: int = 1) -> Inputs:
    """The first held-out points: so many times as many as are attacked."""
    points = shop.data.held_out_points
    return inputs_of(points, min(len(points), times * (shop.limit or POINTS)))


def _subject(model: Trained, shape: tuple[int, ...], bias: bool) -> Subject:
    return Subject(model.module, model.model.network, shape, bias)


def _creation(shop: Workshop, models: Mapping[str, Trained]) -> Table:
    """C(C, ρ) for every training and radius."""
    inputs = replace(_inputs(shop, MORE), clip=None)
    rows: list[tuple[Cell, ...]] = []
    for name, model in models.items():
        subject = _subject(model, shop.data.held_out_points.shape, bias=True)
        for rho in RADII:
            settings = (model.path.name, str(rho), len(inputs), DRAWS)
            compute = partial(_draws, shop, subject, inputs, rho)
            found = shop.remembered(f"creation-{name}-{float(rho):g}", settings, compute)
            total, right = DRAWS * found["points"], DRAWS * found["right"]
            theirs = SLIDES if name == "bias-adversarial" and rho == RADII[0] else None
            rows.append((
                name, float(rho), total, Fraction(found["kept"] + found["created"], total),
                Fraction(found["points"] - found["right"], found["points"]),
                Fraction(found["created"], right) if right else None,
                found["undecided"], theirs,
            ))  # fmt: skip
    heads = (
        "training", "ρ", "tries", "C(C, ρ): B_C wrong at x + ρV (measured)",
        "B_C wrong at x (measured)", "adversaries created where B_C is right (verified)",
        "undecided",
        "slides' C(C)",
    )  # fmt: skip
    return Table("Adversary creation rate of random directions", heads, tuple(rows), "creation")


def _draws(shop: Workshop, subject: Subject, inputs: Inputs, rho: Fraction) -> dict[str, Any]:
    """Random directions at every point, ``DRAWS`` times."""
    fine = inputs.right(subject)
    right, wrong = (
        inputs.picked([i for i, state in enumerate(fine) if state == want])
        for want in (True, False)
    )
    counts = {"points": len(inputs), "right": len(right), "kept": 0, "created": 0, "undecided": 0}
    for draw in range(DRAWS):
        control = Control.seeded(1000 * shop.seed + draw, shop.reporter.update)
        states = attack_states(subject, RandomSigns(), right, rho, control)
        counts["created"] += states.count(WRONG)
        counts["undecided"] += states.count(UNDECIDED)
        counts["kept"] += measured_wrong(subject, RandomSigns(), wrong, rho, control)
    return counts


def _ways(subject: Subject, other: Trained) -> tuple[_Way, ...]:
    """The attacks on a subject; C itself has a gradient of its own."""
    effort = f"{STEPS} steps, {ROUNDS} rounds"
    own: tuple[Classifier, ...] = (subject.whole,)
    if subject.bias:
        own = (straight(subject.classifier, subject.whole), subject.whole)
    ways = [_Way(_WHITE, "∇C", lambda: Guided(own, STEPS, ROUNDS), effort)]
    if subject.bias:
        ways += [
            _Way(
                _WHITE, "±∇W_C", lambda: Guided(first_degree_guides(subject), STEPS, ROUNDS), effort
            ),
            _Way(
                _WHITE, "∇B_τ (smoothed)",
                lambda: Guided(smooth_guides(subject, TAUS), STEPS, ROUNDS), f"{effort}, {TAUS}",
            ),
        ]  # fmt: skip
    surrogate = subject.flat(other.module)
    return (
        *ways,
        _Way(_BLACK, f"Square, {QUERIES} queries", lambda: Square(QUERIES), str(QUERIES)),
        _Way(
            _BLACK, "transfer from another network",
            lambda: Substitute(surrogate, PGD(STEPS, 1, confidence=inf)),
            f"{other.path.name}, {STEPS} steps",
        ),
        _Way(_SAFE, "random signs", RandomSigns, ""),
    )  # fmt: skip


def _attacks(
    shop: Workshop, models: Mapping[str, Trained], other: Trained
) -> tuple[Table, dict[str, list[Fraction | None]]]:
    """All attacks on C and B_C, and the shares for the picture."""
    rows: list[tuple[Cell, ...]] = []
    shares: dict[str, list[Fraction | None]] = {}
    for name in _ATTACKED:
        for bias in (False, True):
            subject = _subject(models[name], shop.data.held_out_points.shape, bias)
            part = "B_C" if bias else "C"
            new, together = _rows(shop, subject, f"{name}-{part}", models[name].path.name, other)
            rows += [(name, part, *row) for row in new]
            shares[f"{part}, {name}"] = together
    heads = (
        "training", "attacked", "access", "attack", "points (proved right)",
        *(f"broken at {float(rho):g} (verified)" for rho in RADII), "undecided", "seconds",
    )  # fmt: skip
    return Table("Attack rates", heads, tuple(rows)), shares


def _rows(
    shop: Workshop, subject: Subject, stem: str, model: str, other: Trained
) -> tuple[list[tuple[Cell, ...]], list[Fraction | None]]:
    """The attacks on one subject, and the shares that all of them together break."""
    inputs = _inputs(shop)
    clean = shop.remembered(
        f"clean-{stem}", (model, subject.bias, len(inputs)),
        lambda: {"states": clean_states(subject, inputs, shop.reporter.update)},
    )["states"]  # fmt: skip
    fine = [i for i, state in enumerate(clean) if state == RIGHT]
    inputs = inputs.picked(fine)
    if not fine:
        nothing: list[Fraction | None] = [None] * len(RADII)
        return [("–", "none: right at no point", 0, *nothing, None, None)], nothing
    rows: list[tuple[Cell, ...]] = []
    broken: dict[Fraction, set[int]] = {rho: set() for rho in RADII}
    for k, way in enumerate(_ways(subject, other)):
        rates: list[Fraction] = []
        undecided, seconds = 0, 0.0
        for rho in RADII:
            settings = (model, subject.bias, fine, way.name, way.settings, str(rho))
            compute = partial(_attacked, shop, subject, way, inputs, rho, k)
            found = shop.remembered(f"{stem}-{k}-{float(rho):g}", settings, compute)
            lost = {i for i, state in enumerate(found["states"]) if state == WRONG}
            for larger in RADII[RADII.index(rho) :]:
                broken[larger] |= lost
            rates.append(Fraction(len(lost), len(fine)))
            undecided += found["states"].count(UNDECIDED)
            seconds += found["seconds"]
        rows.append((way.access, way.name, len(fine), *rates, undecided, round(seconds)))
    together: list[Fraction | None] = [Fraction(len(broken[rho]), len(fine)) for rho in RADII]
    rows.append(("all", "any of these", len(fine), *together, None, None))
    return rows, together


def _attacked(
    shop: Workshop, subject: Subject, way: _Way, inputs: Inputs, rho: Fraction, k: int
) -> dict[str, Any]:
    """One attack at one radius, for a step."""
    started = time.monotonic()
    control = Control.seeded(1000 * shop.seed + k, shop.reporter.update)
    states = attack_states(subject, way.make(), inputs, rho, control)
    return {"states": states, "seconds": time.monotonic() - started}


def _picture(shares: Mapping[str, list[Fraction | None]], title: str) -> bytes:
    """What all attacks together break, by radius."""
    groups = [f"ρ = {float(rho):g}" for rho in RADII]
    return bars(groups, shares, title, "broken by any attack")


def _notes(shop: Workshop) -> tuple[str, ...]:
    """What a reader must know."""
    return (
        "Verified: the point lies in its ball exactly, and intervals in float64, rounded outwards, "
        "prove that some other output is larger there, for every activation pattern consistent "
        "with the point. Undecided: these intervals decide neither. Points that no attack breaks "
        "are not proved right by that. Of the points attacked, the intervals prove that the "
        "classifier is right at the point itself.",
        "C(C, ρ) is not cut to the range of pictures, as in the theorem; random signs among the "
        "attack rates are. By T8 D.2 a sign attack on C + W_R x reaches, in expectation over W_R, "
        "this rate and no more, if its target class does not depend on W_R. The slides give "
        "one figure, for MNIST at 0.1.",
        f"±∇W_C and ∇B_τ, τ = {', '.join(map(str, TAUS))}, see torchbridge.bias_smoothing: "
        f"{STEPS} steps of {ROUNDS} starts for each guide, every point on the way tried on the "
        "classifier itself. Transfer: from a network of other weights, trained with one step, "
        f"one query a point. Seed {shop.seed}.",
    )
