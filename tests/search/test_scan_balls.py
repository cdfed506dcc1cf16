"""Boxes through running-maximum Scans: never proved when wrong, always proved by the theorem."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.core.property import Property
from verifier.core.scan import ScanNetwork
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.search.scan_balls import Balls, run


def random_scan(rng: np.random.Generator, bits: int) -> ScanNetwork:
    """Random thresholds, with a common offset of many bits if asked."""
    n, d, size = rng.integers(1, 8), rng.integers(1, 70), rng.integers(2, 5)
    below = np.sort(rng.integers(0, 30, size) / 8) + 2.0**bits
    return ScanNetwork(
        rng.integers(0, size, (n, d)).astype(np.uint8),
        below + rng.integers(0, 4, size) / 8,
        below,
        rng.integers(1, 5, n).astype(np.float64),
        float(rng.integers(0, 4) / 4),
        float(rng.choice([0.25, 1.0, 3.0, 8.0])),
        (int(d),),
    )


def balls_near(rng: np.random.Generator, network: ScanNetwork) -> Balls:
    """Boxes around samples, a bit larger or smaller than their thresholds say."""
    reach = Fraction(int(rng.integers(-1, 3)), 16)
    shift = Fraction(network.shift)
    low = [Fraction(v) - shift - reach for v in network.below]
    high = [max(Fraction(v) - shift + reach, a) for v, a in zip(network.above, low, strict=True)]
    labels = network.labels.astype(np.int64)
    changed = rng.integers(1, 5, len(labels))
    labels = np.where(rng.random(len(labels)) < 0.3, changed, labels)
    hints = np.where(rng.random(len(labels)) < 0.5, np.arange(len(labels)), -1)
    return Balls(network.which, low, high, labels, hints)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([1, 12, 25, 40]))
def test_proved_is_true_and_refuted_is_shown(seed, bits):
    rng = np.random.default_rng(seed)
    network = random_scan(rng, bits)
    balls = balls_near(rng, network)
    for k, verdict in enumerate(run(network, balls)):
        box = balls.box(k)
        prop = Property.near(box, int(balls.labels[k]))
        if isinstance(verdict, Refuted):
            witness = verdict.witness
            assert all(a <= v <= b for a, v, b in zip(box.lower, witness.x, box.upper, strict=True))
            assert network.exact(witness.x) == witness.y
            assert prop.violation(witness.x, witness.y) == (witness.case, witness.clause)
        if isinstance(verdict, Proved):
            faces = np.array([box.lower, box.upper], dtype=object)
            columns = np.arange(network.n_inputs)
            points = [faces[rng.integers(0, 2, len(columns)), columns] for _ in range(6)]
            for i in range(network.n_samples):  # the point of the box nearest to each sample
                near = [Fraction(v) - Fraction(network.shift) for v in network.below]
                goal = np.array([near[w] for w in network.which[i]], dtype=object)
                points.append(np.minimum(np.maximum(goal, faces[0]), faces[1]))
            for point in points:
                assert prop.violation(tuple(point), network.exact(point)) is None


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_upper_bound_is_attained(seed):
    """A box that some sample pulls above its label is refuted, never unknown."""
    rng = np.random.default_rng(seed)
    network = random_scan(rng, 3)
    balls = balls_near(rng, network)
    for k, verdict in enumerate(run(network, balls)):
        if isinstance(verdict, Unknown):
            box = balls.box(k)
            middle = [(a + b) / 2 for a, b in zip(box.lower, box.upper, strict=True)]
            assert (
                Property.near(box, int(balls.labels[k])).violation(
                    tuple(middle), network.exact(middle)
                )
                is None
            )


def two_samples(slope: float = 8.0) -> tuple[ScanNetwork, Balls]:
    """Samples 0 and 4 on a line with labels 1 and 2; balls of radius 1; σ = 2."""
    network = ScanNetwork(
        np.array([[0], [1]], dtype=np.uint8),
        np.array([3.0, 7.0]),
        np.array([1.0, 5.0]),
        np.array([1.0, 2.0]),
        2.0,
        slope,
        (1,),
    )
    one = Fraction(1)
    balls = Balls(
        network.which, [-one, 3 * one], [one, 5 * one], np.array([1, 2]), np.array([0, -1])
    )
    return network, balls


def test_the_two_samples():
    verdicts = run(*two_samples())
    assert [type(v) for v in verdicts] == [Proved, Proved]
    assert [v.evidence[0].hit for v in verdicts] == [0, 1]


def test_a_slope_that_is_too_small():
    """With K = 1/8 the second sample reaches the first ball: 2 − 2/8 > 3/2 at x = 1."""
    network, balls = two_samples(slope=0.125)
    verdicts = run(network, balls)
    assert isinstance(verdicts[0], Refuted)
    assert verdicts[0].witness.y == (Fraction(7, 4),)
    assert isinstance(verdicts[1], Proved)


def test_what_is_not_decided():
    network, balls = two_samples()
    below = Balls(balls.which, [Fraction(-3), Fraction(3)], balls.high, balls.labels, balls.hints)
    assert run(network, below)[0].reason.startswith("the box reaches below")
    crossed = ScanNetwork(
        network.which, network.below, network.above, network.labels, 2.0, 8.0, (1,)
    )
    assert all(isinstance(v, Unknown) for v in run(crossed, balls))
    fine = ScanNetwork(
        network.which,
        network.above + 2.0**53,
        network.below + 2.0**-3,
        network.labels,
        2.0,
        8.0,
        (1,),
    )
    assert "bits" in run(fine, balls)[0].reason


def test_progress():
    network, balls = two_samples()
    seen = []
    run(network, balls, seen.append)
    assert seen == [1.0]
