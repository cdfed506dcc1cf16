"""A random matrix before the gradient: attacks along it are no better than random signs (T8 d).

What is said of the direction is proved by bounds on the Jacobian; whether a moved point is lost is
decided exactly. Expected rates over the matrix follow by the theorem, not by drawing many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from constructions.bias_safety import three_class_rates
from relucid.experiments.balls import Balls
from relucid.experiments.findings import Cell, Findings, Table, bars
from relucid.experiments.two_classes import of_parity, pooled
from relucid.experiments.workshop import Trained, Workshop
from relucid.numbers import above, nearest
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.pgd import PGD
from torchbridge.bias_safety import (
    Law,
    always_uniform,
    certain_direction,
    climbed,
    entry_bound,
    float_direction,
    hide,
    scale_above,
    slope_difference,
    uniform_excess,
)
from torchbridge.convert import to_network
from verifier.bounds.interval import Bounds, interval_bounds
from verifier.bounds.linear import root_bounds
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Network
from verifier.search.bias_box import bias_lost

RADII = (Fraction(1, 10), Fraction(1, 5), Fraction(3, 10))
EPS = 0.1
#: Means of blocks of pixels differ by less than pixels do.
FEW_EPS = 0.02
POINTS = 200
#: Matrices drawn, random corners of every ball, points with few coordinates.
_DRAWS, _CORNERS, _FEW = 32, 32, 20
#: Blocks of pixels for the exact law: 2^8 sign vectors.
_BLOCKS = (2, 4)
_ATTACK = PGD(steps=20, restarts=3)


@dataclass(frozen=True, eq=False)
class _Case:
    """A two-class network, the held-out points that its bias part has right, their balls."""

    shop: Workshop
    model: Trained
    network: Network
    indices: tuple[int, ...]
    near: tuple[list[Bounds], ...]

    @classmethod
    def of(cls, shop: Workshop, count: int, eps: float) -> _Case:
        """Train, and take the first points that are right for every consistent pattern."""
        model = shop.trained("bias-adversarial", architecture="mlp", eps=eps)
        network, data = model.model.network, shop.data.held_out
        indices: list[int] = []
        for i in range(len(data)):
            if len(indices) == count:
                break
            if not bias_lost(network, data.float32(i).astype(float), int(data.labels[i])):
                indices.append(i)
        if not indices:
            raise DataError(f"{data.name}: the bias part has no held-out point right")
        points = [data.float32(i).astype(float) for i in indices]
        near = tuple(interval_bounds(network, x, x) for x in points)
        return cls(shop, model, network, tuple(indices), near)

    def balls(self, radius: Fraction) -> Balls:
        """Around the points."""
        return Balls.around(self.shop.data.held_out, self.indices, radius)

    @property
    def labels(self) -> np.ndarray:
        """(n,)."""
        return np.asarray(self.shop.data.held_out.labels[list(self.indices)])

    @property
    def x(self) -> np.ndarray:
        """(n, d) float32."""
        return np.stack([self.shop.data.held_out.float32(i) for i in self.indices])

    def lost(self, points: np.ndarray) -> list[bool]:
        """Whether the bias part is wrong at a point for each input, exactly."""
        pairs = zip(points, self.labels.tolist(), strict=True)
        return [bias_lost(self.network, p.astype(float), label) for p, label in pairs]

    def signs(self, matrix: np.ndarray) -> np.ndarray:
        """±sign R_2, the direction of D.2, for each input: (n, d)."""
        sign = np.where(self.labels == 0, 1, -1)[:, None]
        return np.asarray(sign * np.sign(matrix[1]).astype(np.int8))

    def hidden(self, law: Law, scale: float, draw: int) -> Any:
        """C̃ with one of the matrices."""
        d = self.network.n_inputs
        return hide(self.model.module, law, 2, d, scale, self.shop.seed * 1000 + draw)


def run(shop: Workshop) -> Findings:
    """Train a two-class network for its bias part, hide its gradient, attack and prove.

    Raises:
        DataError: the points do not go with the architecture.
        CertificateError: the law of the direction is not what the theorem says.
        OSError: a folder cannot be written to.
    """
    parity = of_parity(shop.data)
    blocks = pooled(parity, *_BLOCKS)  # at once: what has no blocks is refused before the training
    case = _Case.of(replace(shop, data=parity), shop.limit or POINTS, EPS)
    key = [case.model.path.name, len(case.indices), str(_ATTACK), _DRAWS, _CORNERS]
    slopes = shop.remembered("bias-safety-slopes", [*key, list(map(str, RADII))],
                             partial(_slopes, case))  # fmt: skip
    scale = scale_above(slopes["everywhere"])
    direction = shop.remembered("bias-safety-direction", [*key, scale],
                                partial(_directions, case, scale))  # fmt: skip
    rates = []
    for radius in RADII:
        step = partial(_rates, case, scale, slopes["difference"], radius)
        name = f"bias-safety-{radius.numerator}-{radius.denominator}"
        rates.append(shop.remembered(name, [*key, scale, str(radius)], step))
    small = replace(case.shop, data=blocks, architecture="mlp")
    few = _Case.of(small, min(_FEW, len(case.indices)), FEW_EPS)
    settings = [few.model.path.name, len(few.indices), list(map(str, RADII))]
    law = shop.remembered("bias-safety-law", settings, partial(_law, few))
    return _findings(case, slopes, scale, direction, rates, few, law)


def _slopes(case: _Case) -> dict[str, Any]:
    """Proved bounds on |J_ij|: at the points, on balls, everywhere; and on |J_1j − J_2j|."""
    network = case.network
    difference = [slope_difference(network, bounds) for bounds in case.near]
    found: dict[str, Any] = {
        "points": max(entry_bound(network, bounds) for bounds in case.near),
        "difference": max(float(np.abs(pair).max()) for pair in difference),
    }
    for radius in RADII:
        balls, most = case.balls(radius), 0.0
        for i in range(len(balls)):
            box = balls.box(i).outward()
            most = max(most, entry_bound(network, root_bounds(network, *box)[1]))
            case.shop.reporter.update(f"ball {i + 1} of {len(balls)}", i / len(balls))
        found[str(radius)] = most
    return found | {"everywhere": entry_bound(network, None)}


def _directions(case: _Case, scale: float) -> dict[str, Any]:
    """At how many points the direction is proved uniform, and what Torch makes of it."""
    shape, labels, x = case.shop.data.held_out_points.shape, case.labels, case.x
    always = [bool(always_uniform(case.network, b, scale).all()) for b in case.near]
    hidden = case.hidden(Law.gap, scale, 0)
    expected, difference = case.signs(hidden.matrix), _differences(case)
    proved = _along(case, hidden.matrix, difference)
    found: dict[str, Any] = {
        "everywhere": bool(always_uniform(case.network, None, scale).all()),
        "uniform": sum(always),
        "drawn": int((proved == expected).all(axis=1).sum()),
        "right": int((proved == expected).sum()),
        "coordinates": int(expected.size),
    }
    for loss in (Loss.margin, Loss.ce):
        seen = float_direction(hidden, x, labels, shape, loss)
        found[str(loss)] = {
            "right": int((seen == expected).sum()), "zero": int((seen == 0).sum()),
            "vanished": int((seen == 0).all(axis=1).sum()),
        }  # fmt: skip
    wide = to_network(hidden, shape)
    moved = case.balls(RADII[0]).corners(expected)
    pairs = list(zip(moved.astype(float), labels.tolist(), strict=True))
    found["same"] = sum(bias_lost(wide, p, y) == bias_lost(case.network, p, y) for p, y in pairs)
    return found


def _differences(case: _Case) -> list[Bounds]:
    return [slope_difference(case.network, bounds) for bounds in case.near]


def _along(case: _Case, matrix: np.ndarray, difference: Sequence[Bounds]) -> np.ndarray:
    """The proved directions for a drawn matrix, 0 where a sign is not certain: (n, d)."""
    pairs = zip(difference, case.labels.tolist(), strict=True)
    return np.stack([certain_direction(d, label, matrix, matrix) for d, label in pairs])


def _rates(case: _Case, scale: float, gap: float, radius: Fraction) -> dict[str, Any]:
    """How many points are lost by each attack at one radius."""
    balls, shape, labels = case.balls(radius), case.shop.data.held_out_points.shape, case.labels
    random, difference = np.random.default_rng(case.shop.seed), _differences(case)
    wide = _uniform_scale(case, gap)
    counts: dict[str, list[int]] = {"along": [], "uniform": [], "random": []}
    for k in range(_DRAWS):
        matrix = case.hidden(Law.gap, scale, k).matrix
        counts["along"].append(sum(case.lost(balls.corners(case.signs(matrix)))))
        matrix = case.hidden(Law.uniform, wide, k).matrix
        signs = _along(case, matrix, difference)
        counts["uniform"].append(sum(case.lost(balls.corners(signs))))
        case.shop.reporter.update(f"matrix {k + 1} of {_DRAWS}", k / _DRAWS / 2)
    hits = np.zeros(len(labels), dtype=int)
    for k in range(_CORNERS):
        lost = case.lost(balls.corners(random.choice((-1, 1), balls.x.shape)))
        counts["random"].append(sum(lost))
        hits += lost
        case.shop.reporter.update(f"random signs {k + 1} of {_CORNERS}", 0.5 + k / _CORNERS / 2)
    slope = float_direction(case.model.module, balls.x, labels, shape, Loss.margin)
    faces = balls.x, balls.lower, balls.upper
    climb = climbed(case.model.module, faces, labels, shape, case.shop.seed, _ATTACK)
    share = hits / _CORNERS
    return counts | {
        "gradient": sum(case.lost(balls.corners(slope))), "ascent": sum(case.lost(climb)),
        "error": float(np.sqrt((share * (1 - share)).sum() / max(1, _CORNERS - 1)) / len(hits)),
    }  # fmt: skip


def _uniform_scale(case: _Case, gap: float) -> float:
    """λ > 2 d μ, with which D.3 allows less than (1 + 1/(2d))^d < 1.65 times the random rate."""
    return scale_above(case.network.n_inputs * gap)


def _law(case: _Case) -> dict[str, Any]:
    """All sign patterns of R_2, each with all magnitudes at once: the law of the direction.

    Raises:
        CertificateError: a sign is not certain, or the directions are not all 2^d, once each.
    """
    d, difference = case.network.n_inputs, _differences(case)
    scale = scale_above(entry_bound(case.network, None))
    patterns = np.array(list(product((-1, 1), repeat=d)), dtype=np.int8)
    table = np.empty((len(case.indices), len(patterns), d), dtype=np.int8)
    for j, signs in enumerate(patterns):
        second = np.sort(np.array([[3.0], [4.0]]) * scale * signs, axis=0)
        first = np.full(d, 2 * scale)
        ends = (np.stack([-first, second[0]]), np.stack([first, second[1]]))
        for i, (pair, label) in enumerate(zip(difference, case.labels.tolist(), strict=True)):
            table[i, j] = certain_direction(pair, label, *ends)
    for rows in table:
        if len({row.tobytes() for row in rows}) != len(patterns) or not rows.all():
            raise CertificateError("the direction is not each sign vector once")
    found: dict[str, Any] = {"scale": scale, "patterns": len(patterns)}
    for radius in RADII:
        balls, attack, signs = case.balls(radius), 0, 0
        for j in range(len(patterns)):
            attack += sum(case.lost(balls.corners(table[:, j])))
            signs += sum(case.lost(balls.corners(patterns[j])))
            case.shop.reporter.update(f"sign vector {j + 1} of {len(patterns)}", j / len(patterns))
        found[str(radius)] = [attack, signs]
    return found


def _findings(
    case: _Case, slopes: dict[str, Any], scale: float, direction: dict[str, Any],
    rates: Sequence[dict[str, Any]], few: _Case, law: dict[str, Any],
) -> Findings:  # fmt: skip
    """The tables."""
    n, name = len(case.indices), case.shop.data.held_out.name
    title = f"Hidden gradients: {case.model.recipe.architecture} on {name}"
    heads = (
        "radius", "points", "along the hidden gradient, mean", "… its standard error",
        "… the best matrix for the attack", "random signs, mean", "… its standard error",
        "uniform matrix, mean", "gradient of C, one step", "gradient of C, ascent",
    )  # fmt: skip
    rows = [_rate_row(radius, n, found) for radius, found in zip(RADII, rates, strict=True)]
    groups = [str(row[0]) for row in rows]
    series = {heads[k]: [row[k] for row in rows] for k in (2, 5, 7, 8, 9)}
    tables = (
        Table("Points lost by the bias part (each decided exactly)", heads, tuple(rows)),
        _slope_table(slopes, scale),
        _direction_table(direction, n),
        _law_table(few, law),
    )
    return Findings(
        title, tables, _notes(case, slopes, scale, direction),
        {"": bars(groups, series, title, "points lost")},  # type: ignore[arg-type]
    )  # fmt: skip


def _rate_row(radius: Fraction, n: int, found: dict[str, Any]) -> tuple[Cell, ...]:
    along, uniform, random = (found[key] for key in ("along", "uniform", "random"))
    spread = float(np.std(along, ddof=1) / np.sqrt(len(along)) / n)

    def mean(counts: list[int]) -> Fraction:
        return Fraction(sum(counts), n * len(counts))

    return (
        float(radius), n, mean(along), Fraction(spread), Fraction(max(along), n), mean(random),
        Fraction(found["error"]), mean(uniform), Fraction(found["gradient"], n),
        Fraction(found["ascent"], n),
    )  # fmt: skip


def _slope_table(slopes: dict[str, Any], scale: float) -> Table:
    places = [("at the points", "points")]
    places += [(f"on their balls of radius {float(r):g}", str(r)) for r in RADII]
    places += [("everywhere", "everywhere")]
    rows = tuple(
        (where, above(Fraction(slopes[key])), scale_above(slopes[key])) for where, key in places
    )
    heads = ("where", "no entry of J is larger (proved)", "least power of two λ above twice that")
    return Table(f"Bounds on the Jacobian; λ = {scale:g} is used", heads, rows, "slopes")


def _direction_table(found: dict[str, Any], n: int) -> Table:
    size = found["coordinates"]
    rows: list[tuple[Cell, ...]] = [
        ("proved for every matrix (share of points)", Fraction(found["uniform"], n), None, None),
        ("proved for the drawn matrix", Fraction(found["right"], size), 0, 0),
    ]
    for loss, text in ((Loss.margin, "margin in float32"), (Loss.ce, "cross-entropy in float32")):
        seen = found[str(loss)]
        rows.append((text, Fraction(seen["right"], size), seen["zero"], seen["vanished"]))
    heads = ("direction", "coordinates ±sign R_2j", "coordinates 0", "points with gradient 0")
    title = f"The direction at {n} points, {size} coordinates"
    return Table(title, heads, tuple(rows), "direction")


def _law_table(few: _Case, law: dict[str, Any]) -> Table:
    n, count = len(few.indices), law["patterns"]
    rows = tuple(
        (float(r), n, count, *(Fraction(v, n * count) for v in law[str(r)])) for r in RADII
    )
    heads = (
        "radius", "points", "sign vectors, each once", "lost along the hidden gradient (exact)",
        "lost by random signs (exact)",
    )  # fmt: skip
    title = (
        f"The exact law with {few.network.n_inputs} coordinates, means of blocks of pixels "
        f"(trained at radius {FEW_EPS:g})"
    )
    return Table(title, heads, rows, "law")


def _notes(
    case: _Case, slopes: dict[str, Any], scale: float, direction: dict[str, Any]
) -> tuple[str, ...]:
    margin, entropy = (nearest(rate) for rate in three_class_rates())
    wide = _uniform_scale(case, slopes["difference"])
    excess = above(uniform_excess(case.network.n_inputs, slopes["difference"], wide), 3)
    everywhere = "holds" if direction["everywhere"] else "is not proved"
    return (
        "Only held-out points that the bias part has right count, for every consistent pattern. "
        f"C̃ = C + R x with λ = {scale:g}; |J_1j| + |J_2j| < λ {everywhere} on all of R^d, so the "
        "direction is ±sign R_2 at every input, exactly uniform over the matrix, and the expected "
        "rate along it is that of random signs. The means above are of "
        f"{_DRAWS} matrices, one vector for all points of a class, and of {_CORNERS} sign vectors "
        "a point.",
        f"B_C̃ = B_C: the network of C̃ with a drawn matrix gave the same answers at "
        f"{direction['same']} of {len(case.indices)} moved points.",
        "Cross-entropy in float32 has gradient 0 where softmax is rounded to 0 and 1, and other "
        "signs where softmax and 1 − softmax are rounded differently: that is masking, and no part "
        "of the theorem. Differences of outputs have neither.",
        f"Uniform matrix: entries in [−λ, λ] with λ = {wide:g}, where the rate is proved to be at "
        f"most {excess:.3g} times that of random signs (plus {case.network.n_inputs} · 2^-20), "
        f"since |J_1j − J_2j| ≤ {above(Fraction(slopes['difference'])):.4g} at the points. Where a "
        "sign is not certain the coordinate stays.",
        "Two classes only: with three, d = 1 and C = 0, the direction is +1 with probability "
        f"{margin:g} for the margin and {entropy:g} for cross-entropy (exact), not 1/2.",
        "Nothing but the sign of C's gradient is hidden: one gradient of C̃ shows sign R_2, and the "
        "bias part is as easy to query, to search and to decide as before.",
    )
