"""Payoffs of the Stackelberg game, as functions of the robust margins (T9).

The classifier picks Θ, then the adversary picks x_i + δ_i with ‖δ_i‖∞ ≤ ε. The robust margin of
point i is t_i = min_δ [C_y − max_{l≠y} C_l](x_i + δ). All payoffs here are decreasing in the
margin, so the adversary's best answer attains t_i, and the payoff is a function of t_1..t_N. The
classifier wants it small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from flint import arb, fmpq


@dataclass(frozen=True)
class Loss:
    """A payoff that is piecewise affine in the margins.

    Args:
        of: the payoff as a function of all margins.
        levels: it has kinks only where some margin has one of these values.
    """

    of: Callable[[Sequence[Fraction]], Fraction]
    levels: tuple[Fraction, ...] = ()

    def __call__(self, margins: Sequence[Fraction]) -> Fraction:
        """The payoff."""
        return self.of(margins)


def adversarial_accuracy(margins: Sequence[Fraction]) -> Fraction:
    """The share of points with t_i > 0; a tie is an error."""
    return Fraction(sum(t > 0 for t in margins), len(margins))


def _mean(values: Iterable[Fraction]) -> Fraction:
    listed = list(values)
    return sum(listed, Fraction(0)) / len(listed)


#: Mean of −t_i, the loss of Carlini and Wagner; unbounded below.
MARGIN_LOSS = Loss(lambda margins: -_mean(margins))


def truncated_loss(tau: Fraction) -> Loss:
    """Mean of max(−t_i, −τ)."""
    return Loss(lambda margins: _mean(max(-t, -tau) for t in margins), (tau,))


def ramp_loss(tau: Fraction) -> Loss:
    """Mean of min(1, max(0, 1 − t_i/τ)): between 1[t ≤ 0] and 1[t < τ]."""
    zero, one = Fraction(0), Fraction(1)
    return Loss(
        lambda margins: _mean(min(one, max(zero, 1 - t / tau)) for t in margins), (zero, tau)
    )


def cross_entropy_below(margins: Sequence[Fraction], bound: arb) -> bool:
    """Whether Σ ln(1 + e^{−t_i}) < bound for certain, in interval arithmetic (two classes)."""
    terms = [((arb(fmpq(-t.numerator, t.denominator))).exp() + 1).log() for t in margins]
    return bool(sum(terms, arb(0)) < bound)
