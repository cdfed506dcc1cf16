"""What a theorem's file shows: ``demonstrate()`` returns one of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which SciPy comes with, and the command line's help need not wait for
    from verifier.core.network import Network
    from verifier.core.property import Property


@dataclass(frozen=True)
class Shown:
    """One claim that was checked.

    Args:
        claim: what is true.
        certificate: what was checked, exactly, so that it is known.
    """

    claim: str
    certificate: str


@dataclass(frozen=True, eq=False)
class Question:
    """What the theorem says about a network, put to the verifier, which knows no theorem.

    Constructions cannot import the engines; ``relucid theorem`` asks. A verdict other than the
    expected one is an error.

    Args:
        claim: what is true if every property gets the expected verdict.
        network: the network.
        properties: what is asked of it, such as ``Property.near`` on each ball; at least one.
        refuted: whether the theorem says that each property has a counterexample.
    """

    claim: str
    network: Network
    properties: tuple[Property, ...]
    refuted: bool = False

    def __post_init__(self) -> None:
        if not self.properties:
            raise ValueError(f"question {self.claim!r} asks nothing")


@dataclass(frozen=True, eq=False)
class SlopeQuestion:
    """What the theorem says about a network's ℓ∞ Lipschitz constant on all inputs.

    As with ``Question``, the verifier is asked by ``relucid theorem``; another answer is an error.

    Args:
        claim: what is true then.
        network: the network; its outputs count together.
        constant: the constant, or the least that it can be.
        least: which of the two.
    """

    claim: str
    network: Network
    constant: Fraction
    least: bool = False


@dataclass(frozen=True)
class Demonstration:
    """A theorem on a concrete instance.

    Args:
        statement: the theorem.
        instance: the concrete data.
        shown: what was proved of the instance, and how; never empty.
        values: exact numbers by name, rationals as strings such as "29/70".
        questions: what the verifier is asked, and what the theorem says that it answers.
        slopes: the same about Lipschitz constants.
    """

    statement: str
    instance: str
    shown: tuple[Shown, ...]
    values: dict[str, object] = field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    slopes: tuple[SlopeQuestion, ...] = ()
