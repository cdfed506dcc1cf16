"""Architectures: shapes, the number of weights that their papers give, seeds, and bad inputs."""

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torchbridge.convert import to_network
from torchbridge.training.architectures import ARCHITECTURES, SMALLEST, build
from verifier.core.errors import DataError


def numbers(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_have_one_number_a_class(name):
    model = build(name, (3, 32, 32), 7, seed=0).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_sizes_are_those_of_the_literature():
    # LeNet-5's layers; ResNet-18 and VGG-16 (one linear layer) for CIFAR-10, as published, the
    # latter with the biases of its 4224 channels, which batch normalisation makes idle.
    assert numbers(build("lenet5", (28, 28), 10, 0)) == 61706
    assert numbers(build("resnet18", (3, 32, 32), 10, 0)) == 11173962
    assert numbers(build("vgg16", (3, 32, 32), 10, 0)) == 14728266 - 4224


def test_the_seed_decides_the_weights_and_nothing_else_is_moved():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, third = (build("mlp", (4,), 3, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["1.weight"], third["1.weight"])


@pytest.mark.parametrize("name", ["mlp", "small-cnn", "lenet5"])
def test_every_small_one_is_an_exact_network(name):
    model = build(name, (12, 12), 3, seed=2).eval()
    network = to_network(model, (1, 12, 12))
    assert network.n_inputs == 144
    assert network.n_outputs == 3


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_pictures_pass_and_smaller_ones_are_refused(name):
    side = SMALLEST[name]
    assert build(name, (1, side, side), 2, 0).eval()(torch.zeros(1, 1, side, side)).shape == (1, 2)
    with pytest.raises(DataError, match=f"{side} × {side} at least"):
        build(name, (1, side - 1, side), 2, 0)


def test_bad_inputs_are_named():
    with pytest.raises(DataError, match="no architecture 'lenet'"):
        build("lenet", (28, 28), 10, 0)
    with pytest.raises(DataError, match="shape \\(64,\\) are none"):
        build("lenet5", (64,), 10, 0)
