"""Certificates of bias classifiers are refused with any part changed."""

from dataclasses import replace
from fractions import Fraction

import pytest

from constructions.bias import random_network, twin_units
from constructions.bias_check import (
    BiasProof,
    BiasWitness,
    check_bias_proof,
    check_bias_witness,
)
from constructions.bias_regions import decide_bias
from verifier.core.errors import CertificateError
from verifier.core.property import Box

BOX = Box.ball((0,) * 3, Fraction(1, 8))
TWINS = Box.ball((1,), 1)


@pytest.fixture(scope="module")
def proved():
    network = random_network(3, (3, 5, 5, 2))
    proof = decide_bias(network, BOX, 0)
    assert isinstance(proof, BiasProof)
    check_bias_proof(network, BOX, 0, proof)
    return network, proof


def test_every_cut_is_needed_and_every_weight_checked(proved):
    network, proof = proved
    for prefix, weights in proof.cuts.items():
        without = {p: w for p, w in proof.cuts.items() if p != prefix}
        for cuts in (
            without,
            proof.cuts | {prefix: tuple(0 * w for w in weights)},
            proof.cuts | {prefix: tuple(-w for w in weights)},
            proof.cuts | {prefix: (*weights, Fraction(1))},
        ):
            with pytest.raises(CertificateError):
                check_bias_proof(network, BOX, 0, replace(proof, cuts=cuts))


def test_a_proof_fits_one_box_label_margin_and_count(proved):
    network, proof = proved
    large = Box.ball((0,) * 3, 1)
    for box, label, changed in (
        (large, 0, proof),
        (BOX, 1, proof),
        (BOX, 0, replace(proof, margin=proof.margin * 2)),
        (BOX, 0, replace(proof, regions=proof.regions + 1)),
    ):
        with pytest.raises(CertificateError):
            check_bias_proof(network, box, label, changed)


def test_a_cut_of_everything_proves_nothing(proved):
    network, proof = proved
    with pytest.raises(CertificateError):
        check_bias_proof(network, BOX, 0, replace(proof, cuts={(): ()}))


def test_a_weak_proof_is_no_strong_one():
    network = twin_units()
    weak = decide_bias(network, TWINS, 0, strong=False)
    assert isinstance(weak, BiasProof)
    check_bias_proof(network, TWINS, 0, weak)
    with pytest.raises(CertificateError):
        check_bias_proof(network, TWINS, 0, replace(weak, strong=True))


def test_witnesses():
    network = twin_units()
    found = decide_bias(network, TWINS, 0)
    assert isinstance(found, BiasWitness)
    check_bias_witness(network, TWINS, 0, found)
    off = (Fraction(3, 2),)
    for changed in (
        replace(found, strong=False),
        replace(found, x=off),
        replace(found, x=(Fraction(3),)),
        replace(found, pattern=(False, True)),
        replace(found, pattern=(True, True)),
        replace(found, pattern=(True,)),
        replace(found, other=0),
        replace(found, other=2),
    ):
        with pytest.raises(CertificateError):
            check_bias_witness(
                network, TWINS, 1 if changed.pattern == (False, True) else 0, changed
            )
