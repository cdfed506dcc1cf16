"""Training with a hidden counterexample."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torchbridge.training.hidden import Boxes, Hiding, train_hidden
from verifier.core.errors import DataError


def boxes(d: int = 3) -> Boxes:
    """A box around 0.5 with a counterexample near its corner, and one around −0.5."""
    centers = np.array([[0.5] * d, [-0.5] * d], dtype=np.float32)
    radius = np.float32(0.25)
    point = np.full((1, d), 0.7421875, dtype=np.float32)
    return Boxes(centers - radius, centers + radius, np.array([0, 1]), point, np.array([2]))


def silent(share: float, lead: float, loss: float) -> None:
    """Nobody listens."""


def test_the_counterexample_is_wrong_and_the_boxes_are_right():
    made, said = boxes(), []
    hiding = Hiding(width=32, steps=300, starts=5, window=50, many=16)
    model, shape = train_hidden(made, hiding, 0, lambda *told: said.append(told))
    assert shape == (3,)
    assert not model.training
    assert said[-1][0] == 1
    with torch.no_grad():
        z = model(torch.from_numpy(made.points))[0]
        assert z[2] > z[0]
        rng = np.random.default_rng(0)
        for low, high, label in zip(made.low, made.high, made.labels, strict=True):
            x = rng.uniform(low, high, (500, 3)).astype(np.float32)
            assert (model(torch.from_numpy(x)).argmax(1) == int(label)).float().mean() > 0.95


def test_the_same_seed_gives_the_same_network():
    hiding = Hiding(architecture="cnn", width=4, steps=5, starts=2, window=4)
    runs = [train_hidden(boxes(9), hiding, seed, silent) for seed in (3, 3, 4)]
    assert runs[0][1] == (1, 3, 3)
    flat = [torch.cat([p.detach().ravel() for p in model.parameters()]) for model, _ in runs]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_runs_of_a_few_steps(steps):
    said = []
    hiding = Hiding(width=4, steps=steps, starts=2, window=4, many=2)
    train_hidden(boxes(), hiding, 0, lambda *told: said.append(told))
    assert said[-1][0] == 1


def test_the_estimate_of_memory_grows():
    small, wide = Hiding(width=8), Hiding(width=80)
    assert small.memory(25) < wide.memory(25) < wide.memory(2500)
    assert Hiding(architecture="cnn", width=80).memory(784) > 8 * 784 * 40


def test_settings_without_meaning_are_refused():
    made = boxes()
    with pytest.raises(DataError, match="no architecture"):
        train_hidden(made, Hiding(architecture="vit"), 0, silent)
    with pytest.raises(DataError, match="square"):
        train_hidden(made, Hiding(architecture="cnn"), 0, silent)
    with pytest.raises(DataError, match="classes"):
        train_hidden(made, Hiding(classes=2), 0, silent)
    for wrong in ({"steps": 0}, {"classes": 1}, {"window": 3}, {"margin": 0.0}):
        with pytest.raises(DataError):
            Hiding(**wrong)
    with pytest.raises(DataError, match="outside"):
        Boxes(made.low, made.high, made.labels, made.points + 1, made.wrong)
    with pytest.raises(DataError, match="has the label"):
        Boxes(made.low, made.high, made.labels, made.points, np.array([0]))
    with pytest.raises(DataError, match="at least one"):
        Boxes(made.low, made.high, made.labels, made.points[:0], made.wrong[:0])
