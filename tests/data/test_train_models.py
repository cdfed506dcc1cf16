"""The training script's interval rules contain what the modules compute."""

import importlib

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("train_models")


@pytest.mark.parametrize("index", range(4))
def test_worst_logits_bound_sampled_points(script, index):
    torch.manual_seed(index)
    recipe = script.RECIPES[index]
    model = recipe.build().double()
    model(torch.rand(32, *recipe.input_shape, dtype=torch.float64))  # batch statistics
    model.eval()
    x = torch.rand(5, *recipe.input_shape, dtype=torch.float64)
    labels = torch.arange(5)
    eps = 0.05
    with torch.no_grad():
        worst = script.worst_logits(model, x, labels, eps)
        for _ in range(50):
            point = (x + eps * (2 * torch.rand_like(x) - 1).sign()).clamp(0, 1)
            logits = model(point)
            assert (logits - logits.gather(1, labels[:, None]) <= worst + 1e-9).all()
    assert worst.gather(1, labels[:, None]).abs().max() < 1e-9


def test_interval_refuses_a_module_without_a_rule(script):
    with pytest.raises(TypeError, match="Sigmoid"):
        script.interval(torch.nn.Sigmoid(), torch.zeros(1), torch.ones(1))


def test_training_twice_gives_the_same_weights(script):
    torch.set_num_threads(1)
    recipe = script.RECIPES[0]
    first, second = script.train(recipe), script.train(recipe)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
