"""Networks whose gradients are masked: gradient attacks fail, BPDA and EOT do not."""

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_targets import answers, centers, random_network, regions, target

from torchbridge.attacks.campaign import Named, Run, attack_points
from torchbridge.attacks.masking import (
    Randomised,
    exact_mean,
    exact_quantised,
    expectation,
    quantised,
    straight_through,
)
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.square import Square
from torchbridge.attacks.substitute import Substitute, train_surrogate
from torchbridge.attacks.target import Target
from verifier.core.errors import DataError


def masked():
    """A network behind ⌊16 x⌋ / 16, and balls of radius 1/8."""
    rng = np.random.default_rng(0)
    network = random_network(rng, (10, 24, 24, 4))
    plain = target(network)
    layer, exact = quantised(16), exact_quantised(network.exact, 16)
    module = Target(lambda x: plain.module(layer(x)), exact, plain.decision, 4)
    points = centers(rng, 40, 10)
    labels = [max(range(4), key=exact(p).__getitem__) for p in points]
    return plain, module, layer, exact, regions(LinfBall, points, "1/8"), labels


def broken(classifier, attack, balls, labels, exact):
    """How many; each is looked at again."""
    found = attack_points(classifier, [Named("it", attack)], balls, labels, Run())
    count = 0
    for ball, label, one in zip(balls, labels, found, strict=True):
        if one.witness is not None:
            count += 1
            assert ball.contains(one.witness.x)
            y = exact(one.witness.x)
            assert max(v for k, v in enumerate(y) if k != label) >= y[label]
    return count


def test_bpda_breaks_what_pgd_does_not():
    plain, module, layer, exact, balls, labels = masked()
    pgd = PGD(restarts=1)
    by_pgd = broken(module, pgd, balls, labels, exact)
    through = Substitute(straight_through(layer, plain.module), pgd)
    by_bpda = broken(module, through, balls, labels, exact)
    assert by_pgd == 0  # the gradient is 0 everywhere
    assert by_bpda >= 15
    # Queries need no gradient.
    assert broken(module, Square(queries=300), balls, labels, exact) >= 0.8 * by_bpda


def test_the_quantised_layer_is_exact():
    layer = quantised(16)
    exact = exact_quantised(lambda v: tuple(v), 16)
    for value in (0.0, 1.0, 0.0625, float(np.nextafter(np.float32(0.0625), np.float32(0))), 0.999):
        got = layer(torch.tensor([[value]])).item()
        assert exact([Fraction(float(np.float32(value)))]) == (Fraction(got),)


def test_eot_breaks_what_single_draws_do_not():
    """One draw that is wrong ends PGD; the mean over all shifts is what counts."""
    rng = np.random.default_rng(1)
    network = random_network(rng, (10, 24, 24, 4))
    plain = target(network)
    shifts = rng.integers(-64, 65, (32, 10)) / 64.0
    exact = exact_mean(network.exact, [[Fraction(float(v)) for v in row] for row in shifts])
    random = Randomised(
        plain.module, torch.tensor(shifts, dtype=torch.float32), torch.Generator().manual_seed(0)
    )
    module = Target(random, exact, plain.decision, 4, sure=False)
    points = centers(rng, 40, 10)
    labels = [max(range(4), key=exact(p).__getitem__) for p in points]
    balls = regions(LinfBall, points, "1/8")
    pgd = PGD(restarts=1, steps=30)
    single = broken(module, pgd, balls, labels, exact)
    mean = broken(module, Substitute(expectation(random, 32), pgd), balls, labels, exact)
    assert mean > 1.3 * single
    assert mean >= 8


def test_transfer_from_itself_and_from_a_trained_surrogate():
    rng = np.random.default_rng(2)
    network = random_network(rng, (8, 16, 3))
    plain = target(network)
    points = centers(rng, 40, 8)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/5")
    pgd = PGD(restarts=1)
    strong = PGD(restarts=1, confidence=float("inf"))
    direct = broken(plain, pgd, balls, labels, network.exact)
    itself = broken(plain, Substitute(plain.module, strong), balls, labels, network.exact)
    assert itself == direct > 5
    x = torch.rand((500, 8), generator=torch.Generator().manual_seed(0))
    answered = plain.module(x).argmax(1)
    models = [train_surrogate(x, answered, 3, seed=4, epochs=30) for _ in range(2)]
    assert all(
        torch.equal(a, b)
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True)
    )
    assert (models[0](x).argmax(1) == answered).float().mean() > 0.9
    black = broken(plain, Substitute(models[0], strong), balls, labels, network.exact)
    assert 0.6 * direct <= black <= direct + 2


def test_a_surrogate_needs_answers():
    with pytest.raises(DataError, match="0 inputs"):
        train_surrogate(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2, seed=0)
    with pytest.raises(DataError, match="1 answers"):
        train_surrogate(torch.zeros(2, 3), torch.zeros(1, dtype=torch.long), 2, seed=0)
