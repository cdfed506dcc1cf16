"""The interval pass as a proof: which pairs it used; the checker bounds everything again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.bounds.ball_batch import plan
from verifier.core.network import Network
from verifier.proof.format import Writer


def write(cases: Sequence[int], network: Network, writer: Writer, *, pairs: bool = True) -> None:
    """Append the blocks of cases that ``balls`` or ``interval`` proved.

    Args:
        cases: consecutive cases.
        network: as the engine saw it: with the inputs as outputs if the property mixes them.
        writer: of the proof.
        pairs: whether to say which pairs; one such block holds for all cases after it.

    Raises:
        NetworkError: the network has no float64 form.
    """
    if pairs:
        _pairs(network, writer)
    writer.block("intervals", case=list(cases))


def _pairs(network: Network, writer: Writer) -> None:
    """The pairs of all layers, neurons numbered through the layers."""
    prepared = plan(network)
    if not prepared.n_pairs:
        return
    offset, real = prepared.layers[:2]
    counts = np.diff(offset) - real
    before = np.repeat(np.cumsum(real) - real, counts)
    first, second, sign = prepared.pairs
    p, r = first + before, second + before
    order = np.lexsort((r, p))
    writer.block(
        "pairs",
        stride=np.diff(p[order], prepend=0),
        offset=(r - p)[order],
        minus=(sign < 0)[order],
    )
