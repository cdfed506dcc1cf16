"""Provable questions for input splitting, and a replay of its trees that shares nothing with it.

The tree is walked from its root, every box is bounded again by a backward pass in plain NumPy, and
SciPy's linear programs confirm that each leaf is closed and each cut removes nothing. Rounding is
not looked at here: bounds may miss zero by ``NOISE``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from verifier.bounds.box_kernels import FLAT_BELOW
from verifier.bounds.interval import interval_bounds
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.search import cut_kernel
from verifier.search.problem import problems

NOISE = 1e-9


def network_of(rng, sizes):
    """Random layers; ReLU on all but the last and those of one neuron, which pass a form on."""
    layers = [
        Layer(
            rng.normal(size=(m, n)),
            0.5 * rng.normal(size=m),
            np.full(m, m > 1 and k < len(sizes) - 2),
        )
        for k, (n, m) in enumerate(itertools.pairwise(sizes))
    ]
    return Network(tuple(layers))


def provable(seed, sizes, clauses, margin=0.05, samples=4000):
    """Clauses of random linear forms of the outputs, each just out of reach of sampled points."""
    rng = np.random.default_rng(seed)
    network = network_of(rng, sizes)
    y = network.float64(rng.uniform(-1, 1, size=(samples, sizes[0])))
    wanted = []
    for count in clauses:
        rows = rng.normal(size=(count, sizes[-1])).round(2)
        values = y @ rows.T
        # The largest s for which some sample has every value >= offset + s.
        offset = np.quantile(values, 0.5, axis=0)
        reach = (values - offset).min(axis=1).max() + margin * np.ptp(values)
        wanted.append(
            tuple(
                LinearConstraint(
                    tuple((i, Fraction(float(v))) for i, v in enumerate(row)), Fraction(float(b))
                )
                for row, b in zip(rows, offset + reach, strict=True)
            )
        )
    box = Box((-1,) * sizes[0], (1,) * sizes[0])
    prop = Property((Case(box, tuple(wanted)),), sizes[0], sizes[-1])
    (problem,) = problems(network, prop)
    return problem


def lower_form(network, k, row, const, low, high):
    """(g, c): row . a_k + const >= g . x + c wherever the pre-activations lie in (low, high)."""
    for j in range(k - 1, -1, -1):
        layer, lo, hi = network.layers[j], low[j], high[j]
        unstable = layer.relu & (lo < 0) & (hi > 0)
        chord = np.divide(hi, hi - lo, out=np.zeros_like(hi), where=unstable)
        below = np.where(hi >= -lo * FLAT_BELOW, 1.0, 0.0)
        slope = np.where(unstable, np.where(row > 0, below, chord), 1.0)
        slope = np.where(layer.relu & (hi <= 0), 0.0, slope)
        const += np.sum(np.where(unstable & (row < 0), -row * chord * lo, 0.0))
        row = row * slope
        const += row @ layer.bias
        row = row @ layer.dense
    return row, const


def least(form, lower, upper):
    g, c = form
    return c + np.minimum(g * lower, g * upper).sum()


@dataclass
class Node:
    """A box in the replay, with what its ancestors knew."""

    lower: np.ndarray
    upper: np.ndarray
    low: list
    high: list
    splits: list
    open: list

    def copy(self):
        return Node(
            self.lower.copy(), self.upper.copy(), [a.copy() for a in self.low],
            [a.copy() for a in self.high], list(self.splits), list(self.open),
        )  # fmt: skip


def visit(problem, node):
    """Bound the node's box again.

    Returns:
        for each clause (G, c): its slacks, then sign * z of the split neurons, are <= G x + c.
    """
    network, low, high = problem.network, node.low, node.high
    for k, layer in enumerate(network.layers):
        for i in np.flatnonzero(layer.relu & (low[k] < 0) & (high[k] > 0)):
            row, b = layer.dense[i], layer.bias[i]
            below = lower_form(network, k, row, b, low, high)
            low[k][i] = max(low[k][i], least(below, node.lower, node.upper))
            above = lower_form(network, k, -row, -b, low, high)
            high[k][i] = min(high[k][i], -least(above, node.lower, node.upper))
    signs = [
        lower_form(
            network, k, -sign * network.layers[k].dense[i], -sign * network.layers[k].bias[i],
            low, high,
        )
        for k, i, sign in node.splits
    ]  # fmt: skip
    forms = []
    for clause in problem.clauses:
        rows = [
            lower_form(network, network.depth, -row, bound, low, high)
            for row, bound in zip(clause.rows, clause.bound, strict=True)
        ] + signs
        forms.append((-np.array([g for g, _ in rows]), -np.array([c for _, c in rows])))
    return forms


def reach(form, lower, upper):
    """max over the box of the smallest of the forms."""
    g, c = form
    if np.any(lower > upper):
        return -np.inf
    d = g.shape[1]
    result = linprog(
        np.r_[np.zeros(d), -1.0], np.c_[-g, np.ones(len(g))], c,
        bounds=[*zip(lower, upper, strict=True), (None, None)],
    )  # fmt: skip
    assert result.status == 0
    return -result.fun


def combined(form, weights, node):
    """max over the box of the forms' combination with weights >= 0."""
    g, c = weights @ form[0], weights @ form[1]
    return c + np.maximum(g * node.lower, g * node.upper).sum()


