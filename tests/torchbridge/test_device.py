"""Proposals of Torch's devices: as good as the processor's, and verdicts and proofs the same."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from tests import oracle
from tests.engines import decide
from tests.strategies import at_most, points_between, random_instance
from torchbridge import device as module
from torchbridge.device import Device, find
from torchbridge.hardware import device_of
from verifier.bounds.linear import root_bounds
from verifier.bounds.passes import made_by
from verifier.bounds.reduced import Asked, Climb, Reduced
from verifier.core.errors import SolverError
from verifier.core.network import Layer, Network
from verifier.core.verdict import Proved, Refuted

NAMES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case():
    """(engine, bounds, network) of a network with dense and sparse layers and partial ReLU."""
    import scipy.sparse as sp

    rng = np.random.default_rng(2)
    sizes, layers = (7, 40, 50, 30), []
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        weight = rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        if k == 1:
            weight = sp.csr_array(weight * (rng.random(weight.shape) < 0.2))
        layers.append(Layer(weight, rng.normal(size=n_out) / 4, rng.random(n_out) < 0.9 * (k < 2)))
    network = Network(tuple(layers))
    centre = rng.normal(size=7)
    engine, bounds = root_bounds(network, centre - 0.2, centre + 0.2)
    return engine, bounds, network


def questions(case, free=False, count=40):
    engine, bounds, network = case
    rng = np.random.default_rng(3)
    pairs = zip(engine.relu, bounds, strict=True)
    units = sum(int((r & (lo < 0) & (hi > 0)).sum()) for r, (lo, hi) in pairs)
    sign = rng.choice([-1, 0, 0, 0, 0, 0, 1], (count, units)).astype(np.int8)
    param = np.where(sign == 0, rng.random(sign.shape), 0.01 * rng.random(sign.shape) * sign)
    rows = rng.normal(size=(count, network.n_outputs))
    if free:
        rows = np.abs(rows) / np.abs(rows).sum(axis=1, keepdims=True)
    rows = rows.astype(np.float32).astype(np.float64)
    return Asked(rows, rng.normal(size=count), sign, param.astype(np.float32), free)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("dense", [True, False])
def test_estimates_and_coefficients_are_the_processors(case, name, kind, dense, monkeypatch):
    monkeypatch.setattr(module, "_DENSE_NUMBERS", 1 << 24 if dense else 0)
    engine, bounds, _ = case
    mine, theirs = Device(name, kind)(engine, bounds), Reduced(engine, bounds)
    assert (mine.layers[1].weight.layout == torch.strided) is dense
    q = questions(case)
    scale = np.abs(theirs.estimates(q)).max()
    assert np.abs(mine.estimates(q) - theirs.estimates(q)).max() <= 1e-5 * scale
    assert np.abs(mine.estimates(q) - theirs.values(q)).max() <= 1e-5 * scale
    lam = theirs.coefficients(q)
    assert np.abs(mine.coefficients(q) - lam).max() <= 1e-5 * np.abs(lam).max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("free", [False, True])
def test_steps_gain_as_much_as_the_processors(case, name, free):
    engine, bounds, _ = case
    mine, theirs = Device(name)(engine, bounds), Reduced(engine, bounds)
    how, before = Climb(15, enough=np.inf), theirs.values(questions(case, free))
    first, second = questions(case, free), questions(case, free)
    point = mine.climb(first, how, lambda: False)
    theirs.climb(second, how, lambda: False)
    gained, wanted = mine.values(first) - before, theirs.values(second) - before
    assert (wanted > 0).mean() > 0.9
    assert np.abs(gained - wanted).max() <= 1e-2 * wanted.max()
    assert gained.sum() >= (1 - 1e-3) * wanted.sum()
    assert (np.abs(point - engine.lower) <= 0.4 + 1e-5).all()


@pytest.mark.parametrize("name", NAMES)
def test_bounds_are_below_exact_values(case, name):
    engine, bounds, network = case
    made, q = Device(name)(engine, bounds), questions(case)
    q.sign[:], q.param[:] = 0, 0.5
    made.climb(q, Climb(10, enough=np.inf), lambda: False)
    value = made.values(q)
    rng = np.random.default_rng(4)
    for x in points_between(rng, engine.lower, engine.upper, 6):
        y = network.exact(x)
        for i in range(len(q)):
            rows = [Fraction(v) for v in q.rows[i].tolist()]
            form = sum((r * v for r, v in zip(rows, y, strict=True)), Fraction(0))
            assert at_most(value[i], form + Fraction(float(q.const[i])))


@pytest.mark.parametrize("name", NAMES)
def test_pieces_that_fit_into_memory_give_the_same(case, name, monkeypatch):
    engine, bounds, _ = case
    whole, parts = questions(case), questions(case)
    made = Device(name)(engine, bounds)
    made.climb(whole, Climb(5, enough=np.inf), lambda: False)
    monkeypatch.setattr(Device, "room", property(lambda self: 3.5 * made._bytes))
    points = made.climb(parts, Climb(5, enough=np.inf), lambda: False)
    assert len(points) == len(parts)
    assert np.abs(made.values(whole) - made.values(parts)).max() < 1e-4
    assert len(made.estimates(parts)) == len(parts)
    none = parts.take(np.zeros(0, dtype=int))
    assert made.climb(none, Climb(5), lambda: False).shape == (0, 7)
    assert made.estimates(none).shape == (0,)
    assert made.coefficients(none).shape == none.param.shape


def test_less_memory_than_there_seemed_to_be_means_smaller_pieces(case, monkeypatch):
    engine, bounds, _ = case
    made, sizes, backward = Device("cpu")(engine, bounds), [], module._Batch.backward

    def tight(batch):
        sizes.append(len(batch.const))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError
        return backward(batch)

    wanted = made.estimates(questions(case))
    monkeypatch.setattr(module._Batch, "backward", tight)
    most = 15
    assert np.abs(made.estimates(questions(case)) - wanted).max() < 1e-5
    assert sizes == [40, 20, 10, 10, 10, 10]
    most = 0
    with pytest.raises(MemoryError, match="does not fit"):
        made.estimates(questions(case))


def test_a_stop_ends_the_steps(case):
    engine, bounds, _ = case
    made, calls = Device("cpu")(engine, bounds), []

    def stop():
        calls.append(0)
        return len(calls) == 2

    made.climb(questions(case), Climb(50, enough=np.inf), stop)
    assert len(calls) == 2


def test_bounds_that_are_enough_are_left_alone(case):
    engine, bounds, _ = case
    made, q = Device("cpu")(engine, bounds), questions(case)
    enough = float(np.median(made.estimates(q)))
    done, before = made.estimates(q) > enough + 0.1, q.param.copy()
    made.climb(q, Climb(10, enough=enough), lambda: False)
    assert (q.param[done] == before[done]).all()
    assert (q.param[~done] != before[~done]).any()


@pytest.mark.parametrize("name", NAMES)
def test_numbers_beyond_float32_do_no_harm(name):
    big = Layer(np.array([[1e200, 1.0], [1.0, -1e200]]), np.zeros(2), np.array([True, True]))
    last = Layer(np.array([[1e-200, 1.0]]), np.zeros(1), np.array([False]))
    engine, bounds = root_bounds(Network((big, last)), -np.ones(2), np.ones(2))
    made = Device(name)(engine, bounds)
    q = Asked(np.ones((1, 1)), np.zeros(1), np.zeros((1, 2), np.int8), np.full((1, 2), 0.5, "f4"))
    point = made.climb(q, Climb(4), lambda: False)
    assert np.isfinite(point).all()
    assert ((q.param >= 0) & (q.param <= 1)).all()
    assert not np.isnan(made.values(q)).any()


@pytest.mark.parametrize("name", NAMES)
def test_verdicts_are_the_oracles(name):
    with made_by(Device(name)):
        for seed in range(60):
            network, prop = random_instance(seed)
            violated = oracle.violated(network, prop)
            verdict = decide("branch_and_bound", network, prop)
            assert isinstance(verdict, Refuted if violated else Proved)


def test_names_of_devices():
    assert find("cpu") is None
    assert find("torch") == Device("cpu")
    assert (find("torch").larger, find("torch").is_gpu) == (1, False)
    assert find("torch").title == "Torch on the processor"
    assert device_of("cpu") == device_of("torch") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert find("auto") is None
        assert device_of("auto") == device_of("cpu")
        for name in ("cuda", "cuda:0"):
            for named in (find, device_of):
                with pytest.raises(
                    SolverError, match=f"--device {name}: Torch .* finds 0 CUDA devices"
                ):
                    named(name)
    else:
        assert find("auto") == find("cuda") == Device("cuda")
        assert device_of("auto") == torch.device("cuda")
        assert find("cuda").larger > 1
        with pytest.raises(SolverError, match="CUDA devices"):
            find("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:1", "CUDA", "meta", ""])
def test_other_names_are_refused(name):
    for named in (find, device_of):
        with pytest.raises(SolverError, match=f"--device {name}: expected auto, cpu, torch"):
            named(name)
