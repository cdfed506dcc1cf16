"""Generic random networks for the tests of bounds and searches."""

import itertools

import numpy as np
import scipy.sparse as sp

from verifier.core.network import Layer, Network


def network_of(rng, sizes, kind="dense"):
    """Random layers, all with ReLU; kind: dense, sparse, or partial (a third of them missing)."""
    layers = []
    for n, m in itertools.pairwise(sizes):
        weight = rng.normal(size=(m, n)) / np.sqrt(n)
        relu = rng.random(m) < (0.67 if kind == "partial" else 1.1)
        if kind == "sparse":
            weight = sp.csr_array(weight * (rng.random((m, n)) < 0.5))
        layers.append(Layer(weight, 0.1 * rng.normal(size=m), relu))
    return Network(tuple(layers))


def cube(n):
    """Lower and upper corner of [-1, 1]^n."""
    return -np.ones(n), np.ones(n)
