"""A training run: it learns, it is repeatable, it goes on after kill -9 with the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from constructions.dataset import DataSet, load_dataset
from relucid.training import points_of
from torchbridge.training.loop import Training, accuracy, robust_share
from torchbridge.training.points import Points, moved
from torchbridge.training.recipe import RECIPES, recipe
from verifier.core.errors import DataError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits:train"), load_dataset("digits:test")


@pytest.fixture(scope="module")
def whole(digits):
    return tuple(map(points_of, digits))


def small(digits, count=300):
    return points_of(digits[0].subset(slice(count))), points_of(digits[1].subset(slice(100)))


def tensors(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


class StoppedError(Exception):
    pass


def stop_after(steps):
    told = []

    def listen(report):
        told.append(report)
        if len(told) == steps:
            raise StoppedError

    return listen


def test_a_network_learns_and_the_history_says_so(whole):
    run = Training(recipe("normal", architecture="mlp", epochs=15, batch=32), *whole)
    reports = []
    model = run.run(reports.append)
    assert not model.training
    assert run.state.history[-1].accuracy > 0.85
    assert run.state.history[-1].accuracy == accuracy(model, run.held_out)
    assert [row.epoch for row in run.state.history] == list(range(1, 16))
    assert run.state.history[-1].loss < run.state.history[0].loss / 3
    assert all(row.robust is None for row in run.state.history)
    assert reports[-1].share == 1.0
    assert reports[-1].left == 0.0
    assert len(reports) == run.steps


def test_robust_recipes_are_more_robust_than_the_normal_one(whole):
    shares = {}
    for name in ("normal", "adversarial", "adversarial-cw", "trades", "certified"):
        made = recipe(name, architecture="mlp", epochs=25, batch=64, eps=0.1)
        run = Training(made, *whole)
        run.run()
        shares[name] = robust_share(run.model, run.held_out, 0.1, run.noise)
    normal = shares.pop("normal")
    assert all(share > normal + 0.1 for share in shares.values()), (normal, shares)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step_and_is_repeatable(name, digits):
    learnt, held_out = small(digits, 64)
    architecture = "mlp" if name != "certified" else "small-cnn"
    made = recipe(name, architecture=architecture, epochs=2, batch=32, seed=3)
    first, second = (Training(made, learnt, held_out) for _ in range(2))
    before = tensors(first.model)
    first.run()
    second.run()
    assert same(tensors(first.model), tensors(second.model))
    assert not same(before, tensors(first.model))


@pytest.mark.parametrize(
    ("steps", "architecture"),
    [(1, "mlp"), (4, "mlp"), (7, "mlp"), (10, "mlp"), (11, "mlp"), (6, "small-cnn")],
)
def test_an_interrupted_run_ends_with_the_same_bits(steps, architecture, digits, tmp_path):
    made = recipe("adversarial", architecture=architecture, epochs=3, batch=64, seed=2)
    whole = Training(made, *small(digits))
    whole.run()
    part = Training(made, *small(digits), path=tmp_path / "c", every=0.0)
    with pytest.raises(StoppedError):
        part.run(stop_after(steps))
    again = Training(made, *small(digits), path=tmp_path / "c")
    assert again.resume()
    assert again.state.step == steps
    again.run()
    assert same(tensors(whole.model), tensors(again.model))
    pairs = zip(whole.state.history, again.state.history, strict=True)
    for a, b in pairs:
        assert (a.epoch, a.loss, a.accuracy, a.robust) == (b.epoch, b.loss, b.accuracy, b.robust)


CHILD = """
import sys
import torch
from pathlib import Path
from constructions.dataset import load_dataset
from relucid.training import points_of
from torchbridge.training.loop import Training
from torchbridge.training.recipe import recipe
torch.set_num_threads(1)
data = load_dataset("digits:train")
made = recipe("adversarial", architecture="mlp", epochs=200, batch=64, seed=2)
parts = points_of(data), points_of(data.subset(slice(50)))
run = Training(made, *parts, path=Path(sys.argv[1]), every=0.0)
run.resume()
print("ready", flush=True)
run.run()
"""


def test_what_is_held_out_changes_no_weight(digits):
    data, made = small(digits)[0], recipe("adversarial", architecture="mlp", epochs=2)
    found = [
        tensors(Training(made, data, points_of(digits[1].subset(slice(n)))).run()) for n in (5, 90)
    ]
    assert same(*found)


def test_kill_leaves_a_whole_checkpoint(tmp_path, digits):
    path = tmp_path / "run.checkpoint"
    steps = []
    for _ in range(2):
        before = path.stat().st_mtime_ns if path.exists() else None
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert child.stdout.readline() == "ready\n"
        while not path.exists() or path.stat().st_mtime_ns == before:
            time.sleep(0.01)  # until a step of this child is kept, however busy the machine is
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
        child.wait()
        made = recipe("adversarial", architecture="mlp", epochs=200, batch=64, seed=2)
        parts = points_of(digits[0]), points_of(digits[0].subset(slice(50)))
        run = Training(made, *parts, path=path)
        assert run.resume()
        steps.append(run.state.step)
    assert steps == sorted(set(steps)), steps


def test_a_checkpoint_of_another_run_is_refused(digits, tmp_path):
    made = recipe("normal", architecture="mlp", epochs=1)
    learnt, held_out = small(digits)
    Training(made, learnt, held_out, path=tmp_path / "c").run()
    for other in (
        Training(recipe("normal", architecture="mlp", epochs=2), learnt, held_out),
        Training(made, points_of(digits[0]), held_out),
    ):
        other.path = tmp_path / "c"
        with pytest.raises(DataError, match="of another run"):
            other.resume()


def test_damaged_checkpoints_are_refused(digits, tmp_path):
    made = recipe("normal", architecture="mlp", epochs=1)
    learnt, held_out = small(digits)
    path = tmp_path / "c"
    run = Training(made, learnt, held_out, path=path)
    run.run()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damages = [b"", b"PK", whole[: len(whole) // 2], b"x" * 1000, whole[:-30]]
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=str(path)):
            run.resume()
    # The head and the arrays are stored with check sums: no changed byte passes unseen.
    for place in rng.integers(0, len(whole), 40):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        fresh = Training(made, learnt, held_out, path=path)
        try:
            fresh.resume()
        except DataError:
            continue
        assert same(tensors(fresh.model), tensors(run.model))
    arrays = dict(np.load(_bytes(path, whole)))
    arrays["model.1.weight"] = np.array([{}], dtype=object)
    np.savez(path.with_suffix(".npz"), **arrays)
    path.write_bytes(path.with_suffix(".npz").read_bytes())
    with pytest.raises(DataError, match="not a checkpoint"):
        run.resume()


def _bytes(path, data):
    path.write_bytes(data)
    return path


def test_inputs_are_the_float32_values_that_a_model_is_fed(digits):
    rows = torch.tensor([3, 0, 200])
    cpu = torch.device("cpu")
    expected = np.stack([digits[0].float32(int(i)) for i in rows])
    assert np.array_equal(points_of(digits[0]).inputs(rows, cpu).reshape(3, -1).numpy(), expected)
    floats = DataSet(np.array([[0.1, 1 / 3]]), np.array([0]), (2,), 2)
    found = points_of(floats).inputs(torch.tensor([0]), cpu)
    assert np.array_equal(found.numpy(), np.array([[0.1, 1 / 3]], dtype=np.float32))


@pytest.mark.parametrize(
    "kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint64]
)
def test_integers_of_every_type_are_what_they_are(kind):
    """Also where the differences of some do not fit into their type."""
    low = max(np.iinfo(kind).min, -30_000)
    high = min(np.iinfo(kind).max, low + 60_000)
    data = DataSet(np.array([[low, 3, high], [high, low, 5]], kind), np.zeros(2, int), (3,), 1)
    found = points_of(data).inputs(torch.arange(2), torch.device("cpu"))
    assert found.tolist() == [data.float32(i).tolist() for i in range(2)]


def test_moved_pictures_are_shifts_and_mirror_images():
    x = torch.rand(40, 2, 6, 7)
    out = moved(x, torch.Generator().manual_seed(0), by=2)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    seen = set()
    for i in range(40):
        matches = [
            (down, right, flip)
            for down in range(5)
            for right in range(5)
            for flip in (False, True)
            if torch.equal(
                out[i],
                (window.flip(-1) if flip else window)
                if (window := padded[i, :, down : down + 6, right : right + 7]) is not None
                else window,
            )
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 15


def test_a_run_that_diverges_says_so(digits):
    made = recipe("normal", architecture="mlp", epochs=60, rate=1000.0)
    _, held_out = small(digits)
    first = digits[0].subset(slice(300))
    huge = DataSet(first.points * 1e36, first.labels, first.shape, 10)
    with pytest.raises(DataError, match="the loss is"):
        Training(made, points_of(huge), held_out).run()
    beyond = DataSet(first.points * 1e38, first.labels, first.shape, 10)
    with pytest.raises(DataError, match="float32 range"):
        points_of(beyond)


def test_bad_recipes_are_refused(digits):
    for changes in ({"epochs": 0}, {"batch": 0}, {"eps": -0.1}, {"eps": float("nan")},
                    {"rate": 0.0}, {"rate": float("inf")}):  # fmt: skip
        with pytest.raises(DataError):
            recipe("adversarial", **changes)
    with pytest.raises(DataError, match="no recipe"):
        recipe("madry")
    assert json.loads(recipe("trades", eps=0.3).described())["eps"] == 0.3
    flat = DataSet(np.zeros((4, 3)), np.zeros(4, dtype=int), (3,), 2)
    with pytest.raises(DataError, match="pictures"):
        Training(recipe("normal", flip=True, architecture="mlp"), points_of(flat), points_of(flat))
    with pytest.raises(DataError, match="shape"):
        Training(recipe("normal", architecture="mlp"), points_of(flat), points_of(digits[1]))


def test_a_batch_of_one_point_has_no_spread():
    rng = np.random.default_rng(0)
    points = Points.of_floats(rng.random((5, 192)), np.arange(5) % 2, (3, 8, 8), 2)
    for batch in (1, 2, 4):
        with pytest.raises(DataError, match="leave one alone"):
            Training(recipe("normal", architecture="resnet18", batch=batch), points, points)
    Training(recipe("normal", architecture="resnet18", batch=3), points, points)


def test_one_class_is_none():
    points = Points.of_floats(np.zeros((5, 2)), np.zeros(5, int), (2,), 1)
    with pytest.raises(DataError, match="one label"):
        Training(recipe("normal", architecture="mlp"), points, points)
