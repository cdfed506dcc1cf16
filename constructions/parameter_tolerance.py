"""How far the parameters of a depth-2 network may move before a label can change (T10.0).

F(x) = V relu(W x + b) + c with n hidden units, |x|∞ ≤ X, hidden activations ≤ H. If every weight
and bias moves by at most δ,

    |ΔF_l(x)| ≤ δ [(dX + 1) ‖V_l‖₁ + nH + 1] + n δ² (dX + 1).

So a fixed network with a robust margin μ withstands every small enough δ: twice the right side must
stay below μ. An attack that works for all δ needs a width that grows as δ shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from constructions.rational_points import dot
from verifier.core.errors import DataError, NetworkError
from verifier.core.exact import fractions
from verifier.core.network import Network
from verifier.core.property import Box


@dataclass(frozen=True)
class Sensitivity:
    """The three numbers in the bound.

    Args:
        hidden: n.
        reach: dX + 1.
        linear: max over l of (dX + 1) ‖V_l‖₁ + nH + 1.
    """

    hidden: int
    reach: Fraction
    linear: Fraction

    def change(self, delta: Fraction) -> Fraction:
        """A bound on |ΔF_l(x)| for every l and every change of the parameters by at most δ."""
        return delta * self.linear + self.hidden * delta**2 * self.reach

    def tolerance(self, margin: Fraction) -> Fraction:
        """The largest power of two δ ≤ 1 with 2 · change(δ) < margin.

        Raises:
            DataError: a margin that is not positive.
        """
        if margin <= 0:
            raise DataError(f"a tolerance needs a positive margin, got {margin}")
        delta = Fraction(1)
        while 2 * self.change(delta) >= margin:
            delta /= 2
        return delta

    def idle_units_needed(self, delta: Fraction, margin: Fraction) -> Fraction:
        """At least so many idle units beside this network allow an attack of size δ, for d ≥ 1.

        P idle units change a logit by at most P δ² (dX + 1), and two logits must change by margin.
        """
        missing = margin / 2 - self.change(delta)
        return max(Fraction(0), missing / (delta**2 * self.reach))


def sensitivity(network: Network, boxes: Sequence[Box]) -> Sensitivity:
    """The bound's numbers for a depth-2 network on some boxes.

    Raises:
        NetworkError: another depth, or ReLUs elsewhere than on the hidden units.
        DataError: no boxes.
    """
    if network.depth != 2 or not network.layers[0].relu.all() or network.layers[1].relu.any():
        raise NetworkError(f"{network.name}: expected depth 2 with a ReLU on every hidden unit")
    if not boxes:
        raise DataError("a sensitivity needs at least one box")
    hidden, last = network.layers
    largest = max(abs(v) for box in boxes for v in (*box.lower, *box.upper))
    reach = network.n_inputs * largest + 1
    top = Fraction(0)
    for row, b in zip((fractions(r) for r in hidden.dense), fractions(hidden.bias), strict=True):
        for box in boxes:
            corner = [
                h if w > 0 else low for w, low, h in zip(row, box.lower, box.upper, strict=True)
            ]
            top = max(top, dot(row, corner) + b)
    steepest = max(sum(map(abs, fractions(row)), Fraction(0)) for row in last.dense)
    return Sensitivity(hidden.n_out, reach, reach * steepest + hidden.n_out * top + 1)
