"""Networks with a counterexample that gradients and samples miss, and its place.

A *spike* relu(1 − Σ_j |x_j − c_j| / w) of half-width w = 2^-20 at a random place is added to a
random network that stays below 0 on the box; where it is flat, no gradient points to it. A
*trained* network has a narrow peak and broad hills that draw an attack away, after the idea of
"Testing neural network verifiers: a soundness benchmark with hidden counterexamples" (2024,
arXiv:2412.03154).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tests import oracle
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property

HALF_WIDTH = 2.0**-20


@dataclass(frozen=True)
class Hidden:
    """An unsafe instance.

    Args:
        network: one output.
        prop: unsafe where it is ≥ a threshold.
        place: an exact point of the box where it is.
    """

    network: Network
    prop: Property
    place: tuple[Fraction, ...]


def spike(seed: int, inputs: int = 2, *, height: float = 1.0) -> Hidden:
    """A network that is below 0 on [−1, 1]^inputs but at a spike (there, too, if height < 0)."""
    rng = np.random.default_rng(seed)
    n, width = inputs, 4
    c = np.round(rng.uniform(-0.9, 0.9, n) * 2**30) / 2**30
    hidden = np.round(rng.normal(size=(width, n)) * 2**10) / 2**10
    bias = np.round(rng.normal(size=width) * 2**10) / 2**10
    out = np.round(rng.normal(size=width) * 2**10) / 2**10
    eye = np.eye(n)
    first = Layer(
        np.concatenate([hidden, eye, -eye]),
        np.concatenate([bias, -c, c]),
        np.ones(width + 2 * n, dtype=bool),
    )
    second = np.zeros((width + 1, width + 2 * n))
    second[:width, :width] = np.eye(width)
    second[width, width:] = -1 / HALF_WIDTH
    middle = Layer(second, np.eye(width + 1)[width], np.ones(width + 1, dtype=bool))
    box = Box((Fraction(-1),) * n, (Fraction(1),) * n)
    flat = Network((first, middle, _last(np.append(out, 0.0), 0.0)))
    # The network without its spike has the maximum −1 after this shift, or less by 2^-20.
    best = oracle.maximum(
        Network((Layer(hidden, bias, np.ones(width, dtype=bool)), _last(out, 0.0))), box,
        [Fraction(1)],
    )  # fmt: skip
    shift = float(Fraction((-best - 1) * 2**20 // 1, 2**20))
    place = tuple(map(Fraction, c.tolist()))
    (base,) = flat.exact(place)
    top = height - float(base) - shift
    network = Network((first, middle, _last(np.append(out, np.ceil(top * 64) / 64), shift)))
    return Hidden(network, _at_least(box, Fraction(0)), place)


def trained(seed: int, inputs: int = 3) -> Hidden:
    """A trained network with hills and a narrow peak; unsafe from the value at the peak."""
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(seed)
    c = np.round(rng.uniform(-0.8, 0.8, inputs) * 2**20) / 2**20
    hills = rng.uniform(-1, 1, (3, inputs))
    near = c + rng.normal(size=(300, inputs)) * rng.choice([0.01, 0.03, 0.1], (300, 1))
    points = np.clip(np.concatenate([rng.uniform(-1, 1, (600, inputs)), near, [c] * 60]), -1, 1)
    heights = np.exp(-2 * ((points[:, None] - hills) ** 2).sum(axis=2)).max(axis=1)
    peak = np.maximum(0, 1 - np.abs(points - c).sum(axis=1) / 0.05)
    model = MLPRegressor(
        hidden_layer_sizes=(32, 16), solver="lbfgs", max_iter=400, random_state=seed, alpha=1e-6
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        model.fit(points, heights + 1.5 * peak)
    last = len(model.coefs_) - 1
    network = Network(
        tuple(
            Layer(np.ascontiguousarray(w.T), b, np.full(len(b), k < last))
            for k, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
        )
    )
    place = tuple(map(Fraction, c.tolist()))
    box = Box((Fraction(-1),) * inputs, (Fraction(1),) * inputs)
    return Hidden(network, _at_least(box, network.exact(place)[0]), place)


def _last(weights: np.ndarray, bias: float) -> Layer:
    return Layer(weights[None], np.array([bias]), np.zeros(1, dtype=bool))


def _at_least(box: Box, threshold: Fraction) -> Property:
    constraint = LinearConstraint(((0, Fraction(1)),), threshold)
    return Property((Case(box, ((constraint,),)),), len(box), 1)
