"""A part of the random instances: no wrong verdict, no wrong VALID."""

from pathlib import Path

import pytest

from tests import oracle
from tests.soundness.proofs import nodes_checked, prove
from tests.soundness.random_instances import compare, instance, is_wrong
from verifier.core.verdict import Proved, Refuted, Unknown, Witness


def test_no_verdict_and_no_proof_is_wrong():
    count = compare(range(300_000, 300_060))
    assert count["wrong"] == count["wrong VALID"] == 0
    assert count["proved"] >= 15
    assert count["refuted"] >= 15
    assert count["proofs"] >= 5


def test_all_kinds_of_instances_come():
    kinds = [instance(seed) for seed in range(300_000, 300_010)]
    assert {len(prop.cases) for _, prop in kinds} == {1, 2}
    wild = [instance(seed)[0] for seed in range(300_009, 300_050, 10)]
    assert max(abs(layer.dense).max() for network in wild for layer in network.layers) > 1e3


@pytest.mark.parametrize("seed", range(300_000, 300_010))
def test_a_wrong_verdict_would_be_seen(seed):
    network, prop = instance(seed)
    violated = oracle.violated(network, prop)
    x = tuple(v + 1 for v in prop.cases[0].box.upper)
    outside = Refuted(Witness(x, network.exact(x), 0, 0))
    assert is_wrong(network, prop, Proved(()), violated) is violated
    assert is_wrong(network, prop, outside, violated)
    assert not is_wrong(network, prop, Unknown("time"), violated)


@pytest.mark.parametrize("seed", [177, 179, 1119, 1759, 2239, 6839, 7437, 8077])
def test_proofs_at_ties_are_valid(seed: int, tmp_path: Path) -> None:
    """Thresholds of 2^-80, weights from 2^-40 to 2^40: the checker's integers failed here once."""
    network, prop = instance(seed)
    assert prove(network, prop, tmp_path / "p")
    assert nodes_checked(network, prop, tmp_path / "p") > 0
