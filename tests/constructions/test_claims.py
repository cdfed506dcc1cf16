"""Claims: what holds and what does not, and that a broken one cannot be overlooked."""

import json
from fractions import Fraction

import numpy as np
import pytest

from constructions.claims import Claim, ClaimError, Claims, network_claims
from verifier.core.errors import RelucidError
from verifier.core.network import Layer, Network


def layer(weight, relu):
    rows = len(weight)
    return Layer(np.array(weight, float), np.zeros(rows), np.full(rows, relu))


# 2 -> 3 (ReLU) -> 1; five nonzero weights.
SMALL = Network((layer([[1, 0], [0, 1], [1, 0]], True), layer([[1, -1, 0]], False)))


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (Claim.equal("width", 7, 7, "s"), True),
        (Claim.equal("width", 7, 8, "s"), False),
        (Claim.equal("radius", Fraction(14, 2), 7, "s"), True),
        (Claim.equal("radius", Fraction(1, 3), Fraction(333333333333, 10**12), "s"), False),
        (Claim.equal("width", 7, "7", "s"), False),
        (Claim.at_most("boxes", 200, 200, "s"), True),
        (Claim.at_most("boxes", 200, 201, "s"), False),
        (Claim.at_least("radius", Fraction(1, 3), Fraction(1, 3), "s"), True),
        (Claim.at_least("radius", Fraction(1, 3), Fraction(333, 1000), "s"), False),
        (Claim.true("label on every ball", True, "s"), True),
        (Claim.true("label on every ball", False, "s"), False),
    ],
)
def test_a_claim_is_decided_exactly(claim, holds):
    assert claim.holds is holds
    claims = Claims("robust", (claim,))
    assert claims.hold is holds
    assert claims.broken == (() if holds else (claim,))


def test_check_returns_the_claims_that_hold():
    claims = Claims("robust", (Claim.equal("width", 7, 7, "3d + 1"),))
    assert claims.check() is claims


def test_check_names_every_broken_claim_and_no_other():
    claims = Claims(
        "robust",
        (
            Claim.equal("width", 7, 8, "3d + 1"),
            Claim.equal("depth", 5, 5, "2N + 1"),
            Claim.at_most("boxes", 200, 201, "theorem 2"),
            Claim.true("label", False, "theorem 3"),
        ),
    )
    with pytest.raises(ClaimError) as caught:
        claims.check()
    assert str(caught.value) == (
        "robust: width should be 7, is 8 (3d + 1); boxes should be ≤ 200, is 201 (theorem 2); "
        "label should be yes, is no (theorem 3)"
    )


def test_a_broken_claim_is_not_the_inputs_fault():
    assert not issubclass(ClaimError, RelucidError)


def test_no_claims_at_all_do_not_hold():
    assert not Claims("robust", ()).hold
    with pytest.raises(ClaimError, match="robust: nothing was claimed"):
        Claims("robust", ()).check()


@pytest.mark.parametrize("value", [0.5, np.int64(3), True, None, np.float64(1)])
@pytest.mark.parametrize("place", ["expected", "actual"])
def test_only_exact_values_can_be_claimed(value, place):
    values = {"expected": 3, "actual": 3, place: value}
    with pytest.raises(TypeError, match="claim 'width': expected int, Fraction or str"):
        Claim.equal("width", **values, source="s")


def test_sizes_are_read_from_the_network():
    sizes = {"n_inputs": 2, "n_outputs": 1, "width": 3, "depth": 2, "n_relu": 3, "nonzeros": 5}
    claims = network_claims("small", SMALL, "by hand", **sizes)
    assert len(claims.check()) == 6
    for name in sizes:
        wrong = network_claims("small", SMALL, "by hand", **{**sizes, name: sizes[name] + 1})
        assert [c.actual for c in wrong.broken] == [sizes[name]]


def test_only_what_is_promised_is_claimed():
    claims = network_claims("small", SMALL, "by hand", width=3, depth=None)
    assert [c.name for c in claims] == ["width"]
    with pytest.raises(TypeError, match="unknown size 'height'"):
        network_claims("small", SMALL, "by hand", height=3)


def test_table_and_json_say_what_fails():
    first = Claims("small", (Claim.equal("radius", Fraction(7, 32), Fraction(7, 32), "λ/2"),))
    claims = first + Claims("other", (Claim.at_most("boxes", 200, Fraction(201), "theorem 2"),))
    assert claims.construction == "small"
    assert claims.table() == [
        "claim   promised  found  holds  source",
        "radius  7/32      7/32   yes    λ/2",
        "boxes   ≤ 200     201    NO     theorem 2",
    ]
    radius, boxes = json.loads(json.dumps(claims.record()))
    assert radius == {
        "name": "radius", "relation": "=", "expected": "7/32", "actual": "7/32", "holds": True,
        "source": "λ/2",
    }  # fmt: skip
    assert (boxes["expected"], boxes["actual"], boxes["holds"]) == (200, 201, False)
