"""The random matrix that hides the gradient, against exact arithmetic and enumeration."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn

from constructions.bias_part import bias_values, forms_of, signs_at
from constructions.bias_safety import attack_direction, attack_rate, hidden, random_rate
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.pgd import PGD
from torchbridge.bias_safety import (
    Hidden,
    Law,
    always_uniform,
    certain_direction,
    climbed,
    entry_bound,
    float_direction,
    hide,
    random_rows,
    scale_above,
    slope_difference,
    uniform_excess,
)
from torchbridge.convert import to_network, to_onnx
from verifier.bounds.interval import interval_bounds
from verifier.core.errors import DataError, NetworkError
from verifier.io.onnx import load_model


def generator(seed):
    return torch.Generator().manual_seed(seed)


def small(seed, d=3, m=2):
    """A module of d-4-4-m on a grid of quarters, and its network."""
    torch.manual_seed(seed)
    layers = [nn.Linear(d, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, m)]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((8 * torch.rand(p.shape) - 4).round() / 4)
    return model, to_network(model, (d,))


def at(network, x):
    return interval_bounds(network, np.array(x, float), np.array(x, float))


def test_the_laws():
    rows = random_rows(Law.gap, 3, 4000, 0.25, generator(1))
    units = rows / 0.25
    for i in range(3):
        sizes = units[i].abs()
        assert sizes.min() >= 2 * i + 1
        assert sizes.max() <= 2 * i + 2
        assert 2 * i + 1.45 < sizes.mean() < 2 * i + 1.55
        assert 1800 < (units[i] > 0).sum() < 2200
    rows = random_rows(Law.uniform, 2, 8000, 4.0, generator(2))
    assert rows.abs().max() < 4
    assert abs(float(rows.mean())) < 0.1
    assert float(rows.var()) == pytest.approx(16 / 3, rel=0.05)
    assert len(set(rows.ravel().tolist())) > 15000
    assert torch.equal(rows, random_rows(Law.uniform, 2, 8000, 4.0, generator(2)))
    again = hide(nn.Linear(8000, 2), Law.uniform, 2, 8000, 4.0, 2)
    assert (again.matrix == rows.double().numpy()).all()
    for scale in (3.0, 0.0, 2.0**70):
        with pytest.raises(DataError, match="power of two"):
            random_rows(Law.gap, 2, 2, scale, generator(0))


@pytest.mark.parametrize("seed", range(3))
def test_the_module_the_network_and_the_file_are_the_exact_one(seed, tmp_path):
    model, network = small(seed)
    rows = random_rows(Law.gap, 2, 3, 64.0, generator(seed))
    wide = Hidden(model, rows)
    made = to_network(wide, (3,))
    to_onnx(wide, tmp_path / "hidden.onnx", (3,))
    read = load_model(tmp_path / "hidden.onnx").network
    exact = hidden(network, [[Fraction(v) for v in row] for row in rows.tolist()])
    rng = np.random.default_rng(seed)
    for _ in range(10):
        x = [Fraction(int(v), 4) for v in rng.integers(-8, 9, 3)]
        assert made.exact(x) == exact.exact(x) == read.exact(x)
        # D.1, on kinks too: the bias part is that of C.
        assert bias_values(made, x) == bias_values(network, x)


def exact_entries(network, x):
    """max |J_ij| over the consistent patterns."""
    choices = [(True, False) if s == 0 else (s > 0,) for s in signs_at(network, x)]
    return max(
        abs(v) for bits in product(*choices) for v in forms_of(network, bits)[1].slope.ravel()
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_scale_is_proved_and_the_direction_is_that_of_the_theorem(seed):
    model, network = small(seed)
    rng = np.random.default_rng(seed)
    x = [Fraction(int(v), 8) for v in rng.integers(-8, 9, 3)]
    bounds = at(network, x)
    bound = entry_bound(network, bounds)
    assert Fraction(bound) >= exact_entries(network, x)
    assert entry_bound(network, None) >= bound
    scale = scale_above(bound)
    assert 2 * bound < scale <= 8 * max(bound, 2.0**-60)
    assert always_uniform(network, bounds, scale).all()
    rows = random_rows(Law.gap, 2, 3, scale, generator(seed))
    drawn = rows.double().numpy()
    for label in (0, 1):
        expected = np.sign(drawn[1]) * (1 if label == 0 else -1)
        difference = slope_difference(network, bounds)
        assert (certain_direction(difference, label, drawn, drawn) == expected).all()
        wide, point = Hidden(model, rows), np.array([[float(v) for v in x]])
        assert (wide.matrix == drawn).all()
        found = float_direction(wide, point, np.array([label]), (3,), Loss.margin)
        assert (found[0] == expected).all()
        if 0 not in signs_at(network, x):
            known = hidden(network, [[Fraction(v) for v in row] for row in drawn.tolist()])
            assert attack_direction(known, x, label) == tuple(expected)


def test_what_is_not_certain_is_not_said():
    found = (small(seed)[1] for seed in range(1, 50))
    bounded = ((net, at(net, [Fraction(1, 3)] * 3)) for net in found)
    network, bounds = next(b for b in bounded if (abs(slope_difference(*b)[0]) > 0.1).all())
    assert not always_uniform(network, bounds, 0.125).any()
    assert always_uniform(network, None, 2.0**30).all()
    # R may have either sign: nothing is certain.
    difference, wide = slope_difference(network, bounds), np.full((2, 3), 1e9)
    assert not certain_direction(difference, 0, -wide, wide).any()
    # R_2 − R_1 just beside J_1 − J_2.
    low, high = difference
    rows = np.zeros((2, 3))
    for by, expected in ((-low + 2.0**-40, 1), (-high - 2.0**-40, -1), (-0.5 * (low + high), 0)):
        rows[1] = by
        assert (certain_direction(difference, 0, rows, rows) == expected).all()
        assert (certain_direction(difference, 1, rows, rows) == -expected).all()


def test_all_signs_at_once_are_each_direction_once():
    """The exact law for d = 3, beside the one of ``constructions``."""
    _, network = small(4)
    x = [Fraction(1, 3), Fraction(-2, 7), Fraction(5, 11)]
    bounds = interval_bounds(
        network, *(np.nextafter([float(v) for v in x], way) for way in (-9, 9))
    )
    scale = scale_above(entry_bound(network, bounds))
    seen = []
    for signs in product((-1, 1), repeat=3):
        second = np.sort(np.array([[3.0], [4.0]]) * scale * np.array(signs), axis=0)
        first = np.array([[-2.0], [2.0]]) * scale * np.ones(3)
        least, most = (np.stack([first[k], second[k]]) for k in (0, 1))
        direction = certain_direction(slope_difference(network, bounds), 1, least, most)
        assert tuple(direction) == tuple(-s for s in signs)
        seen.append(tuple(direction))
    assert sorted(seen) == sorted(product((-1, 1), repeat=3))
    rate = attack_rate(network, x, 1, Fraction(1), Fraction(scale))
    assert rate == random_rate(network, x, 1, Fraction(1))


def test_cross_entropy_in_floats_loses_the_gradient_and_the_margin_does_not():
    model, _ = small(2)
    rows = random_rows(Law.gap, 2, 3, 2.0**12, generator(3))
    wide, x = Hidden(model, rows), np.array([[0.5, -0.25, 0.75]])
    label = np.array([int(wide(torch.tensor(x).float()).argmax())])
    assert not float_direction(wide, x, label, (3,), Loss.ce).any()
    assert float_direction(wide, x, label, (3,), Loss.margin).all()


def test_climbing_stays_in_the_balls_and_finds_what_is_wrong():
    model, _ = small(6)
    x = np.random.default_rng(1).uniform(-1, 1, (20, 3)).astype(np.float32)
    labels = model(torch.from_numpy(x)).argmax(1).numpy()
    lower, upper = x - np.float32(1), x + np.float32(1)
    found = climbed(model, (x, lower, upper), labels, (3,), 0, PGD(5, 2))
    assert ((lower <= found) & (found <= upper)).all()
    assert (model(torch.from_numpy(found)).argmax(1).numpy() != labels).any()
    assert np.array_equal(found, climbed(model, (x, lower, upper), labels, (3,), 0, PGD(5, 2)))


def test_nearly_uniform_entries_have_a_small_excess():
    assert 1 < uniform_excess(784, 1.0, 2.0**20) < 1 + Fraction(2, 1000)
    assert uniform_excess(2, 1.0, 1.0) > 4


def test_more_than_two_classes_are_refused():
    _, network = small(0, m=3)
    bounds = at(network, [0, 0, 0])
    with pytest.raises(NetworkError, match="two classes"):
        always_uniform(network, bounds, 1.0)
    with pytest.raises(NetworkError, match="two classes"):
        slope_difference(network, bounds)
    with pytest.raises(NetworkError, match="no useful bound"):
        scale_above(np.inf)
