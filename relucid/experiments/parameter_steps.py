"""The steps of the experiment ``parameter-attack``: each attack, and what is exact about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from constructions.idle_attack import copies_needed, largest_change
from constructions.last_layer_attack import (
    best_direction,
    check_direction,
    features,
    moved_last_layer,
)
from constructions.narrow_attack import (
    Trigger,
    candidates,
    check_block,
    halves,
    projections,
    pushed,
    trigger,
    with_block,
)
from relucid.ball_pass import Ball
from relucid.experiments.workshop import Workshop
from relucid.runs import Options, check_data, run_data
from torchbridge.attacks.campaign import Run, attack_points
from torchbridge.attacks.methods import Effort, chosen
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.target import Target, threads_for
from torchbridge.parameter_attack import closest
from torchbridge.training.points import Points
from verifier.core.decision import Decision, Rule
from verifier.core.errors import CertificateError
from verifier.core.exact import fractions
from verifier.core.network import Network
from verifier.core.verdict import word
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx

_BATCH = 4096
ARGMAX = Decision(Rule.argmax)
#: Random directions of which the theorem's hats get the best.
_DRAWS = 50
#: Points that an attack on the last layer leaves exactly as they are.
KEPT = 10
Indices = Sequence[int]


def batches(points: Points) -> Iterator[np.ndarray]:
    """All inputs, (n, d) float32 at a time."""
    for first in range(0, len(points), _BATCH):
        yield points.values[points.codes[first : first + _BATCH]]


def ball_of(shop: Workshop, eps: Fraction) -> Ball:
    """The balls of an experiment: around float32 values, cut where pictures end."""
    image = shop.data.held_out.is_image
    return Ball(eps, (Fraction(0), Fraction(1)) if image else None)


def right(shop: Workshop, network: Network, limit: int) -> list[int]:
    """The first held-out points that the network classifies as labelled, exactly."""
    found: list[int] = []
    data = shop.data.held_out
    for i in range(len(data)):
        y = network.exact(fractions(data.float32(i)))
        if y.index(max(y)) == data.labels[i] and y.count(max(y)) == 1:
            found.append(i)
        if len(found) == limit:
            break
    return found


def measured(shop: Workshop, path: Path, eps: Fraction, indices: Indices) -> dict[str, list[int]]:
    """What holds against attacks, what is proved and what is refuted, on the balls around points.

    Args:
        shop: the workshop.
        path: of the model.
        eps: radius.
        indices: which held-out points.

    Returns:
        points: ``held`` against PGD's exactly verified successes, ``proved``, ``refuted`` by the
        verifier or PGD.

    Raises:
        CertificateError: a ball is both proved and refuted.
    """
    model, data, ball = load_model(path), shop.data.held_out, ball_of(shop, eps)
    regions = [LinfBall(ball.center(data, i), eps, ball.clip) for i in indices]
    labels = [int(data.labels[i]) for i in indices]
    run = Run(shop.seed, progress=shop.reporter.update)
    with threads_for(model.network, len(indices)):
        target = Target.of(model.network, ARGMAX)
        attacked = attack_points(target, chosen("pgd", Effort()), regions, labels, run)
        held = [indices[one.row] for one in attacked if one.witness is None]
    options = Options(timeout=shop.timeout, seed=shop.seed)
    classes = check_data(model, data, indices)
    outcomes = list(run_data(model, data, indices, ball, options, shop.reporter, classes))
    words = {i: word(one.verdict) for i, one in zip(indices, outcomes, strict=True)}
    proved = [i for i in indices if words[i] == "proved"]
    refuted = [i for i in indices if words[i] == "refuted" or i not in held]
    if set(proved) & set(refuted):
        raise CertificateError(f"{path}: a ball is proved, and an attack has a counterexample")
    return {"held": held, "proved": proved, "refuted": refuted}


@dataclass(frozen=True, eq=False)
class Plan:
    """Where the data are narrow, and what attacking there takes.

    Args:
        triggers: two, with different classes.
        indices: the points that are attacked.
        which: for each of them, the trigger.
        places: p, exact.
        margin: M for each trigger.
        silent: ρ, the smaller one.
    """

    triggers: tuple[Trigger, Trigger]
    indices: tuple[int, ...]
    which: tuple[int, ...]
    places: tuple[tuple[Fraction, ...], ...]
    margin: tuple[Fraction, Fraction]

    @property
    def silent(self) -> Fraction:
        """No output changes within this distance of any point of the data."""
        return min(one.silent for one in self.triggers)

    def copies(self, delta: Fraction, hidden: int) -> list[int]:
        """Units of each hidden layer for each trigger."""
        return [
            one.copies(m, delta, hidden) for one, m in zip(self.triggers, self.margin, strict=True)
        ]


def narrow_plan(shop: Workshop, network: Network, eps: Fraction, indices: Indices) -> Plan | None:
    """The best pair of directions in which all points, learnt and held out, are narrow.

    Best is the largest rise h/A. None if no candidate leaves room for a kink within the radius.
    """
    data, ball = shop.data.held_out, ball_of(shop, eps)
    x = np.stack([data.float32(i) for i in indices]).astype(np.float64)
    faces = [LinfBall(ball.center(data, i), eps, ball.clip).faces for i in indices]
    low, high = (np.stack(side).astype(np.float64) for side in zip(*faces, strict=True))
    if (low > high).any():
        return None
    middle = 0.5 if data.is_image else float(np.median(x))
    pairs = [halves(w) for w in candidates(_all(shop), middle)]
    if not pairs:
        return None
    _, kept = projections(_all(shop), np.concatenate(pairs))
    best: tuple[Fraction, np.ndarray, tuple[Trigger, Trigger]] | None = None
    for k, pair in enumerate(pairs):
        found = []
        for w, most in zip(pair, kept[2 * k : 2 * k + 2], strict=True):
            least, _ = projections([pushed(w, x, low, high)], w[None])
            found.append(trigger(w, float(most), float(least[0]), 0))
        first, second = found
        if first is None or second is None:
            continue
        quality = min(one.rise / one.scale for one in (first, second))
        if best is None or quality > best[0]:
            best = quality, pair, (first, second)
    if best is None:
        return None
    return _with_targets(shop, network, indices, best[2], x, low, high)


def _all(shop: Workshop) -> Iterator[np.ndarray]:
    """Every input, learnt and held out."""
    yield from batches(shop.data.learnt_points)
    yield from batches(shop.data.held_out_points)


def _with_targets(
    shop: Workshop, network: Network, indices: Indices, found: tuple[Trigger, Trigger],
    x: np.ndarray, low: np.ndarray, high: np.ndarray,
) -> Plan:  # fmt: skip
    """The classes to which points are sent: those that win most easily, points of one by another.

    The class k of the first direction is the one with the smallest largest gap; the points that
    have it as their label go along the second direction to the next such class.
    """
    labels = [int(shop.data.held_out.labels[i]) for i in indices]
    places = [[fractions(p) for p in pushed(one.direction, x, low, high)] for one in found]
    outputs = [network.exact(p) for p in places[0]]
    gaps = [max(max(y) - y[k] for y in outputs) for k in range(network.n_outputs)]
    order = sorted(range(len(gaps)), key=lambda k: gaps[k])
    which = tuple(int(label == order[0]) for label in labels)
    margins = [Fraction(0), Fraction(0)]
    for row, side in enumerate(which):
        y = outputs[row] if side == 0 else network.exact(places[1][row])
        margins[side] = max(margins[side], max(y) - y[order[side]])
    first, second = (
        Trigger(one.direction, one.kept, one.kink, one.rise, order[side])
        for side, one in enumerate(found)
    )
    return Plan(
        (first, second), tuple(indices), which,
        tuple(places[side][row] for row, side in enumerate(which)), (margins[0], margins[1]),
    )  # fmt: skip


def block_attack(
    shop: Workshop, network: Network, plan: Plan, delta: Fraction, path: Path
) -> dict[str, Any]:
    """Write the attacked network, read it back, and check all that is claimed of it.

    Args:
        shop: the workshop.
        network: F.
        plan: from ``narrow_plan``.
        delta: δ.
        path: of the ONNX file.

    Returns:
        ``change`` (exact, as text), ``units`` of each hidden layer, ``kept`` points whose outputs
        are equal, ``compared`` of them evaluated in full, ``wrong``: the points whose place is.

    Raises:
        CertificateError: a claim is false.
    """
    copies = plan.copies(delta, network.depth - 1)
    padded = with_block(network, plan.triggers, copies, Fraction(0))
    export_onnx(with_block(network, plan.triggers, copies, delta), path, decision=ARGMAX)
    attacked, data = read_gemm_chain(path), shop.data.held_out
    check_block(network, padded, attacked, plan.triggers, delta)
    directions = np.stack([one.direction for one in plan.triggers])
    _, highest = projections(_all(shop), directions)
    if any(Fraction(z) > one.kink for z, one in zip(highest, plan.triggers, strict=True)):
        raise CertificateError("the block is not silent on the data")
    wrong = []
    for i, p in zip(plan.indices, plan.places, strict=True):
        center = fractions(data.float32(i))
        if network.exact(center) != attacked.exact(center):
            raise CertificateError(f"the outputs at held-out point {i} have changed")
        y, label = attacked.exact(p), data.labels[i]
        if max(v for k, v in enumerate(y) if k != label) >= y[label]:
            wrong.append(i)
    return {
        "change": str(largest_change(padded, attacked)),
        "units": sum(copies),
        "kept": len(shop.data.learnt_points) + len(shop.data.held_out_points),
        "compared": len(plan.indices),
        "wrong": wrong,
    }


def hats_needed(
    shop: Workshop, network: Network, eps: Fraction, delta: Fraction, indices: Indices
) -> int:
    """Units of the first layer that T10.1 needs for these points, in the best of some directions.

    The theorem knows no range of pixels: its adversaries may leave it.
    """
    data = shop.data.held_out
    x = np.stack([data.float32(i) for i in indices])
    rng = np.random.default_rng(shop.seed)
    best: tuple[Fraction, np.ndarray, list[Fraction]] | None = None
    for _ in range(_DRAWS):
        a = rng.choice(np.array([-1, 1], dtype=np.int8), x.shape[1])
        z = [Fraction(projections([row[None]], a[None])[0][0]) for row in x]
        ranked = sorted(z)
        gap = min((v - u for u, v in pairwise(ranked)), default=Fraction(1))
        if gap > 0 and (best is None or gap > best[0]):
            best = gap, a, z
    if best is None:
        return 0
    gap, a, z = best
    h = min(eps * len(a), gap / 2)
    scale = max(Fraction(1), max(map(abs, z)) + 3 * h / 2)
    total = 0
    for i, row in zip(indices, x, strict=True):
        p = [v + h / len(a) * int(s) for v, s in zip(fractions(row), a, strict=True)]
        y, label = network.exact(p), data.labels[i]
        gap_here = y[label] - max(v for k, v in enumerate(y) if k != label)
        total += copies_needed(gap_here, delta, h / scale, network.depth - 1)
    return 4 * total


def last_layer(shop: Workshop, path: Path, eps: Fraction, indices: Indices) -> dict[str, Any]:
    """T10.2: for each ball the δ from which on the last weights alone create an adversary in it.

    The place is the one with the smallest margin that PGD finds; all outputs at the first points
    stay exactly equal.

    Returns:
        ``thresholds``: for each place δ as text, "0" where it is wrong without any change, None
        where no δ is enough.

    Raises:
        CertificateError: a direction is not what it claims, or the attack does not do it.
    """
    network, data, ball = load_model(path).network, shop.data.held_out, ball_of(shop, eps)
    regions = [LinfBall(ball.center(data, i), eps, ball.clip) for i in indices]
    labels = [int(data.labels[i]) for i in indices]
    places = closest(Target.of(network, ARGMAX), regions, labels, shop.seed)
    centers = [region.center for region in regions]
    kept = [features(network, x) for x in centers]
    found: list[str | None] = []
    for row, (p, label) in enumerate(zip(places, labels, strict=True)):
        shop.reporter.update("last layer", row / len(places))
        y = network.exact(p)
        other = max((k for k in range(len(y)) if k != label), key=lambda k: y[k])
        if y[other] >= y[label]:
            found.append("0")
            continue
        best = best_direction(kept, features(network, p))
        check_direction(kept, features(network, p), best)
        if best.distance == 0:
            found.append(None)
            continue
        delta = (y[label] - y[other]) / (2 * best.distance)
        above = delta * Fraction(101, 100)
        moved = moved_last_layer(network, [(label, other, best.s)], above)
        after = moved.exact(p)
        if after[other] <= after[label]:
            raise CertificateError(f"place {row} keeps its label")
        if any(moved.exact(x) != network.exact(x) for x in centers):
            raise CertificateError("the outputs at the points have changed")
        found.append(str(Fraction(ceil(delta * 10**6), 10**6)))
    return {"thresholds": found}
