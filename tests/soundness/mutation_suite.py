"""Mutated proofs, checked against the instance they were made for and against unsafe ones.

Every base instance is safe and has *twins* that are unsafe by the oracle: the thresholds moved by
about as little as makes the property false, the box made larger, the outputs shifted. No file may
ever be VALID for a twin. A mutant that is VALID for the safe instance is followed again by
``reference``, which decides whether it still is a proof (where it uses rules that the reference
lacks, the twins alone say whether the checker can be fooled).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests import oracle
from tests.soundness import reference
from tests.soundness.fuzzing import CRASHES
from tests.soundness.mutations import MUTATIONS, mutate
from tests.soundness.proofs import hashes, nodes_checked, prove
from tests.strategies import moved, random_instance, random_network
from verifier.core.errors import CertificateError
from verifier.core.network import Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.proof.claim import check_file
from verifier.proof.integers import TooWideError
from verifier.proof.outcome import Checked
from verifier.proof.plain import check_plainly

#: Bytes of proofs that are mutated.
_SHORTEST, _LONGEST = 100, 1500

Instance = tuple[Network, Property]


@dataclass(frozen=True)
class Base:
    """A safe instance with its proof, and unsafe ones beside it."""

    safe: Instance
    proof: bytes
    twins: tuple[Instance, ...]


def bases(seeds: Iterable[int], folder: Path) -> list[Base]:
    """Those of the seeds that give a safe instance with a proof and at least two twins.

    Proofs of one node are too short for most mutations, long ones too long for ``reference``.
    """
    out, path = [], folder / "base"
    for seed in seeds:
        network, prop = candidate(seed)
        # Splits of inputs, which the reference can follow, or what the portfolio finds first.
        engine = "auto" if seed % 5 == 0 else "bab"
        if (
            not prove(network, prop, path, engine=engine)
            or not _SHORTEST < path.stat().st_size < _LONGEST
        ):
            continue
        try:
            nodes_checked(network, prop, path)
        except CertificateError:
            continue  # counted where random instances are
        twins = unsafe_twins(network, prop)
        if len(twins) >= 2:
            out.append(Base((network, prop), path.read_bytes(), tuple(twins)))
    return out


def candidate(seed: int) -> Instance:
    """A random instance; two in three are narrowly safe, so that their proofs split."""
    if seed % 3 == 0:
        return random_instance(seed, max_cases=2)
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_inputs=3, max_layers=3)
    n = network.n_inputs
    box = Box(
        tuple(Fraction(int(v), 4) for v in rng.integers(-6, -1, n)),
        tuple(Fraction(int(v), 4) for v in rng.integers(2, 7, n)),
    )
    weights = [Fraction(1)] + [Fraction(0)] * (network.n_outputs - 1)
    best = oracle.maximum(network, box, weights)
    bound = best + Fraction(1, 2 ** int(rng.integers(3, 12)))
    constraint = LinearConstraint(((0, Fraction(1)),), bound)
    return network, Property((Case(box, ((constraint,),)),), n, network.n_outputs)


def unsafe_twins(network: Network, prop: Property) -> list[Instance]:
    """Like the instance, and violated: other thresholds, another radius, another model."""
    steps = [Fraction(2) ** k for k in range(-30, 8, 2)]
    found: list[Instance] = []
    for twin in (_moved, _larger, _shifted):
        for step in steps:
            network_, prop_ = twin(network, prop, step)
            if oracle.violated(network_, prop_):
                found.append((network_, prop_))
                break
    return found


def _moved(network: Network, prop: Property, by: Fraction) -> Instance:
    return network, moved(prop, -by)


def _larger(network: Network, prop: Property, by: Fraction) -> Instance:
    cases = tuple(
        replace(
            case,
            box=Box(tuple(v - by for v in case.box.lower), tuple(v + by for v in case.box.upper)),
        )
        for case in prop.cases
    )
    return network, replace(prop, cases=cases)


def _shifted(network: Network, prop: Property, by: Fraction) -> Instance:
    last = network.layers[-1]
    layer = replace(last, bias=last.bias + float(by))
    return replace(network, layers=(*network.layers[:-1], layer)), prop


def judge(base: Base, data: bytes, path: Path, count: Counter[str]) -> None:
    """Check one file against everything and count what happened."""
    path.write_bytes(data)
    count["mutations"] += 1
    for network, prop in base.twins:
        for checker in (check_file, check_plainly):
            count["checks against unsafe twins"] += 1
            count["wrong VALID"] += _valid(network, prop, path, count, hashes(*base.safe), checker)
    if not _valid(*base.safe, path, count):
        count["rejected"] += 1
        return
    try:
        reference.follow(*base.safe, data)
        count["accepted, still a proof"] += 1
    except reference.OtherRuleError:
        if _valid(*base.safe, path, count, checker=check_plainly):
            count["accepted, still a proof in exact arithmetic"] += 1
        else:
            count["accepted, no proof"] += 1
    except reference.NoProofError as problem:
        count["accepted, no proof"] += 1
        count[f"accepted, no proof: {problem}"] += 1


def _valid(
    network: Network,
    prop: Property,
    path: Path,
    count: Counter[str],
    claimed: dict[str, str] | None = None,
    checker: Callable[..., Checked] = check_file,
) -> bool:
    """Whether a checker accepts; anything but a CertificateError is counted as a crash."""
    try:
        nodes_checked(network, prop, path, claimed, checker=checker)
    except (CertificateError, TooWideError):
        return False
    except CRASHES as crash:
        count["crashes"] += 1
        count[f"crash: {type(crash).__name__}: {str(crash)[:80]}"] += 1
        return False
    return True


def run(some: Iterable[Base], each: int, folder: Path, seed: int = 0) -> Counter[str]:
    """So many mutations of every kind of every base.

    Returns:
        counts: ``bases``, ``mutations``, ``rejected``, ``accepted, still a proof`` (by the
        reference, or ``in exact arithmetic`` by the plain checker), and what must be 0: ``accepted,
        no proof``, ``wrong VALID``, ``crashes``.
    """
    count: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    for base in some:
        count["bases"] += 1
        # The unchanged proof, for another property, radius and model.
        judge(base, base.proof, folder / "mutant", replay := Counter())
        count["replays for an unsafe twin"] += replay["checks against unsafe twins"]
        count["wrong VALID"] += replay["wrong VALID"]
        for kind in MUTATIONS:
            for _ in range(each):
                judge(base, mutate(base.proof, kind, rng), folder / "mutant", count)
    return count


def mutated(seeds: range, wanted: int) -> Counter[str]:
    """So many mutations, or a few more, of the proofs of these seeds."""
    with tempfile.TemporaryDirectory() as folder:
        some = bases(seeds, Path(folder))
        each = -(-wanted // (len(MUTATIONS) * max(1, len(some))))
        return run(some, each, Path(folder), seed=seeds[0])
