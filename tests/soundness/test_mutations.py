"""Mutated proofs: rejected, or still proofs; nothing is ever VALID of what is false."""

from collections import Counter

import numpy as np
import pytest

from tests.soundness import mutation_suite, reference
from tests.soundness.mutations import MUTATIONS, build, mutate, parse
from tests.soundness.proofs import nodes_checked
from verifier.core.errors import CertificateError


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return mutation_suite.bases(range(1, 9), tmp_path_factory.mktemp("bases"))


def followed(bases):
    """Those whose rules the reference knows."""
    some = [b for b in bases if {name for name, _ in parse(b.proof)[1]} == {"case", "visit"}]
    assert some
    return some


def test_mutants_are_rejected_or_proofs(bases, tmp_path):
    count = mutation_suite.run(bases, 4, tmp_path)
    assert count["bases"] >= 2
    assert count["mutations"] == 4 * len(MUTATIONS) * len(bases)
    assert count["wrong VALID"] == count["accepted, no proof"] == 0
    assert count["rejected"] > count["mutations"] / 2
    assert count["checks against unsafe twins"] >= 2 * count["mutations"]


def test_the_reference_accepts_what_the_checker_accepts(bases):
    for base in followed(bases):
        reference.follow(*base.safe, base.proof)


def test_the_reference_rejects_a_leaf_that_is_not_closed(bases):
    rejected = 0
    for base in followed(bases):
        header, blocks = parse(base.proof)
        columns = next(c for name, c in blocks if name == "visit")
        if columns["action"][0]:
            columns["action"][0] = 0
            for name in columns:
                if name.startswith("cut"):
                    columns[name] = columns[name][:0]
            last = next(i for i, b in enumerate(blocks) if b[1] is columns)
            try:
                reference.follow(*base.safe, build((header, blocks[: last + 1])))
            except reference.NoProofError:
                rejected += 1
    assert rejected


def test_the_reference_rejects_unsafe_twins(bases):
    for base in followed(bases):
        for network, prop in base.twins:
            with pytest.raises(reference.NoProofError):
                reference.follow(network, prop, base.proof)


def test_another_hash_is_rejected(bases, tmp_path):
    for base in bases:
        for old, new in ((b'"model":"', b'"model":"0'), (b'"verdict":"proved"', b'"verdict":"x"')):
            header, blocks = parse(base.proof)
            (tmp_path / "p").write_bytes(build((header.replace(old, new), blocks)))
            with pytest.raises(CertificateError, match="header"):
                nodes_checked(*base.safe, tmp_path / "p")
        for twin in base.twins:
            (tmp_path / "p").write_bytes(base.proof)
            with pytest.raises(CertificateError, match="header"):
                nodes_checked(*twin, tmp_path / "p")


@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_mutation_changes_the_file(bases, kind):
    rng, seen = np.random.default_rng(0), Counter()
    for _ in range(20):
        seen[mutate(bases[0].proof, kind, rng)] += 1
    assert bases[0].proof not in seen
    assert len(seen) >= 3
