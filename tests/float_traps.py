"""Networks that fool arithmetic with rounding errors or tolerances, rebuilt after published ideas.

Every trap has one output and asks whether it can be ≥ 0. Its inner value is exactly its input x
(for x ≥ 0), but is computed so that x is lost once a size ω = 2^exponent is large enough:

* Zombori et al. 2021, "Fooling a complete neural network verifier": (ω + x) − ω forgets x
  (``absorbed_sum``, ``absorbed_bias``); a switch that is on where a difference of large numbers is
  tiny (``hidden_switch``); ω spread over several layers so that no weight looks large (``spread``).
* Jia and Rinard 2021, "Exploiting verified neural networks via floating point numerical error":
  rounding errors amplified until they decide (``residue``), properties that hold or fail by less
  than a solver's tolerance (``knife``).
* Szász, Bánhelyi, Jelasity 2025, "No soundness in the real world": the order of a long sum decides
  (``lost_terms``).
* Weights and values below the smallest normal float64 (``subnormal``).

Each comes in both directions: *unsafe* (x − 1/2 on [0, 1], at most 1/2) looks safe to whoever loses
x, and *safe* (1/2 − x on [1, 2], at most −1/2) looks unsafe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property

#: The largest output of every family that is unsafe, but ``knife``.
MAXIMUM = Fraction(1, 2)

_Parts = tuple[Any, Any]


def chain(*layers: _Parts) -> Network:
    """ReLU on all layers but the last."""
    last = len(layers) - 1
    return Network(
        tuple(
            Layer(np.array(w, float), np.array(b, float), np.full(len(b), k < last))
            for k, (w, b) in enumerate(layers)
        )
    )


@dataclass(frozen=True)
class Trap:
    """A question with a known answer.

    Args:
        family: of the trap.
        exponent: its size.
        network: one output.
        box: of the inputs.
        maximum: the exact largest output on the box.
    """

    family: str
    exponent: int
    network: Network
    box: Box
    maximum: Fraction

    @property
    def unsafe(self) -> bool:
        """The answer to: is some output ≥ 0?"""
        return self.maximum >= 0

    def property(self, threshold: Fraction = Fraction(0), *, strict: bool = False) -> Property:
        """Unsafe where the output is ≥ (or >) a threshold."""
        constraint = LinearConstraint(((0, Fraction(1)),), threshold, strict)
        case = Case(self.box, ((constraint,),))
        return Property((case,), len(self.box), 1)


def absorbed_sum(exponent: int, left: int) -> list[_Parts]:
    """relu(ω a − ω a + relu(x)), a = relu(1 − 2(x − left))."""
    size = 2.0**exponent
    start = 1 + 2 * left
    return [([[-2], [-2], [1]], [start, start, 0]), ([[size, -size, 1]], [0])]


def absorbed_bias(exponent: int, left: int) -> list[_Parts]:
    """relu(ω relu(1) + relu(x) − ω)."""
    size = 2.0**exponent
    return [([[0], [1]], [1, 0]), ([[size, 1]], [-size])]


def spread(exponent: int, left: int) -> list[_Parts]:
    """``absorbed_sum`` with ω as a product of four weights."""
    parts = [exponent // 4 + (k < exponent % 4) for k in range(4)]
    start = 1 + 2 * left
    growth = [(np.diag([2.0**e, 2.0**e, 1]), [0, 0, 0]) for e in parts]
    return [([[-2], [-2], [1]], [start, start, 0]), *growth, ([[1, -1, 1]], [0])]


def lost_terms(exponent: int, left: int) -> list[_Parts]:
    """relu(ω + x/16 + … + x/16 − ω), 16 terms: added one by one, each is lost."""
    size = 2.0**exponent
    first = [[0]] + [[1]] * 16 + [[0]]
    return [(first, [1] + [0] * 16 + [1]), ([[size] + [1 / 16] * 16 + [-size]], [0])]


def residue(exponent: int, left: int) -> list[_Parts]:
    """ω relu(x + x/ω − x): the rounding error of the sum is what counts."""
    small = 2.0**-exponent
    return [([[1]] * 3, [0] * 3), ([[1, small, -1]], [0]), ([[2.0**exponent]], [0])]


def subnormal(exponent: int, left: int) -> list[_Parts]:
    """relu(2^-exponent x/2) brought back by three factors; a float64 ends at 2^-1074."""
    first = [2.0 ** -(exponent // 2), 2.0 ** -(exponent - exponent // 2)]
    back = [2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2), 2.0]
    return [([[0.5]], [0])] + [([[w]], [0]) for w in first + back]


#: Ways to compute x from x; both directions.
DISGUISES: tuple[Callable[[int, int], list[_Parts]], ...] = (
    absorbed_sum,
    absorbed_bias,
    spread,
    lost_terms,
    residue,
    subnormal,
)


def disguised(family: Callable[[int, int], list[_Parts]], exponent: int, *, unsafe: bool) -> Trap:
    """x − 1/2 on [0, 1], or 1/2 − x on [1, 2], with x computed by the family."""
    left = 0 if unsafe else 1
    sign = 1 if unsafe else -1
    network = chain(*family(exponent, left), ([[sign]], [-sign / 2]))
    box = Box((Fraction(left),), (Fraction(left + 1),))
    return Trap(family.__name__, exponent, network, box, sign * MAXIMUM)


def hidden_switch(exponent: int) -> Trap:
    """2^10 relu(ω relu(1 − 2 relu(1 − 20x)) − ω + 2^-10) − 1/2: 1/2 where x ≥ 1/20."""
    size = 2.0**exponent
    network = chain(
        ([[-20]], [1]),
        ([[-2], [0]], [1, 1]),
        ([[size, -size]], [2.0**-10]),
        ([[2.0**10]], [-0.5]),
    )
    return Trap("hidden_switch", exponent, network, _unit(Fraction(1, 10)), MAXIMUM)


def knife(exponent: int, *, unsafe: bool) -> Trap:
    """|x| − 1 ± 2^-exponent on [−1, 1]: violated, or not, by 1/ω (exponent at most 52)."""
    margin = Fraction(1 if unsafe else -1, 2**exponent)
    network = chain(([[1], [-1]], [0, 0]), ([[1, 1]], [float(-1 + margin)]))
    return Trap("knife", exponent, network, Box((Fraction(-1),), (Fraction(1),)), margin)


def traps(exponents: Sequence[int]) -> list[Trap]:
    """All families in both directions.

    Args:
        exponents: sizes; ``knife`` gets those that its bias can hold, ``subnormal`` 20 times them.
    """
    out = []
    for unsafe in (True, False):
        for family in DISGUISES:
            factor = 20 if family is subnormal else 1
            out += [disguised(family, factor * e, unsafe=unsafe) for e in exponents]
        out += [knife(e, unsafe=unsafe) for e in exponents if e <= 52]
        if unsafe:
            out += [hidden_switch(e) for e in exponents]
    return out


def _unit(right: Fraction) -> Box:
    return Box((Fraction(0),), (right,))
