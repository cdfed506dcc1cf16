"""The loop over samples refuses what is no such network."""

from fractions import Fraction

import numpy as np
import pytest

from verifier.core.errors import NetworkError
from verifier.core.network import Network
from verifier.core.scan import ScanNetwork

GOOD = {
    "which": np.array([[0, 1], [1, 1], [1, 0]], dtype=np.uint8),
    "above": np.array([2.0, 9.0]),
    "below": np.array([1.0, 8.0]),
    "labels": np.array([1.0, 2.0, 3.0]),
    "shift": 0.5,
    "slope": 4.0,
    "input_shape": (2,),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"which": np.array([[0, 1], [1, 1], [1, 0]])}, "unsigned integers"),
        ({"which": np.zeros((0, 2), dtype=np.uint8)}, "unsigned integers"),
        ({"which": np.array([[0, 2], [1, 1], [1, 0]], dtype=np.uint8)}, "index 2 beyond a table"),
        ({"labels": np.array([1.0, 2.0])}, "do not fit"),
        ({"labels": np.array([1.0, 0.0, 2.0])}, "must be positive"),
        ({"below": np.array([1.0])}, "do not fit"),
        ({"above": np.array([np.nan, 1.0])}, "NaN or infinite"),
        ({"shift": np.inf}, "NaN or infinite"),
        ({"slope": 0.0}, "must be positive"),
        ({"input_shape": (3,)}, "does not hold 2 numbers"),
    ],
)
def test_bad_arrays(changes, message):
    with pytest.raises(NetworkError, match=message):
        ScanNetwork(**{**GOOD, **changes})


@pytest.mark.parametrize("point", [[0], [0, 0, 0], [0, float("nan")], [float("inf"), 0]])
def test_bad_points(point):
    with pytest.raises(NetworkError):
        ScanNetwork(**GOOD).exact(point)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_sizes_are_those_of_the_layers(n, shift):
    parts = {"which": GOOD["which"][:n], "labels": GOOD["labels"][:n], "shift": shift}
    loop = ScanNetwork(**{**GOOD, **parts})
    chain = Network(tuple(loop.layers()))
    assert (loop.depth, loop.width) == (chain.depth, chain.width)
    assert (loop.nonzeros, loop.n_relu) == (chain.nonzeros, chain.n_relu)
    assert loop.dense_parameters == sum(a.n_out * (a.n_in + 1) for a in chain.layers)
    for point in [(1, 8), (0, 0), (-20, 3), (Fraction(1, 3), Fraction(17, 2))]:
        assert loop.exact(point) == chain.exact(point)


def test_numbers_beyond_machine_integers():
    loop = ScanNetwork(**{**GOOD, "above": GOOD["above"] * 2.0**40, "below": GOOD["below"] / 2**60})
    chain = Network(tuple(loop.layers()))
    for point in [(1, 8), (Fraction(1, 3), Fraction(10**30, 7)), (1e-300, 2.0**45)]:
        assert loop.exact(point) == chain.exact(point)
