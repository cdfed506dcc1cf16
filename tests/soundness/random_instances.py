"""Random small instances with the truth from the oracle: verdicts and proofs compared with it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests import oracle
from tests.soundness.proofs import nodes_checked, prove
from tests.strategies import random_instance, tight_instance, wild_box, wild_network
from verifier.core.errors import CertificateError
from verifier.core.network import Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Verdict, word
from verifier.search.portfolio import ENGINES, certify

#: One instance in four goes to one of these as well.
_OTHERS = tuple(engine for engine in ENGINES if engine != "auto")


def wild_instance(seed: int) -> tuple[Network, Property]:
    """Weights and faces from 2^-40 to 2^40, and a threshold next to the exact maximum."""
    rng = np.random.default_rng(seed)
    network = wild_network(rng, 40)
    low, high = wild_box(rng, network.n_inputs, 40)
    box = Box(tuple(map(Fraction, low.tolist())), tuple(map(Fraction, high.tolist())))
    weights = [Fraction(1)] + [Fraction(0)] * (network.n_outputs - 1)
    best = oracle.maximum(network, box, weights)
    share = Fraction(int(rng.choice([-1, 0, 1])), 2 ** int(rng.choice([3, 20, 60])))
    bound = best + share * (abs(best) or 1)
    if max(bound.numerator.bit_length(), bound.denominator.bit_length()) > 900:
        bound = Fraction(float(bound))
    constraint = LinearConstraint(((0, Fraction(1)),), bound, strict=bool(rng.random() < 0.5))
    return network, Property((Case(box, ((constraint,),)),), network.n_inputs, network.n_outputs)


def instance(seed: int) -> tuple[Network, Property]:
    """Seven in ten general, two at a tie or next to it, one wild."""
    if seed % 10 < 7:
        return random_instance(seed, max_cases=2)
    return tight_instance(seed, oracle.maximum) if seed % 10 < 9 else wild_instance(seed)


def is_wrong(network: Network, prop: Property, verdict: Verdict, violated: bool) -> bool:
    """Whether a verdict contradicts the truth, or its witness is none."""
    if isinstance(verdict, Proved):
        return violated
    if isinstance(verdict, Refuted):
        x = verdict.witness.x
        inside = prop.cases[verdict.witness.case].box.contains(x)
        return not violated or not inside or prop.violation(x, network.exact(x)) is None
    return False


def compare(seeds: Iterable[int], seconds: float = 10) -> Counter[str]:
    """Ask relucid and the oracle, and check a proof where one was found.

    Returns:
        counts: ``proved``, ``refuted``, ``unknown`` of the portfolio, the same with another
        engine's name before them, ``wrong`` of all; ``proofs`` written, ``invalid`` among them,
        ``wrong VALID``; ``proved, no proof`` in the time for it; and the seeds of what should not
        have happened.
    """
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof"
        for seed in seeds:
            network, prop = instance(seed)
            violated = oracle.violated(network, prop)
            count["instances"] += 1
            count["violated"] += violated
            verdict = certify(network, prop, timeout=seconds)
            count[word(verdict)] += 1
            proved, wrong = isinstance(verdict, Proved), is_wrong(network, prop, verdict, violated)
            if seed % 4 == 0:
                engine = _OTHERS[seed // 4 % len(_OTHERS)]
                verdict = certify(network, prop, timeout=seconds, engine=engine)
                count[f"{engine} {word(verdict)}"] += 1
                wrong = wrong or is_wrong(network, prop, verdict, violated)
            count["wrong"] += wrong
            count[f"wrong verdict at seed {seed}"] += wrong
            if prove(network, prop, path):
                count["proofs"] += 1
                try:
                    nodes_checked(network, prop, path)
                    count["wrong VALID"] += violated
                    count[f"wrong VALID at seed {seed}"] += violated
                except CertificateError:
                    count["invalid"] += 1
                    count[f"invalid proof at seed {seed}"] += 1
            else:
                count["proved, no proof"] += proved
                count[f"no proof at seed {seed}"] += proved
    return +count