class Replay:
    """The tree walked from its root; fails where the record is no partition or proves nothing."""

    def __init__(self, problem, tree):
        self.problem, self.tree = problem, tree
        self.rows = {}
        for r, node in enumerate(tree.node):
            self.rows.setdefault(int(node), []).append(r)
        self.leaves, self.cuts, self.neurons, self.combinations = [], [], 0, 0
        bounds = interval_bounds(problem.network, tree.lower, tree.upper)
        root = Node(
            tree.lower.copy(), tree.upper.copy(), [b[0] for b in bounds], [b[1] for b in bounds],
            [], list(range(len(problem.clauses))),
        )  # fmt: skip
        seen, waiting = {0}, [(0, root)]
        while waiting:
            number, node = waiting.pop()
            for child, part in self.steps(number, node):
                assert child not in seen
                seen.add(child)
                waiting.append((child, part))
        assert set(self.rows) <= seen, "rows of nodes that cannot be reached"
        self.visited = len(seen)

    def steps(self, number, node):
        """Check the cuts of one node; return its children, or check that it is closed."""
        tree, starts = self.tree, [visit(self.problem, node)]
        for r in self.rows.get(number, []):
            axis, at, kind = int(tree.axis[r]), float(tree.at[r]), int(tree.kind[r])
            if kind == cut_kernel.SLOPE:  # what the rule says anyway
                continue
            if kind in (cut_kernel.SPLIT, cut_kernel.SPLIT_NEURON):
                assert r == self.rows[number][-1], "a node goes on after its split"
                node.open = [c for c in node.open if not self.closed(starts, c, node)]
                return self.children(node, kind, axis, at, int(tree.child[r]))
            if kind == cut_kernel.CLOSE:
                self.combinations += 1
                weights = tree.weights[int(tree.child[r])]
                form = starts[-1][axis]
                k = len(form[1])
                assert not weights[k:].any()
                assert weights[:k].max() > 0
                assert combined(form, weights[:k], node) < NOISE, (
                    "a combination that closes nothing"
                )
                node.open = [c for c in node.open if c != axis]
                continue
            if kind == cut_kernel.AGAIN:
                starts.append(visit(self.problem, node))
                continue
            assert node.lower[axis] < at < node.upper[axis]
            gone = node.copy()
            if kind == cut_kernel.CUT_BELOW:
                gone.upper[axis] = node.lower[axis] = at
            else:
                gone.lower[axis] = node.upper[axis] = at
            for c in node.open:
                assert self.closed(starts, c, gone), "a cut that the bounds do not justify"
            self.cuts.append(gone)
            # Several cuts may come from one look at the box, or the box was looked at in between.
            starts.append(visit(self.problem, node))
        for c in node.open:
            assert self.closed(starts, c, node), "a leaf that is not closed"
        self.leaves.append(node)
        return []

    def closed(self, starts, c, node):
        """Whether bounds of the box, as it was at some step, exclude clause c from a part of it."""
        return any(reach(forms[c], node.lower, node.upper) < NOISE for forms in starts)

    def children(self, node, kind, axis, at, child):
        first, second = node.copy(), node.copy()
        if kind == cut_kernel.SPLIT:
            assert node.lower[axis] < at < node.upper[axis]
            first.upper[axis] = second.lower[axis] = at
        else:
            self.neurons += 1
            k, i = divmod(axis, self.tree.stride)
            assert self.problem.network.layers[k].relu[i]
            assert (k, i) not in [s[:2] for s in node.splits]
            first.splits.append((k, i, 1))
            second.splits.append((k, i, -1))
            first.low[k][i] = second.high[k][i] = 0.0
        return [(child, first), (child + 1, second)]

    def places(self, x):
        """How many leaves and cut-away parts hold the point."""
        trace = self.problem.network.exact_trace(x)

        def holds(node):
            return (
                np.all(node.lower <= x)
                and np.all(x <= node.upper)
                and all(trace[k][0][i] * sign >= 0 for k, i, sign in node.splits)
            )

        return sum(map(holds, self.leaves)) + sum(map(holds, self.cuts))
