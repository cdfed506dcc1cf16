"""Whether the bias classifier is right on a whole box, on kinks too: branch and bound (T8 b).

Off the kinks a ReLU network is C(x) = J x + B_C(x). The question is whether β_{z,y} > β_{z,k} for
all k ≠ y, all points x of the box and all activation patterns z consistent with x, which is T8's
mixed-integer program. Here the signs of pre-activations are split. In a part of the box where some
signs are known, backward bounds fix more of them, and intervals bound β, where a neuron whose sign
is not known contributes its value or 0. Bounds are float64, rounded outwards. When all signs are
known, β is one vector; only if it is wrong does it matter whether the part has a point, and exact
rational arithmetic decides both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.bounds.bias import bias_bounds, strongly_right, strongly_wrong
from verifier.bounds.float_error import UNIT
from verifier.bounds.interval import Bounds, affine_interval
from verifier.bounds.linear import root_bounds
from verifier.core.errors import NetworkError, PropertyError
from verifier.core.exact_lp import Inequalities, Point, decide
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.search.exact_forms import exact_layer, fraction, rational
from verifier.search.hinted_lp import decide_by_hint
from verifier.search.problem import Deadline, Progress


@dataclass(frozen=True)
class BiasRight:
    """β_{z,y} > β_{z,k} for all points, consistent patterns and k ≠ y.

    Args:
        nodes: parts of the box that were looked at.
    """

    nodes: int


@dataclass(frozen=True)
class BiasWrong:
    """A point and a pattern that is consistent with it, where another output is at least as large.

    Args:
        x: exact, in the box.
        pattern: one bit a ReLU, layer by layer.
        other: k with β_k ≥ β_y.
        nodes: as above.
    """

    x: tuple[Fraction, ...]
    pattern: tuple[bool, ...]
    other: int
    nodes: int


@dataclass(frozen=True)
class BiasUnknown:
    """Neither, because the time is up.

    Args:
        nodes: as above.
        waiting: parts of the box that are left.
    """

    nodes: int
    waiting: int


@dataclass(frozen=True, eq=False)
class Part:
    """Where some pre-activations have known signs.

    Args:
        bounds: of all pre-activations there.
        phases: layer by layer 1 where a ReLU is taken as on, −1 as off, 0 for either; 1 where there
            is none.
        splits: (layer, neuron, sign) that define the part.
    """

    bounds: list[Bounds]
    phases: list[np.ndarray]
    splits: tuple[tuple[int, int, int], ...]


def bias_box(
    network: Network,
    box: Box,
    label: int,
    deadline: Deadline,
    progress: Progress | None = None,
) -> BiasRight | BiasWrong | BiasUnknown:
    """Decide a box.

    Args:
        network: a float network with at least two outputs.
        box: where.
        label: y.
        deadline: looked at between parts.
        progress: told how many parts wait.

    Raises:
        NetworkError: numbers that are no floats.
        PropertyError: a box or a label that does not fit.
    """
    return BiasSearch(network, box, label, deadline, progress).run()


def bias_lost(network: Network, x: np.ndarray, label: int) -> bool:
    """Whether β_{z,k} ≥ β_{z,y} for some k ≠ y and some pattern consistent with x, exactly.

    Args:
        network: as for ``bias_box``.
        x: (n_inputs,) float64.
        label: y.
    """
    bounds = bias_bounds(network, x, x)
    if strongly_right(bounds, label):
        return False
    if strongly_wrong(bounds, label):
        return True
    point = Box(x.tolist(), x.tolist())
    return isinstance(bias_box(network, point, label, Deadline(np.inf)), BiasWrong)


class BiasSearch:
    """See ``bias_box``; ``verifier.search.bias_milp`` adds linear programs."""

    def __init__(
        self, network: Network, box: Box, label: int, deadline: Deadline, progress: Progress | None
    ) -> None:
        if not network.is_float:
            raise NetworkError("the bias classifier is decided for networks of floats only")
        if len(box) != network.n_inputs:
            raise PropertyError(f"the box has {len(box)} inputs, the network {network.n_inputs}")
        if not 0 <= label < network.n_outputs or network.n_outputs < 2:
            raise PropertyError(
                f"label {label} is not one of the classes 0..{network.n_outputs - 1}, of which two "
                "are needed"
            )
        last = network.layers[-1]
        if last.n_relu:
            n = last.n_out
            same = Layer(np.eye(n), np.zeros(n), np.zeros(n, dtype=bool))
            network = replace(network, layers=(*network.layers, same))
        self.network, self.box, self.label = network, box, label
        self.deadline, self.progress = deadline, progress
        self.lower, self.upper = box.outward()
        self.others = [k for k in range(network.n_outputs) if k != label]
        self.leads = _leads(network.layers[-1], label)
        #: How much of a neuron's value reaches the next layer.
        self.weights = [
            np.asarray(abs(layer.weight).sum(axis=0)).ravel() for layer in network.layers[1:]
        ]
        self.nodes = 0

    def run(self) -> BiasRight | BiasWrong | BiasUnknown:
        """Depth first, the part that looks worse before the other."""
        waiting = [self.root()]
        while waiting:
            if self._stopped():
                return BiasUnknown(self.nodes, len(waiting))
            part = waiting.pop()
            self.nodes += 1
            if self.progress is not None:
                self.progress(f"{self.nodes} parts, {len(waiting)} open", -1.0)
            ranges, leads = self.ranges(part)
            if self.closed(part, ranges, leads):
                continue
            choice = self._choice(part, ranges)
            if choice is not None:
                waiting += self._halves(part, choice)
                continue
            found = self.one_pattern(part)
            if found is not None and self.final(found):
                return found
            if self._stopped():
                return BiasUnknown(self.nodes, len(waiting) + 1)
        return BiasRight(self.nodes)

    def root(self) -> Part:
        """The whole box."""
        bounds = root_bounds(self.network, self.lower, self.upper)[1]
        return Part(bounds, _phases(self.network, bounds, ()), ())

    def matters(self, lead: float | Fraction) -> bool:
        """Whether a pattern with this β_y − β_k would be an answer."""
        return lead <= 0

    def closed(self, part: Part, ranges: list[Bounds], leads: np.ndarray) -> bool:
        """Whether bounds show that the part has no answer.

        Args:
            part: of the box.
            ranges, leads: as ``ranges`` gives them.
        """
        return not any(self.matters(lead) for lead in leads.tolist())

    def final(self, found: BiasWrong) -> bool:
        """Whether the search is over with this answer."""
        return True

    def ranges(self, part: Part) -> tuple[list[Bounds], np.ndarray]:
        """Bounds of v in every layer, and for each of ``others`` a number below β_y − β_k."""
        low = high = np.zeros(self.network.n_inputs)
        ranges: list[Bounds] = []
        for layer, phase in zip(self.network.layers[:-1], part.phases, strict=False):
            low, high = affine_interval(layer, low, high)
            ranges.append((low, high))
            low = np.where(phase < 0, 0.0, np.where(phase > 0, low, np.minimum(low, 0.0)))
            high = np.where(phase < 0, 0.0, np.where(phase > 0, high, np.maximum(high, 0.0)))
        ranges.append(affine_interval(self.network.layers[-1], low, high))
        lead, error = self.leads
        largest = np.maximum(np.abs(low), np.abs(high))
        lowest = affine_interval(lead, low, high)[0]
        with np.errstate(over="ignore", invalid="ignore"):
            lowest = lowest - 4 * UNIT * (abs(error.weight) @ largest + np.abs(error.bias))
            lowest -= np.abs(lowest) * (4 * UNIT)
        return ranges, np.nan_to_num(lowest, nan=-np.inf)

    def _choice(self, part: Part, ranges: list[Bounds]) -> tuple[int, int] | None:
        """The neuron of the first layer with an open sign whose value may matter most."""
        for k, ((low, high), phase) in enumerate(zip(ranges, part.phases, strict=False)):
            if (phase == 0).any():
                with np.errstate(over="ignore", invalid="ignore"):
                    reach = np.maximum(np.abs(low), np.abs(high)) * self.weights[k]
                return k, int(np.where(phase == 0, np.nan_to_num(reach), -1.0).argmax())
        return None

    def _halves(self, part: Part, choice: tuple[int, int]) -> list[Part]:
        """The two parts where the neuron's pre-activation is ≤ 0 and ≥ 0, without empty ones."""
        k, i = choice
        found = []
        for sign in (-1, 1):
            bounds = list(part.bounds)
            low, high = (end.copy() for end in bounds[k])
            if sign > 0:
                low[i] = max(low[i], 0.0)
            else:
                high[i] = min(high[i], 0.0)
            bounds[k] = (low, high)
            tighter = root_bounds(self.network, self.lower, self.upper, bounds=bounds)[1]
            both = [
                (np.maximum(a, c), np.minimum(b, d))
                for (a, b), (c, d) in zip(bounds, tighter, strict=True)
            ]
            made = _phased(self.network, both, (*part.splits, (k, i, sign)))
            if made is not None:
                found.append(made)
        return found

    def one_pattern(self, part: Part) -> BiasWrong | None:
        """A part with one pattern: an answer if β is, and the part has a point.

        None also if it was stopped.
        """
        beta = self.beta(part)
        if not self.matters(self.lead(beta)):
            return None
        found = self._point(part)
        return None if found is None else self.wrong(part, beta, found)

    def lead(self, beta: list[Fraction]) -> Fraction:
        """min over k of β_y − β_k."""
        return beta[self.label] - max(beta[k] for k in self.others)

    def wrong(self, part: Part, beta: list[Fraction], x: tuple[Fraction, ...]) -> BiasWrong:
        """The answer at a point of a part with one pattern."""
        pattern: list[bool] = []
        for layer, phase in zip(self.network.layers, part.phases, strict=True):
            pattern += [bool(p > 0) for p in phase[layer.relu]]
        other = max(self.others, key=lambda k: beta[k])
        return BiasWrong(x, tuple(pattern), other, self.nodes)

    def beta(self, part: Part) -> list[Fraction]:
        """β of the part's pattern, exactly."""
        numerators, denominator = np.zeros(self.network.n_inputs, dtype=object), 1
        numerators[:] = 0
        for layer, phase in zip(self.network.layers, part.phases, strict=True):
            numerators, denominator = layer.exact_affine(numerators, denominator)
            numerators = np.where(phase > 0, numerators, 0)
        return [Fraction(int(v), denominator) for v in numerators]

    def _point(self, part: Part) -> tuple[Fraction, ...] | None:
        """A point of the part, exactly; None if it has none, or when time is up."""
        n = self.network.n_inputs
        form = fmpq_mat(n, n + 1, [fmpq(int(i == j)) for i in range(n) for j in range(n + 1)])
        rows, bound = [], []
        last = max((k for k, _, _ in part.splits), default=-1)
        for k, layer in enumerate(self.network.layers[: last + 1]):
            weight, bias = exact_layer(layer)
            form = weight * form
            for i, b in enumerate(bias):
                form[i, n] += b
            for _, i, sign in (split for split in part.splits if split[0] == k):
                rows.append([sign * form[i, j] for j in range(n)])
                bound.append(-sign * form[i, n])
            for i in np.flatnonzero(part.phases[k] < 0).tolist():
                for j in range(n + 1):
                    form[i, j] = fmpq(0)
        system = Inequalities(
            rows, bound, [False] * len(rows), [rational(v) for v in self.box.lower],
            [rational(v) for v in self.box.upper],
        )  # fmt: skip
        answer = decide_by_hint(system)
        if answer is None:
            answer = decide(system, self._stopped)
        return tuple(fraction(v) for v in answer.x) if isinstance(answer, Point) else None

    def _stopped(self) -> bool:
        """Whether the time is up."""
        return self.deadline.passed


