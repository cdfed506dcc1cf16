"""The file that ``relucid build`` writes, and what is found when it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from constructions.claims import Claim, Claims, network_claims
from constructions.construction import Construction, dense_size
from verifier.core.decision import Decision
from verifier.core.errors import ExportError
from verifier.core.network import Network
from verifier.core.sparse import is_sparse
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx_export import export_onnx


@dataclass(frozen=True)
class Written:
    """What became of the file.

    Args:
        path: where it is, or None.
        kind: float32 or float64, or None.
        refusal: why no file holds the network's numbers, if that is so.
    """

    path: Path | None = None
    kind: str | None = None
    refusal: ExportError | None = None

    @property
    def size(self) -> int | None:
        """Bytes of the file."""
        return None if self.path is None else self.path.stat().st_size

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.path}, {self.kind}, {self.size} bytes"
        return (
            "none, --out names one"
            if self.refusal is None
            else "none: float64 does not hold its numbers"
        )


def write(built: Construction, path: Path, decision: Decision | None = None) -> Written:
    """Write the network, if an ONNX file holds its numbers.

    Exact numbers that no float holds are no reason to keep the rest of the answer back.

    Raises:
        ExportError: it is too large, or cannot be written.
    """
    try:
        return Written(path, export_onnx(built.network, path, decision=decision))
    except ExportError as problem:
        if built.network.is_float:
            raise
        return Written(refusal=problem)


def read_back(network: Network, path: Path) -> Claims:
    """The same sizes, and the same numbers, in the file.

    Args:
        network: what was written.
        path: where.

    Raises:
        ModelError: the file cannot be read.
    """
    read = read_gemm_chain(path)
    sizes = network_claims(
        network.name,
        read,
        "read back from the file",
        width=network.width,
        depth=network.depth,
        nonzeros=network.nonzeros,
    )
    dense = Claim.equal(
        "dense parameters", dense_size(network), dense_size(read), "read back from the file"
    )
    same = Claim.true("same numbers", _same(network, read), "every weight, read back from the file")
    return sizes + Claims(network.name, (dense, same))


def _same(first: Network, second: Network) -> bool:
    """Whether all weights, biases and ReLUs are equal."""
    if first.depth != second.depth:
        return False
    return all(
        a.weight.shape == b.weight.shape
        and np.array_equal(a.relu, b.relu)
        and np.array_equal(a.bias, b.bias)
        and _equal(a.weight, b.weight)
        for a, b in zip(first.layers, second.layers, strict=True)
    )


def _equal(first: Any, second: Any) -> bool:
    """Whether two matrices are equal, without making a large one dense."""
    if is_sparse(first) and is_sparse(second):
        return (first != second).nnz == 0
    dense = [m.toarray() if is_sparse(m) else m for m in (first, second)]
    return np.array_equal(*dense)
