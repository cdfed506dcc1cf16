"""Points where a network seems steep: random ones, then better neighbours of the best."""

from __future__ import annotations

import numpy as np

from verifier.core.network import Network
from verifier.search.lipschitz_domain import Domain
from verifier.search.problem import Deadline

_POINTS = 256
_ROUNDS = 12
_KEPT = 8
#: Numbers in one array of gradients of a batch.
_CHUNK_NUMBERS = 4_000_000


def steep_points(
    network: Network, domain: Domain, rows: np.ndarray, seed: int, deadline: Deadline
) -> list[np.ndarray]:
    """A few float64 points, free coordinates only, with large gradients by float arithmetic.

    Args:
        network: float networks get a search; for others there is no proposal.
        domain: where to look.
        rows: (K, n_outputs) the functions in question.
        seed: of the random points.
        deadline: when to stop.
    """
    if not network.is_float:
        return []
    rng = np.random.default_rng(seed)
    if domain.box is None:
        # Kinks may lie at any distance from the origin.
        scale = 10.0 ** rng.uniform(-2, 3, (_POINTS, 1))
        points, width = rng.normal(size=(_POINTS, domain.n)) * scale, scale
        low, high = np.full(domain.n, -np.inf), np.full(domain.n, np.inf)
    else:
        low, high = (end[domain.free] for end in domain.box.outward())
        points = rng.uniform(low, high, (_POINTS, domain.n))
        width = np.broadcast_to((high - low) / 2, points.shape)
    slopes = _slopes(network, domain, rows, points)
    for _ in range(_ROUNDS):
        if deadline.passed:
            break
        best = np.argsort(-slopes, kind="stable")[: _POINTS // 4]
        parents = np.repeat(best, 4)
        step = width[parents] * rng.normal(size=(len(parents), domain.n))
        step *= 2.0 ** -rng.integers(0, 8, (len(parents), 1))
        moved = np.clip(points[parents] + step, low, high)
        found = _slopes(network, domain, rows, moved)
        everything = np.concatenate([slopes[best], found])
        chosen = np.argsort(-everything, kind="stable")[:_POINTS]
        points = np.concatenate([points[best], moved])[chosen]
        width = np.concatenate([width[best], width[parents]])[chosen]
        slopes = everything[chosen]
    distinct = np.unique(np.round(slopes, 12), return_index=True)[1][::-1]
    return [points[i] for i in distinct[:_KEPT] if np.isfinite(points[i]).all()]


def _slopes(network: Network, domain: Domain, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each point the largest ℓ1 norm of a row's gradient, in float64."""
    widest = max(network.n_inputs, network.width, network.n_outputs)
    chunk = max(1, _CHUNK_NUMBERS // (widest * len(rows)))
    parts = [points[i : i + chunk] for i in range(0, len(points), chunk)]
    with np.errstate(all="ignore"):
        found = np.concatenate([_chunk_slopes(network, domain, rows, part) for part in parts])
    return np.nan_to_num(found, nan=-1.0, posinf=-1.0)


def _chunk_slopes(
    network: Network, domain: Domain, rows: np.ndarray, points: np.ndarray
) -> np.ndarray:
    a = np.tile([float(v) for v in domain.whole(domain.middle())], (len(points), 1))
    a[:, domain.free] = points
    active = []
    for layer in network.layers:
        z = np.asarray((layer.weight @ a.T).T) + layer.bias
        active.append((z > 0) | ~layer.relu)
        a = np.where(active[-1], z, 0.0)
    y = np.broadcast_to(rows.astype(float), (len(points), *rows.shape))
    for layer, on in zip(network.layers[::-1], active[::-1], strict=True):
        y = y * on[:, None, :]
        flat = y.reshape(-1, layer.n_out)
        y = np.asarray((layer.weight.T @ flat.T).T).reshape(len(points), len(rows), layer.n_in)
    return np.abs(y[:, :, domain.free]).sum(axis=2).max(axis=1)
