"""Running the verifier on one property or on the points of a data set."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from constructions.dataset import DataSet
from relucid.bundled import model_names, model_path
from relucid.progress import Reporter
from verifier.core.errors import DataError
from verifier.core.property import Box, Property
from verifier.core.verdict import Refuted, Verdict, Witness
from verifier.io.onnx import Model, load_model
from verifier.search.portfolio import certify
from verifier.search.replay import replay

NO_FLOAT32 = "no float32 point lies in the box, so onnxruntime cannot be asked"


@dataclass(frozen=True)
class Options:
    """How to search.

    Args:
        timeout: seconds for one instance.
        engine: auto, bab, milp, lp or interval.
        solver: of the milp engine.
        seed: of everything random.
    """

    timeout: float = 60.0
    engine: str = "auto"
    solver: str = "highs"
    seed: int = 0


@dataclass(frozen=True)
class Ball:
    """Which box to put around a point.

    Args:
        eps: ℓ∞ radius.
        clip: lowest and highest possible value of a coordinate, or None.
        exact_center: the rational value of the data (p/255) instead of its nearest float32.
    """

    eps: Fraction
    clip: tuple[Fraction, Fraction] | None = None
    exact_center: bool = False


@dataclass(frozen=True)
class Outcome:
    """One instance with its verdict.

    Args:
        name: the property's file, or the data set and index.
        prop: what was asked.
        verdict: the answer; a witness has its replay attached.
        seconds: wall-clock time of the search.
        index, label, predicted, center: of the sample, for a data set.
    """

    name: str
    prop: Property
    verdict: Verdict
    seconds: float
    index: int | None = None
    label: int | None = None
    predicted: int | None = None
    center: tuple[Fraction, ...] | None = None

    @property
    def correct(self) -> bool:
        """Whether the sample itself is classified as its label."""
        return self.label is not None and self.predicted == self.label

    @property
    def margin(self) -> Fraction | None:
        """Of a refuted instance: the smallest slack of the violated clause, exactly (≥ 0)."""
        if not isinstance(self.verdict, Refuted):
            return None
        witness = self.verdict.witness
        values = witness.y + (witness.x if self.prop.mixes_inputs else ())
        clause = self.prop.cases[witness.case].clauses[witness.clause]
        return min((c.slack(values) for c in clause), default=Fraction(0))


def open_model(name: str) -> Model:
    """The model in an ONNX file, or the bundled model of that name.

    Raises:
        ModelError: see ``load_model``.
    """
    if not Path(name).exists() and name in model_names():
        return load_model(model_path(name))
    return load_model(Path(name))


def run_property(
    model: Model, prop: Property, name: str, options: Options, reporter: Reporter
) -> Outcome:
    """Decide one property.

    Raises:
        PropertyError: it does not fit the model.
    """
    model.check_property(prop)
    reporter.begin(name)
    started = time.monotonic()
    verdict = _search(model, prop, options, reporter)
    outcome = Outcome(name, prop, verdict, time.monotonic() - started)
    reporter.finish(verdict)
    return outcome


def check_data(model: Model, data: DataSet, indices: Iterable[int]) -> None:
    """Raise DataError unless the data set's points and labels fit the model."""
    network = model.network
    if data.dimension != network.n_inputs:
        raise DataError(
            f"{data.name}: points have {data.dimension} coordinates {data.shape}, but the model "
            f"takes {network.n_inputs} inputs {network.input_shape}"
        )
    for i in indices:
        if not 0 <= i < len(data):
            raise DataError(
                f"{data.name}: no point {i}, the set has {len(data)} (0..{len(data) - 1})"
            )
        if data.labels[i] >= network.n_outputs:
            raise DataError(
                f"{data.name}: label {data.labels[i]} of point {i} is not one of the model's "
                f"{network.n_outputs} outputs"
            )


def run_data(
    model: Model,
    data: DataSet,
    indices: Iterable[int],
    ball: Ball,
    options: Options,
    reporter: Reporter,
) -> Iterator[Outcome]:
    """Decide robustness on the ball around each of the points, one after another.

    A point that is itself misclassified (or tied) is refuted by itself, without a search.

    Raises:
        DataError: a point that lies outside of the clip range.
    """
    for i in indices:
        reporter.begin(f"sample {i}")
        started = time.monotonic()
        outcome = _run_sample(model, data, i, ball, options, reporter)
        reporter.finish(outcome.verdict)
        yield replace(outcome, seconds=time.monotonic() - started)


def _run_sample(
    model: Model, data: DataSet, i: int, ball: Ball, options: Options, reporter: Reporter
) -> Outcome:
    """One sample; its time is filled in by the caller."""
    center = (
        data.sample(i) if ball.exact_center else tuple(Fraction(float(v)) for v in data.float32(i))
    )
    if ball.clip is not None and not all(ball.clip[0] <= v <= ball.clip[1] for v in center):
        raise DataError(
            f"{data.name}: point {i} has values outside of [{ball.clip[0]}, {ball.clip[1]}]; give "
            "--clip LOW HIGH that holds all of them, or --no-clip"
        )
    label = int(data.labels[i])
    name = f"{data.name} {i}"
    prop = Property.robustness(
        Box.ball(center, ball.eps, ball.clip), label, model.network.n_outputs, name
    )
    model.check_property(prop)
    outputs = model.network.exact(center)
    predicted = max(range(len(outputs)), key=lambda k: outputs[k])
    where = prop.violation(center, outputs)
    if where is not None:
        verdict: Verdict = Refuted(_replayed(Witness(center, outputs, *where), prop, model))
    else:
        verdict = _search(model, prop, options, reporter)
    if where is not None and predicted == label:  # a tie
        predicted = prop.cases[0].clauses[where[1]][0].terms[0][0]
    return Outcome(name, prop, verdict, 0.0, i, label, predicted, center)


def _search(model: Model, prop: Property, options: Options, reporter: Reporter) -> Verdict:
    """The engines' verdict, with a replay of the witness."""
    verdict = certify(
        model.network,
        prop,
        timeout=options.timeout,
        engine=options.engine,
        solver=options.solver,
        progress=reporter.update,
        seed=options.seed,
    )
    if isinstance(verdict, Refuted):
        return replace(verdict, witness=_replayed(verdict.witness, prop, model))
    return verdict


def _replayed(witness: Witness, prop: Property, model: Model) -> Witness:
    """The witness with what onnxruntime makes of it."""
    return replace(witness, replay=replay(witness, prop, model.run))
