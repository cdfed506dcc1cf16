"""Pre-activation bounds on the outermost box, tightened step by step, with what proves them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from verifier.bounds.interval import Bounds, interval_bounds
from verifier.bounds.linear import Backward, default_slopes, layer_bounds
from verifier.search.problem import Problem, Progress
from verifier.search.split_record import LeafRecord, Lemma, unit_table
from verifier.search.subproblems import Batch, Units, slope_codes
from verifier.search.tighten import tighten_layer

#: A proof is checked with coarser numbers than it was found with. Where one is wanted, bounds are
#: lowered by this share of the magnitudes that the pass went through: bounds have 31 bits there.
ROOM = 2.0**-28
#: Interval bounds are moved by this share of their layer's largest: they have 36 bits there.
WIDER = 2.0**-32


class RootBounds:
    """Bounds of every layer of ``Problem.slacks`` on the problem's box.

    Attributes:
        bounds: the best so far, at first those of intervals.
        engine: for backward passes with them.
        lemmas: in this order, what proves them where intervals do not.

    Args:
        problem: the question.
        proof: whether to keep lemmas, and room for the checker's coarser numbers.
    """

    def __init__(self, problem: Problem, *, proof: bool = False) -> None:
        self.problem, self.proof = problem, proof
        self.lemmas: list[Lemma] = []
        with np.errstate(all="ignore"):  # bounds that are not finite are the caller's to refuse
            self.bounds = interval_bounds(problem.slacks, *problem.box)
        if proof:
            self.bounds = [_wider(pair) for pair in self.bounds]
        self.engine = self._engine()

    def _engine(self) -> Backward:
        room = ROOM if self.proof else 0.0
        return Backward(self.problem.slacks, *self.problem.box, self.bounds, room)

    def tighten(
        self, rounds: int, stop: Callable[[], bool], progress: Progress | None = None
    ) -> None:
        """Bound every layer in turn, again.

        Args:
            rounds: of splitting for each bound; 0 optimises slopes only, -1 takes default slopes.
            stop: asked between backward passes.
            progress: told which layer is done.
        """
        network, box = self.problem.slacks, self.problem.box
        self.engine = engine = self._engine()
        bounds = list(self.bounds)
        for k in range(1, network.depth):
            if not network.layers[k].n_relu:
                continue
            before = bounds[k]
            if rounds < 0:
                bounds[k] = layer_bounds(engine, k, bounds, box, stop=stop)
                if self.proof:
                    self._note_default(k, bounds, before)
            else:
                keep = self._keeper(k) if self.proof else None
                bounds[k] = tighten_layer(engine, bounds, k, rounds, stop, keep)
            if progress is not None:
                progress(f"bounds of layer {k + 1} of {network.depth}", -1.0)
        engine.set_bounds(bounds)
        self.bounds = bounds

    def _note_default(self, layer: int, bounds: list[Bounds], before: Bounds) -> None:
        """What default slopes proved of a layer's ReLUs: one slope for all."""
        relu = self.engine.relu[layer]
        below = np.flatnonzero(relu & (bounds[layer][0] > before[0]))
        above = np.flatnonzero(relu & (bounds[layer][1] < before[1]))
        count = len(below) + len(above)
        if not count:
            return
        units = Units(self.engine, bounds[:layer])
        slopes = np.concatenate(
            [
                default_slopes(low[0, index], high[0, index])
                for low, high, index in zip(units.low, units.high, units.index, strict=True)
            ]
        )
        none = np.zeros(0, dtype=np.int32)
        record = LeafRecord(
            np.arange(count), np.zeros(count, dtype=np.int64), none, none.astype(np.int8),
            none.astype(np.float32), slope_codes(slopes)[0][None],
            np.zeros(0, dtype=np.int64), np.zeros((0, len(units)), np.uint8),
            np.zeros((count, 0), np.float32),
        )  # fmt: skip
        side = np.repeat([0, 1], [len(below), len(above)])
        neuron = np.concatenate([below, above])
        one = np.ones(count, dtype=np.int64)
        self.lemmas.append(Lemma(layer, unit_table(units), neuron, side, one, record))

    def _keeper(self, layer: int) -> Callable[[Batch, np.ndarray, np.ndarray], None]:
        """Notes the leaves that bound some neurons of a layer."""

        def keep(batch: Batch, neuron: np.ndarray, side: np.ndarray) -> None:
            if (side >= 0).any():
                self.lemmas.append(Lemma.of(batch, layer, neuron, side))

        return keep


def _wider(pair: Bounds) -> Bounds:
    """Bounds whose signs the checker's intervals confirm.

    Zeros stay: only sums of zeros end exactly there, and the checker adds these exactly too.
    """
    low, high = pair
    unit = WIDER * max(np.abs(low).max(initial=0.0), np.abs(high).max(initial=0.0))
    return np.where(low > 0, low - unit, low), np.where(high < 0, high + unit, high)
