"""Attacks on the parameters of trained networks, constructed and by gradients (T10)."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from constructions.idle_attack import largest_change
from relucid.experiments.findings import Cell, Findings, Table, bars
from relucid.experiments.parameter_steps import (
    ARGMAX,
    KEPT,
    Plan,
    block_attack,
    hats_needed,
    last_layer,
    measured,
    narrow_plan,
    right,
)
from relucid.experiments.workshop import Trained, Workshop
from relucid.numbers import approximate
from torchbridge.attacks.target import Target
from torchbridge.convert import to_onnx
from torchbridge.parameter_attack import SignAscent, accuracy
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Network
from verifier.io.onnx import load_model

EPS = Fraction(1, 10)
#: δ of the constructed attack, γ of sign ascent.
DELTAS = (Fraction(1, 4), Fraction(1, 8), Fraction(1, 16))
GAMMAS = (0.002, 0.005, 0.01)
_LIMIT = 20
_HEADS = (
    "training", "attack", "δ", "largest change (exact)", "units a layer", "T10.1's hats, units",
    "accuracy (measured)", "outputs kept (exact)", "under PGD", "proved", "not refuted",
    "proved within ρ", "ρ",
)  # fmt: skip


def run(shop: Workshop) -> Findings:
    """Train a small network in two ways, attack its parameters, and measure.

    Raises:
        DataError: the points do not fit.
        OSError: a folder cannot be written to.
    """
    rows: list[tuple[Cell, ...]] = []
    last: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    for name in ("normal", "adversarial"):
        trained = shop.trained(name, architecture="small-cnn", eps=float(EPS))
        rows += _rows(shop, trained, name, notes)
        last.append(_last_layer_row(shop, trained, name))
    used = trained.recipe.architecture
    title = f"{used} on {shop.data.held_out.name}: attacks on the parameters"
    groups = [f"{row[0]}\n{row[1]}\n{'' if row[2] is None else row[2]}" for row in rows]
    series = {head: [row[_HEADS.index(head)] for row in rows] for head in _HEADS[8:11]}
    series = {"accuracy": [row[6] for row in rows]} | series
    heads = ("training", "places", "wrong before", "smallest δ", "median δ", "largest δ", "no δ")
    return Findings(
        title,
        (
            Table(f"Balls of radius {EPS} around points classified correctly", _HEADS, tuple(rows)),
            Table(
                f"T10.2: δ from which on the last weights alone create an adversary, exact, with "
                f"the outputs at {KEPT} points kept",
                heads,
                tuple(last),
                "last-layer",
            ),
        ),
        (*_NOTES, *dict.fromkeys(notes)),
        {"": bars(groups, series, title, "share")},  # type: ignore[arg-type]
    )


_NOTES = (
    "constructed: idle units beside the network, all numbers moved by at most δ, read back from "
    "the ONNX file. 'outputs kept' are all points, learnt and held out, at which the attacked "
    "network has exactly the outputs of the network: the block's kinks lie beyond w·x for each of "
    "them, exactly; the attacked points are also evaluated in full. 'not refuted' counts the balls "
    "without an exactly verified counterexample; the constructed ones are among them. Within ρ of "
    "every point the attacked network equals the network, so what is proved there before holds "
    "after.",
    "T10.1's hats: the units of the first layer that the theorem's construction, a hat beside each "
    "of the attacked points, takes for the same δ in the best of 50 random directions. One kink "
    "for all points needs fewer, because the data are narrow in the direction used.",
    "gradients: sign ascent on all numbers within γ, in Torch; nothing about it is exact but the "
    "largest change, the proofs and the refutations. 'under PGD' counts balls in which PGD found "
    "nothing; each success was verified exactly. The slides give no figures for this attack.",
)


def _rows(shop: Workshop, trained: Trained, name: str, notes: list[str]) -> list[tuple[Cell, ...]]:
    """Before; the constructed attack for each δ; sign ascent for each γ."""
    network, total = trained.model.network, len(shop.data.held_out)
    stem, limit = trained.path.stem, shop.limit or _LIMIT
    settings: list[Any] = [stem, limit, str(EPS), shop.timeout]
    chosen = shop.remembered("right", settings[:2], lambda: {"rows": right(shop, network, limit)})[
        "rows"
    ]
    if not chosen:
        raise DataError(
            f"{shop.data.held_out.name}: {stem} classifies no held-out point as labelled, so there "
            "is nothing to attack; --epochs trains longer"
        )
    points = shop.data.held_out_points
    before = shop.remembered(
        f"before-{name}",
        settings,
        lambda: (
            measured(shop, trained.path, EPS, chosen)
            | {"accuracy": accuracy(trained.module, points)}
        ),
    )
    kept = Fraction(before["accuracy"], total)
    rows: list[tuple[Cell, ...]] = [
        (name, "none", None, None, None, None, kept, None, *_shares(before, chosen), None, None)
    ]
    plan = narrow_plan(shop, network, EPS, chosen)
    if plan is None:
        notes.append(
            "No direction was found in which all points are narrow enough for a kink within the "
            "radius: the constructed attack was left out."
        )
    else:
        rows += _constructed(shop, trained, name, plan, settings, chosen)
    for gamma in GAMMAS:
        path = _path(shop, trained, f"gradients-{gamma:g}", chosen)
        attack = SignAscent(gamma, float(EPS))
        found = shop.remembered(
            f"gradients-{name}-{gamma:g}",
            [*settings, repr(attack)],
            partial(_by_gradients, shop, trained, attack, path, network, chosen),
        )
        after = Fraction(found["accuracy"], total)
        rows.append(
            (
                name, "gradients", f"{gamma:g}", approximate(Fraction(found["change"]), 4), 0, None,
                after, None, *_shares(found, chosen), None, None,
            )
        )  # fmt: skip
    return rows


def _constructed(
    shop: Workshop, trained: Trained, name: str, plan: Plan, settings: list[Any],
    chosen: list[int],
) -> list[tuple[Cell, ...]]:  # fmt: skip
    """Rows of the attack on idle units."""
    network = trained.model.network
    rows: list[tuple[Cell, ...]] = []
    near = shop.remembered(
        f"near-{name}",
        [*settings, str(plan.silent)],
        lambda: measured(shop, trained.path, plan.silent, chosen),
    )
    for delta in DELTAS:
        path = _path(shop, trained, f"block-{delta.denominator}", chosen)
        found = shop.remembered(
            f"block-{name}-{delta.denominator}",
            [*settings, str(plan.silent), str(delta)],
            partial(_by_block, shop, network, plan, delta, path, chosen),
        )
        rows.append(
            (
                name, "constructed", str(delta), found["change"], found["units"], found["hats"],
                Fraction(found["accuracy"], len(shop.data.held_out)), found["kept"],
                *_shares(found, chosen), Fraction(len(near["proved"]), len(chosen)),
                approximate(plan.silent, 4),
            )
        )  # fmt: skip
    return rows


def _by_block(
    shop: Workshop, network: Network, plan: Plan, delta: Fraction, path: Path, chosen: list[int]
) -> dict[str, Any]:
    """The constructed attack, checked and measured.

    Raises:
        CertificateError: a claim is false, or a ball with a constructed counterexample is proved.
    """
    found = block_attack(shop, network, plan, delta, path)
    after = measured(shop, path, EPS, chosen)
    if set(after["proved"]) & set(found["wrong"]):
        raise CertificateError(f"{path}: a ball with a known counterexample was proved")
    after["refuted"] = sorted({*after["refuted"], *found["wrong"]})
    module = Target.of(load_model(path).network, ARGMAX).module
    return (
        found
        | after
        | {
            "accuracy": accuracy(module, shop.data.held_out_points),
            "hats": hats_needed(shop, network, EPS, delta, chosen),
        }
    )


def _by_gradients(
    shop: Workshop, trained: Trained, attack: SignAscent, path: Path, network: Network,
    chosen: list[int],
) -> dict[str, Any]:  # fmt: skip
    """Sign ascent, written and measured."""
    listen = partial(shop.reporter.update, "sign ascent")
    module = attack.run(trained.module, shop.data.learnt_points, shop.seed, listen)
    to_onnx(module, path, shop.data.learnt_points.shape, name=path.stem)
    return measured(shop, path, EPS, chosen) | {
        "accuracy": accuracy(module, shop.data.held_out_points),
        "change": str(largest_change(network, load_model(path).network)),
    }


def _shares(found: dict[str, Any], chosen: list[int]) -> tuple[Fraction, Fraction, Fraction]:
    """Held against PGD, proved, not refuted."""
    count = len(chosen)
    left = count - len(found["refuted"])
    return (
        Fraction(len(found["held"]), count),
        Fraction(len(found["proved"]), count),
        Fraction(left, count),
    )


def _last_layer_row(shop: Workshop, trained: Trained, name: str) -> tuple[Cell, ...]:
    """T10.2 on a few points."""
    found = shop.remembered(
        f"last-layer-{name}",
        [trained.path.stem, str(EPS), KEPT],
        lambda: last_layer(shop, trained.path, EPS, right(shop, trained.model.network, KEPT)),
    )["thresholds"]
    some = sorted(Fraction(v) for v in found if v not in (None, "0"))
    ends: list[Cell] = [None] * 3
    if some:
        ends = [approximate(v, 4) for v in (some[0], median(some), some[-1])]
    return (name, len(found), found.count("0"), *ends, found.count(None))


def _path(shop: Workshop, trained: Trained, attack: str, chosen: list[int]) -> Path:
    """Of an attacked network: one for each model and set of points, as steps are."""
    return shop.out / f"parameter-attack-{trained.path.stem}-{len(chosen)}-{attack}.onnx"
