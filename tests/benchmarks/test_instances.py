"""Choosing instances of a set."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "instances", raising=False)
    import instances

    yield instances
    sys.modules.pop("instances", None)


@pytest.fixture
def ten(module):
    return [module.Instance(f"net{k % 2}.onnx", f"prop_{k}.vnnlib", 5.0) for k in range(10)]


def numbers(instances):
    return [int(i.property[5:-7]) for i in instances]


def test_an_expression_sees_network_and_property(module, ten):
    assert numbers(module.choose(ten, "net1")) == [1, 3, 5, 7, 9]
    assert numbers(module.choose(ten, "net0.*_(2|3|4)")) == [2, 4]


def test_each_nth_of_what_matches(module, ten):
    assert numbers(module.choose(ten, "net1", every=2)) == [1, 5, 9]
    assert numbers(module.choose(ten, every=3, limit=2)) == [0, 3]


def test_a_seed_gives_an_order_again(module, ten):
    once = numbers(module.choose(ten, seed=3))
    assert sorted(once) == list(range(10))
    assert once != list(range(10))
    assert numbers(module.choose(ten, seed=3)) == once
    assert numbers(module.choose(ten, seed=4)) != once
    assert numbers(module.choose(ten, seed=3, limit=4)) == once[:4]


@pytest.mark.parametrize(
    "arguments", [{"expression": "net2"}, {"expression": "("}, {"every": 0}, {"limit": 0}]
)
def test_what_makes_no_sense_is_refused(module, ten, arguments):
    with pytest.raises(module.BadInputError):
        module.choose(ten, **arguments)
