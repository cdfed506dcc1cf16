"""The bias classifier on whole balls: what attacks leave, and what is refuted and proved (T8 b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from statistics import median
from time import monotonic
from typing import Any

import numpy as np

from constructions.bias_check import BiasWitness, check_bias_witness
from relucid.experiments.balls import Balls
from relucid.experiments.findings import Cell, Findings, Table, bars
from relucid.experiments.workshop import Trained, Workshop
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.pgd import PGD
from torchbridge.bias_safety import climbed, float_direction
from verifier.core.errors import CertificateError
from verifier.core.network import Network
from verifier.search.bias_box import BiasRight, BiasWrong, bias_lost
from verifier.search.bias_milp import bias_milp
from verifier.search.problem import Deadline

RADII = (Fraction(1, 100), Fraction(1, 50), Fraction(1, 20), Fraction(1, 10))
EPS = 0.1
POINTS = 60
#: Random corners of a ball that the attack tries, and points decided between two records.
_CORNERS, _CHUNK = 20, 5
_ATTACK = PGD(steps=20, restarts=3)
_HEADS = (
    "radius", "points", "right at the point (exact)", "right under attack (exact witnesses)",
    "not refuted (exact)", "proved (exact)", "undecided", "refuted by the attack",
    "refuted by the MILP", "median seconds of a search",
)  # fmt: skip


def run(shop: Workshop) -> Findings:
    """Train a small network for its bias part, attack it and decide it on balls.

    Raises:
        DataError: the points do not go with the architecture.
        CertificateError: two answers contradict each other, which would be an error here.
        OSError: a folder cannot be written to.
    """
    model = shop.trained("bias-adversarial", architecture="mlp", eps=EPS)
    network, data = model.model.network, shop.data.held_out
    indices = range(min(shop.limit or POINTS, len(data)))
    rows: list[tuple[Cell, ...]] = []
    # A wrong point of a ball lies in all larger ones.
    refuted = [False] * len(indices)
    before: list[dict[str, Any]] = [{"answer": "undecided"}] * len(indices)
    for radius in RADII:
        balls = Balls.around(data, indices, radius)
        attacked = shop.remembered(
            f"bias-attacked-{_name(radius)}", [model.path.name, len(indices), str(_ATTACK)],
            partial(_attacked, shop, model, network, balls),
        )  # fmt: skip
        decided: list[dict[str, Any]] = []
        for first in range(0, len(indices), _CHUNK):
            part = range(first, min(first + _CHUNK, len(indices)))
            settings = [model.path.name, str(radius), list(part), shop.timeout]
            step = partial(_decided, shop, network, balls, {i: before[i] for i in part})
            found = shop.remembered(f"bias-decided-{_name(radius)}-{first}", settings, step)
            decided += found["points"]
        rows.append(_row(radius, attacked, decided, refuted))
        before = decided
    title = f"The bias classifier of {model.recipe.architecture} on balls of {data.name}"
    series = {head: [row[k] for row in rows] for k, head in enumerate(_HEADS[2:6], 2)}
    return Findings(
        title,
        (Table("Share of the held-out points", _HEADS, tuple(rows)),),
        (
            f"The network was trained for its bias part at ℓ∞ radius {EPS:g} "
            f"({model.recipe.epochs} epochs). A point is right where β_y > β_k for every k ≠ y and "
            "every activation pattern that is consistent with it, on kinks too. The attack is "
            f"ascent on C's margin ({_ATTACK.restarts} starts of {_ATTACK.steps} steps), one step "
            f"along the sign of C's gradient, and {_CORNERS} random corners; each point counts "
            "only if exact arithmetic finds the bias part wrong there. Refuted: by the attack or "
            "by the MILP search, with an exact point of the ball or of a smaller one. Undecided: "
            f"after {shop.timeout:g} s. Balls lie around the float32 inputs, cut to [0, 1] for "
            "pictures.",
        ),
        {"": bars([_text(row[0]) for row in rows], series, title, "share")},  # type: ignore[arg-type]
    )


def _attacked(shop: Workshop, model: Trained, network: Network, balls: Balls) -> dict[str, Any]:
    """Which points are wrong themselves, and which have a wrong point in their ball."""
    shape, labels = shop.data.held_out_points.shape, balls.labels
    slope = float_direction(model.module, balls.x, labels, shape, Loss.margin)
    faces = balls.x, balls.lower, balls.upper
    tried = [
        climbed(model.module, faces, labels, shape, shop.seed, _ATTACK), balls.corners(slope)
    ]  # fmt: skip
    random = np.random.default_rng(shop.seed)
    tried += [balls.corners(random.choice((-1, 1), balls.x.shape)) for _ in range(_CORNERS)]
    wrong, lost = [], []
    for i, label in enumerate(labels.tolist()):
        wrong.append(bias_lost(network, balls.x[i].astype(float), label))
        lost.append(wrong[-1] or any(bias_lost(network, t[i].astype(float), label) for t in tried))
        shop.reporter.update(f"point {i + 1} of {len(balls)}", (i + 1) / len(balls))
    return {"wrong": wrong, "lost": lost}


def _decided(
    shop: Workshop, network: Network, balls: Balls, before: Mapping[int, dict[str, Any]]
) -> dict[str, Any]:
    """What is proved or refuted of some balls; every witness is checked by other code.

    Args:
        shop: for the time limit and progress.
        network: decided.
        balls: all of them.
        before: which ones, with the records of a smaller radius, whose witnesses are kept.
    """
    found = []
    for i, known in before.items():
        if known["answer"] == "refuted":
            found.append(known | {"seconds": 0.0})
            continue
        label, started = int(balls.labels[i]), monotonic()

        def progress(what: str, share: float, i: int = i) -> None:
            shop.reporter.update(f"ball {i + 1} of {len(balls)}, {what}", i / len(balls))

        answer = bias_milp(network, balls.box(i), label, Deadline(shop.timeout), progress=progress)
        record: dict[str, Any] = {"seconds": monotonic() - started, "answer": "undecided"}
        if isinstance(answer, BiasRight):
            record["answer"] = "proved"
        elif isinstance(answer, BiasWrong):
            witness = BiasWitness(True, answer.x, answer.pattern, answer.other)
            check_bias_witness(network, balls.box(i), label, witness)
            record |= {
                "answer": "refuted", "x": [str(v) for v in answer.x], "other": answer.other,
                "pattern": "".join(str(int(bit)) for bit in answer.pattern),
            }  # fmt: skip
        found.append(record)
    return {"points": found}


def _row(
    radius: Fraction, attacked: dict[str, Any], decided: Sequence[dict[str, Any]],
    refuted: list[bool],
) -> tuple[Cell, ...]:  # fmt: skip
    """One radius.

    Args:
        radius: of the balls.
        attacked, decided: what was found.
        refuted: at smaller radii; this one's are entered.

    Raises:
        CertificateError: a ball is both proved and refuted.
    """
    n = len(decided)
    answers = [record["answer"] for record in decided]
    lost, milp = attacked["lost"], [answer == "refuted" for answer in answers]
    refuted[:] = [a or b or c for a, b, c in zip(lost, milp, refuted, strict=True)]
    for i, (answer, wrong) in enumerate(zip(answers, refuted, strict=True)):
        if answer == "proved" and wrong:
            raise CertificateError(f"ball {i} of radius {radius} is both proved and refuted")
    proved = answers.count("proved")
    spent = [record["seconds"] for record in decided if record["seconds"] > 0]
    seconds = median(spent) if spent else None
    return (
        float(radius), n, 1 - Fraction(sum(attacked["wrong"]), n), 1 - Fraction(sum(lost), n),
        1 - Fraction(sum(refuted), n), Fraction(proved, n), n - proved - sum(refuted),
        sum(lost), sum(milp), seconds,
    )  # fmt: skip


def _name(radius: Fraction) -> str:
    return f"{radius.numerator}-{radius.denominator}"


def _text(cell: Cell) -> str:
    return str(cell)
