"""What is to be proved of one case, and the parts of its box that are still to do."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.exact import common_denominator
from verifier.core.network import Network
from verifier.core.property import LinearConstraint, Property
from verifier.proof.chain import Chain, chain
from verifier.proof.forms import Forms
from verifier.proof.integers import Lines, Rows, backward
from verifier.proof.outcome import InvalidError

#: Nodes that one block may take from the stack, numbers of one layer that are computed together,
#: and bytes that the open nodes may take.
MAX_NODES, _CHUNK, _MAX_BYTES = 4096, 1 << 15, 1 << 31
#: NumPy lets go of the interpreter, so that threads bound side by side.
_THREADS = min(4, os.cpu_count() or 1)


#: (node, hidden neuron, slope of the line below its ReLU), slopes in [0, 1].
Slopes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(eq=False)
class Nodes:
    """Parts of the box: points t in [t_low, t_high] whose pre-activations lie in [low, high].

    Args:
        t_low, t_high: (M, d).
        low, high: (M, hidden neurons).
        open: (M, C) which clauses are not excluded yet.
        number: (M,) in the order in which they came to be; the root is 0.
        splits: M tuples of (layer, neuron, sign): sign · z ≥ 0 is assumed.
    """

    t_low: np.ndarray
    t_high: np.ndarray
    low: np.ndarray
    high: np.ndarray
    open: np.ndarray
    number: np.ndarray
    splits: list[tuple[tuple[int, int, int], ...]]

    @property
    def bytes(self) -> int:
        """Memory that they take."""
        arrays = (self.t_low, self.t_high, self.low, self.high, self.open)
        return sum(a.nbytes for a in arrays) + sum(64 + 8 * len(s) for s in self.splits)

    def take(self, index: np.ndarray) -> Nodes:
        """Copies of some of them."""
        return Nodes(
            self.t_low[index], self.t_high[index], self.low[index], self.high[index],
            self.open[index], self.number[index], [self.splits[i] for i in index],
        )  # fmt: skip

    @staticmethod
    def join(parts: Sequence[Nodes]) -> Nodes:
        """All of them."""
        if len(parts) == 1:
            return parts[0]
        names = ("t_low", "t_high", "low", "high", "open", "number")
        low, high, z_low, z_high, is_open, number = (
            np.concatenate([getattr(p, name) for p in parts]) for name in names
        )
        splits = [s for p in parts for s in p.splits]
        return Nodes(low, high, z_low, z_high, is_open, number, splits)


@dataclass(frozen=True, eq=False)
class Clauses:
    """The unsafe outputs of one case: some clause, all rows of which are row · y ≥ bound.

    Args:
        rows: (R, n_outputs) integers as float64.
        bound: R exact numbers.
        strict: (R,) whether ≥ is >.
        first: clause c has the rows first[c] to first[c + 1] − 1.
    """

    rows: np.ndarray
    bound: tuple[Fraction, ...]
    strict: np.ndarray
    first: np.ndarray


def clauses(constraints: Sequence[Sequence[LinearConstraint]], n: int, step: str) -> Clauses:
    """A case's clauses in integers; those with a constraint that never holds are left out.

    Raises:
        InvalidError: a clause without constraints: every point is unsafe.
    """
    rows, bound, strict, first = [], [], [], [0]
    for clause in constraints:
        if any(not c.terms and not c.holds(()) for c in clause):
            continue
        kept = [c for c in clause if c.terms]
        if not kept:
            raise InvalidError("case", step, "a clause is always true: every point is unsafe")
        for c in kept:
            row = [Fraction(0)] * n
            for i, v in c.terms:
                row[i] += v
            integers, q = common_denominator(row)
            if max(map(abs, integers)) >= 2**53:
                raise InvalidError(
                    "case", step, "a coefficient of the property has more than 53 bits"
                )
            rows.append([float(v) for v in integers])
            bound.append(c.bound * q)
            strict.append(c.strict)
        first.append(len(rows))
    matrix = np.array(rows).reshape(len(rows), n)
    return Clauses(matrix, tuple(bound), np.array(strict, dtype=bool), np.array(first))


class Case:
    """The state of a check of one case.

    Args:
        network: with the inputs as further outputs if the property mixes them; from
            ``float32.rounded`` if pre-activations are what float32 sums can give.
        prop: the property.
        index: which case.
    """

    def __init__(self, network: Network, prop: Property, index: int) -> None:
        case = prop.cases[index]
        self.float32 = network.is_rounded
        self.network, self.box = network, case.box
        self.clauses = clauses(case.clauses, network.n_outputs, f"case {index}")
        self.chain: Chain = chain(
            network.layers, case.box, (-self.clauses.rows, list(self.clauses.bound)),
            float32=self.float32,
        )  # fmt: skip
        hidden = self.chain.bounds[:-1]
        ends = np.cumsum([0] + [len(b[0]) for b in hidden])
        self.parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
        widest = max((p.stop - p.start for p in self.parts), default=1)
        self.chunk = max(1, _CHUNK // max(widest, len(case.box)))
        self.relu = np.concatenate([layer.relu for layer in self.chain.layers[:-1]])
        count = len(self.clauses.first) - 1
        low, high = self.chain.box
        root = Nodes(
            low[None],
            high[None],
            np.concatenate([b[0] for b in hidden])[None],
            np.concatenate([b[1] for b in hidden])[None],
            np.ones((1, count), dtype=bool),
            np.zeros(1, dtype=np.int64),
            [()],
        )
        self.workers = ThreadPoolExecutor(_THREADS)
        self.created = 1
        self.stack = [root] if count else []

    def pop(self, count: int, step: str) -> Nodes:
        """The last nodes of the stack, in its order.

        Raises:
            InvalidError: there are fewer, or more are open than fit into memory.
        """
        if not 0 < count <= MAX_NODES:
            raise InvalidError("stack", step, f"{count} nodes wanted, not 1 to {MAX_NODES}")
        if (size := sum(part.bytes for part in self.stack)) > _MAX_BYTES:
            raise InvalidError("stack", step, f"the open nodes take {size} bytes, too many")
        parts: list[Nodes] = []
        have = 0
        while self.stack and have < count:
            last = self.stack.pop()
            extra = have + len(last.number) - count
            if extra > 0:
                self.stack.append(last.take(np.arange(extra)))
                last = last.take(np.arange(extra, len(last.number)))
            parts.append(last)
            have += len(last.number)
        if have < count:
            raise InvalidError("stack", step, f"{count} nodes wanted, {have} are open")
        nodes = Nodes.join(parts[::-1])
        return nodes.take(np.arange(count))

    def forms(
        self, layer: int, lines: Sequence[Lines], owner: np.ndarray, mu: tuple[Any, Any]
    ) -> Forms:
        """Linear lower bounds of ±z of one layer, row q in node owner[q].

        Args:
            layer: which; lines: of the layers before, at least.
            owner: (Q,) nodes.
            mu: (neuron, sign), both (Q,).
        """
        parts = []
        for start in range(0, max(len(owner), 1), self.chunk):
            some = slice(start, start + self.chunk)
            exponent = np.zeros(len(owner[some]), dtype=np.int64)
            pair = (mu[0][some], mu[1][some])
            rows = Rows(layer, pair, exponent, lines=lines, owner=owner[some])
            parts.append(backward(self.chain.layers, self.chain.scale, rows, self.chain.bits))
        return Forms.join(parts)

    def tighten(self, nodes: Nodes, slopes: Slopes) -> list[Lines]:
        """Bound every unstable neuron again, layer by layer, in every node.

        Args:
            slopes: those that are not the default.
        """
        lines: list[Lines] = []
        for k, part in enumerate(self.parts):
            low, high = nodes.low[:, part], nodes.high[:, part]
            found = np.nonzero(self.relu[part] & (low < 0) & (high > 0))
            chunk = max(1, self.chunk // 2)
            some = [
                tuple(f[start : start + chunk] for f in found)
                for start in range(0, len(found[0]), chunk)
            ]
            ranges = self.workers.map(lambda one, k=k: self._range(k, lines, nodes, *one), some)
            for (owner, neuron), (least, most) in zip(some, ranges, strict=True):
                low[owner, neuron] = np.maximum(low[owner, neuron], least)
                high[owner, neuron] = np.minimum(high[owner, neuron], most)
            lines.append(Lines.of(self.relu[part], low, high, None, self.chain.bits))
            owner, index, slope = slopes
            here = (index >= part.start) & (index < part.stop)
            here &= (
                self.relu[index] & (nodes.low[owner, index] < 0) & (nodes.high[owner, index] > 0)
            )
            lines[-1].below[owner[here], index[here] - part.start] = slope[here]
        return lines

    def _range(
        self, k: int, lines: Sequence[Lines], nodes: Nodes, owner: np.ndarray, neuron: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of neurons of layer k, each in one node."""
        both, one = np.concatenate([owner, owner]), np.ones_like(owner)
        pair = np.concatenate([neuron, neuron]), np.concatenate([one, -one])
        forms = self.forms(k, lines, both, pair)
        value = forms.least(nodes.t_low[both], nodes.t_high[both])
        least, other = np.split(value.at_scale(self.chain.layers[k].scale), 2)
        return least, -other
