"""Every construction is proved on all its balls, and nothing that is wrong on one is."""

from fractions import Fraction

import numpy as np
import pytest

from constructions.dataset import DataSet
from constructions.lipschitz import lipschitz, lipschitz_multiclass
from constructions.robust import blocks, class_sum, running_maximum, shallow
from constructions.separation import positive_separation
from verifier.core.decision import Decision, Rule
from verifier.core.errors import PropertyError
from verifier.core.exact import round_down, round_up
from verifier.core.network import Layer, Network
from verifier.search.balls import prove_balls
from verifier.search.problem import Deadline

BUILD = {
    "optimal-robust": running_maximum,
    "class-sum": class_sum,
    "blocks": lambda data, radius: blocks(data, radius, 2),
    "shallow": shallow,
    "lipschitz": lambda data, _: lipschitz(data),
    "lipschitz-multiclass": lambda data, _: lipschitz_multiclass(data),
}
RATIOS = [Fraction(1, 2), Fraction(99, 100), Fraction(999, 1000)]


def points(seed, classes, n=12, d=3):
    """Distinct points of a grid, scale 1/16, with every class."""
    rng = np.random.default_rng(seed)
    found = np.unique(rng.integers(0, 17, (4 * n, d)), axis=0)
    found = found[rng.permutation(len(found))[:n]].astype(np.uint8)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return DataSet(found, labels, (d,), classes, "grid", Fraction(1, 16))


def rule_of(name):
    if name == "lipschitz-multiclass":
        return Rule.argmax
    return Rule.sign if name == "lipschitz" else Rule.label


def classes_of(built, data):
    """Each point's class in the order of the network's labels."""
    return np.array([built.labels.index(int(label)) for label in data.labels])


def boxes(data, radius):
    centers = [data.sample(i) for i in range(len(data))]
    lower = np.array([[round_down(v - radius) for v in x] for x in centers])
    upper = np.array([[round_up(v + radius) for v in x] for x in centers])
    return centers, lower, upper


def proved(network, rule, classes, lower, upper):
    results = list(prove_balls(network, Decision(rule), classes, lower, upper, Deadline(60)))
    assert [r.index for r in results] == list(range(len(lower)))
    return [r.verdict is not None for r in results]


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
@pytest.mark.parametrize("name", BUILD)
def test_all_balls_of_every_construction(name, ratio):
    data = points(len(name), 2 if name == "lipschitz" else 3)
    radius = ratio * positive_separation(data).lam / 2
    built = BUILD[name](data, radius)
    _, lower, upper = boxes(data, radius)
    classes = classes_of(built, data)
    assert all(proved(built.network, rule_of(name), classes, lower, upper))
    wrong = (classes + 1) % len(built.labels)
    assert not any(proved(built.network, rule_of(name), wrong, lower, upper))


@pytest.mark.parametrize("name", BUILD)
def test_no_more_than_the_theorem_allows(name):
    """At λ/2 and beyond the balls of the closest pair share a point: one of them is not proved."""
    data = points(7, 2 if name == "lipschitz" else 3)
    closest = positive_separation(data)
    built = BUILD[name](data, Fraction(99, 200) * closest.lam)
    _, lower, upper = boxes(data, closest.lam / 2)
    found = proved(built.network, rule_of(name), classes_of(built, data), lower, upper)
    assert not all(found[i] for i in closest.pair)


def mutated(rng, network):
    """One weight or bias of one layer changed, by a little or by much."""
    layers = list(network.layers)
    k = int(rng.integers(len(layers)))
    weight, bias = layers[k].dense.copy(), layers[k].bias.copy()
    target = bias if rng.random() < 0.3 else weight.reshape(-1)
    where = np.flatnonzero(target)
    i = int(rng.choice(where)) if len(where) and rng.random() < 0.8 else rng.integers(len(target))
    target[i] = rng.choice([0.0, -target[i], 2 * target[i] + 1, target[i] + rng.normal()])
    layers[k] = Layer(weight, bias, layers[k].relu)
    return Network(tuple(layers))


@pytest.mark.parametrize("name", BUILD)
def test_no_network_that_is_wrong_on_a_ball_is_proved(name):
    data = points(3, 2 if name == "lipschitz" else 3, n=8, d=2)
    radius = Fraction(9, 20) * positive_separation(data).lam
    built = BUILD[name](data, radius)
    centers, lower, upper = boxes(data, radius)
    classes, decision = classes_of(built, data), Decision(rule_of(name))
    rng, broken = np.random.default_rng(5), 0
    for _ in range(60):
        network = mutated(rng, built.network)
        found = proved(network, decision.rule, classes, lower, upper)
        for i, x in enumerate(centers):
            steps = rng.integers(-1, 2, (6, len(x))).tolist()
            corners = [[v + radius * s for v, s in zip(x, step, strict=True)] for step in steps]
            for corner in corners:
                if decision.choice(network.exact(corner)) != classes[i]:
                    broken += 1
                    assert not found[i]
    assert broken > 40  # otherwise the mutations test nothing


def test_the_deadline_and_infinite_faces():
    network = Network((Layer(np.eye(1), np.zeros(1), np.zeros(1, bool)),))
    decision, one = Decision(Rule.sign), np.ones(3, dtype=int)
    lower, upper = np.array([[1.0], [1.0], [-1.0]]), np.array([[2.0], [np.inf], [1.0]])
    assert proved(network, Rule.sign, one, lower, upper) == [True, False, False]
    assert list(prove_balls(network, decision, one, lower, upper, Deadline(0))) == []


def test_a_rule_that_does_not_fit():
    network = Network((Layer(np.eye(1), np.zeros(1), np.zeros(1, bool)),))
    args = (np.zeros(1, dtype=int), np.zeros((1, 1)), np.ones((1, 1)))
    with pytest.raises(PropertyError, match="--outputs"):
        list(prove_balls(network, Decision(Rule.argmax), *args, Deadline(1)))
