"""Random linear forms const + rows . t on [-1, 1]^d, and the working arrays of the kernels."""

import numpy as np

from verifier.bounds.box_kernels import pack
from verifier.bounds.interval import interval_bounds
from verifier.core.network import Layer, Network
from verifier.search import input_split_kernel as kernel


def scratch(rows, inputs):
    """The working arrays (Forms, Work) of a search with so many rows in its only clause."""
    network = Network((Layer(np.ones((1, inputs)), np.zeros(1), np.zeros(1, bool)),))
    lower, upper = -np.ones(inputs), np.ones(inputs)
    net, _, _ = pack(network, lower, upper, interval_bounds(network, lower, upper))
    matrix = np.ones((rows, net.weight.shape[1]))
    return kernel.work(net, kernel.Rows(matrix, np.zeros(rows), np.array([0, rows])))


def random_forms(rng, scale):
    k, d = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    rows = scale * rng.normal(size=(k, d)) * (rng.random((k, d)) < 0.8)
    if rng.random() < 0.3:
        rows = np.round(rows / scale) * scale  # ties
    return scale * rng.normal(size=k), rows
