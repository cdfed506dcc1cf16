"""Proofs for small instances: found by a search, written to a file, checked by the checker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from verifier.core.errors import ExportError
from verifier.core.network import Network
from verifier.core.property import Property
from verifier.core.verdict import Proved
from verifier.proof.claim import check_file
from verifier.proof.format import Reader
from verifier.proof.outcome import Checked
from verifier.search import proofs
from verifier.search.portfolio import certify


def hashes(network: Network, prop: Property) -> dict[str, str]:
    """What stands for the SHA-256 of the two files, which the small instances do not have."""
    layers = [(y.dense.tolist(), y.bias.tolist(), y.relu.tolist()) for y in network.layers]
    return {
        "model_sha256": hashlib.sha256(repr(layers).encode()).hexdigest(),
        "property_sha256": hashlib.sha256(repr(prop).encode()).hexdigest(),
    }


def prove(
    network: Network, prop: Property, path: Path, seconds: float = 2, engine: str = "auto"
) -> bool:
    """Write a proof; False if the property was not proved, or its evidence has no written form."""
    verdict = certify(network, prop, timeout=seconds, engine=engine, proof=True)
    if not isinstance(verdict, Proved):
        return False
    try:
        with path.open("wb") as stream:
            proofs.write(stream, network, prop, verdict, **hashes(network, prop))
    except ExportError:
        return False
    return True


def nodes_checked(
    network: Network,
    prop: Property,
    path: Path,
    claimed: dict[str, str] | None = None,
    *,
    checker: Callable[..., Checked] = check_file,
) -> int:
    """What the checker says of a proof: the number of nodes visited.

    Args:
        network, prop: what it should be about.
        path: the file.
        claimed: hashes to compare with, instead of the instance's own: a checker that was fooled
            about the files must still not be wrong about what they say.
        checker: the fast one, or ``check_plainly``.

    Raises:
        CertificateError: it is none.
    """
    with Reader(path) as reader:
        found = checker(network, prop, reader, **(claimed or hashes(network, prop)))
    if found.verdict != "proved":
        raise ValueError("a refutation where a proof was written")
    return found.nodes
