"""Certificates about the bias classifier on a box, checked in rational arithmetic (T8 a, b).

Nothing here knows how a certificate was found: no linear program, no search.

* *strongly* right on the box: β_{z,y} > β_{z,k} for all k ≠ y, all x in it and all consistent z,
  which covers every relu'(0) in [0, 1];
* *weakly* right: the same off the kinks only, that is almost everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from constructions.bias_part import Pattern, consistent, constant_of, forms_of, signs_at
from constructions.rational_points import Vector
from verifier.core.errors import CertificateError
from verifier.core.network import Network
from verifier.core.property import Box


@dataclass(frozen=True)
class BiasProof:
    """Why the bias classifier is right on a box.

    Args:
        strong: in which sense.
        cuts: for a prefix of a pattern that no point of the box has, weights ≥ 0, one a bit, on
            the inequalities ±u_i(x) ≥ 0 that it stands for; their sum is negative on the box.
        regions: the number of patterns that are left.
        margin: the smallest β_y − β_k among them, > 0; None if there are none, that is if every
            point of the box lies on a kink and the proof is a weak one.
    """

    strong: bool
    cuts: Mapping[Pattern, Vector]
    regions: int
    margin: Fraction | None


@dataclass(frozen=True)
class BiasWitness:
    """A point of the box at which the bias classifier is wrong.

    Args:
        strong: False if the point lies on no kink, so that it refutes the weak sense as well.
        x: the point.
        pattern: consistent with it.
        other: a label k with β_k ≥ β_y.
    """

    strong: bool
    x: Vector
    pattern: Pattern
    other: int


def check_bias_proof(network: Network, box: Box, label: int, proof: BiasProof) -> None:
    """The bias classifier has this label on all of the box, in the sense of the proof.

    All patterns are visited, bit by bit, up to the prefixes that are cut.

    Raises:
        CertificateError: a cut that proves nothing, or a pattern with another label.
    """
    margins: list[Fraction] = []
    stack: list[Pattern] = [()]
    while stack:
        prefix = stack.pop()
        units, outputs = forms_of(network, prefix)
        if prefix and prefix[-1] and _is_zero(units[len(prefix) - 1]):
            continue  # u_i = 0 everywhere: its bit changes nothing
        if prefix in proof.cuts:
            _check_cut(box, units, prefix, proof.cuts[prefix], proof.strong)
        elif len(prefix) == network.n_relu:
            beta = outputs.constant
            margins.append(min(beta[label] - v for k, v in enumerate(beta) if k != label))
        else:
            stack += [(*prefix, False), (*prefix, True)]
    smallest = min(margins, default=None)
    if smallest is not None and smallest <= 0:
        raise CertificateError("a pattern that was not excluded has another label")
    if (smallest, len(margins)) != (proof.margin, proof.regions):
        raise CertificateError(
            f"{len(margins)} patterns with margin {smallest}, not {proof.regions} with "
            f"{proof.margin}"
        )


def _is_zero(form: tuple[Vector, Fraction]) -> bool:
    return not any(form[0]) and form[1] == 0


def _check_cut(
    box: Box,
    units: Sequence[tuple[Vector, Fraction]],
    prefix: Pattern,
    weights: Vector,
    strong: bool,
) -> None:
    """Σ w_i s_i u_i < 0 on the box; off the kinks ≤ 0 is enough, if some u_i with w_i > 0 varies.

    Raises:
        CertificateError: it is not.
    """
    if len(weights) != len(prefix) or any(w < 0 for w in weights):
        raise CertificateError(f"the cut of {len(prefix)} bits needs as many weights ≥ 0")
    slope, total = [Fraction(0)] * len(box), Fraction(0)
    varies = False
    for w, bit, (row, constant) in zip(weights, prefix, units, strict=False):
        signed = w if bit else -w
        slope = [a + signed * c for a, c in zip(slope, row, strict=True)]
        total += signed * constant
        varies |= w > 0 and any(row)
    for a, low, high in zip(slope, box.lower, box.upper, strict=True):
        total += a * (high if a > 0 else low)
    if total > 0 or (total == 0 and (strong or not varies)):
        raise CertificateError(f"the weights of a cut leave {total}, which excludes nothing")


def check_bias_witness(network: Network, box: Box, label: int, found: BiasWitness) -> None:
    """The bias classifier is not right at the point, in the sense of the witness.

    Raises:
        CertificateError: a point outside the box, a pattern that is not its own, or another label.
    """
    if not box.contains(found.x):
        raise CertificateError("the point lies outside the box")
    signs = signs_at(network, found.x)
    if not consistent(signs, found.pattern):
        raise CertificateError("the pattern is not consistent with the point")
    if not found.strong and 0 in signs:
        units = forms_of(network, found.pattern)[0]
        kinks = [i for i, sign in enumerate(signs) if sign == 0 and not _is_zero(units[i])]
        if kinks:
            raise CertificateError(f"unit {kinks[0]} has a kink at the point")
    beta = constant_of(network, found.pattern)
    if found.other == label or not 0 <= found.other < len(beta) or beta[label] > beta[found.other]:
        raise CertificateError(f"label {label} has {beta[label]}, more than label {found.other}")