def _phased(
    network: Network, bounds: list[Bounds], splits: tuple[tuple[int, int, int], ...]
) -> Part | None:
    """The part with all the signs that bounds and splits tell; None if it has no point."""
    if any((low > high).any() for low, high in bounds):
        return None
    return Part(bounds, _phases(network, bounds, splits), splits)


def _phases(
    network: Network, bounds: list[Bounds], splits: tuple[tuple[int, int, int], ...]
) -> list[np.ndarray]:
    """See ``Part``.

    A sign that was not split is known only where 0 is excluded: on a kink either bit is consistent.
    """
    phases = [
        np.where(~layer.relu | (low > 0), 1, np.where(high < 0, -1, 0)).astype(np.int8)
        for layer, (low, high) in zip(network.layers, bounds, strict=True)
    ]
    for k, i, sign in splits:
        phases[k][i] = sign
    return phases


def _leads(layer: Layer, label: int) -> tuple[Layer, Layer]:
    """Rows W_y − W_k and b_y − b_k for k ≠ y, rounded; and what they are rounded by, in 2u."""
    weight = layer.dense
    others = np.delete(np.arange(layer.n_out), label)
    rows, bias = weight[label] - weight[others], layer.bias[label] - layer.bias[others]
    none = np.zeros(len(others), dtype=bool)
    return Layer(rows, bias, none), Layer(np.abs(rows), np.abs(bias), none)
