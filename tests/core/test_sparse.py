"""Sparse arrays: told from dense ones, without importing scipy for the latter."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

from verifier.core.sparse import is_sparse, sp

_DENSE = """
import sys
import numpy as np
from verifier.core.network import Layer, Network
from verifier.core.sparse import is_sparse, sp
layer = Layer(np.eye(3), np.zeros(3), np.ones(3, bool))
network = Network((layer, layer))
assert network.nonzeros == 6 and not layer.is_sparse
assert network.float64(np.ones(3)).tolist() == [1, 1, 1] and network.exact([1, 2, 3]) == (1, 2, 3)
assert not any(name.startswith("scipy") for name in sys.modules), "imported for a dense network"
assert is_sparse(sp.csr_array(np.eye(3)))
assert "scipy.sparse" in sys.modules
"""


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dia", "bsr", "lil", "dok"])
def test_every_sparse_form_is_sparse(form: str) -> None:
    assert is_sparse(scipy.sparse.eye_array(3).asformat(form))
    assert is_sparse(scipy.sparse.csr_matrix(np.eye(3)).asformat(form))


@pytest.mark.parametrize(
    "array", [np.eye(3), np.matrix(np.eye(2)), np.float64(1), [[1.0]], None, np.array(None)]
)
def test_what_is_not_sparse(array: object) -> None:
    assert not is_sparse(array)


def test_its_names_are_scipys() -> None:
    assert sp.csr_array is scipy.sparse.csr_array
    with pytest.raises(AttributeError, match="no_such_array"):
        sp.no_such_array  # noqa: B018


def test_a_dense_network_does_not_import_scipy() -> None:
    subprocess.run([sys.executable, "-c", _DENSE], check=True)
