"""Running the verifier on one property or on the points of a data set."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from relucid.bundled import open_model
from relucid.classes import Classes
from relucid.progress import Reporter
from relucid.proof_files import ProofFile
from verifier.core.decision import Rule
from verifier.core.errors import DataError
from verifier.core.exact import fractions
from verifier.core.property import Box, Property
from verifier.core.verdict import Refuted, Verdict, Witness
from verifier.io.onnx import Model
from verifier.search.portfolio import certify
from verifier.search.problem import Deadline
from verifier.search.replay import replay

if TYPE_CHECKING:  # a property alone needs neither, and they take time to load
    from constructions.dataset import DataSet
    from relucid.ball_pass import Ball

__all__ = ["NO_FLOAT32", "Options", "Outcome", "check_data", "open_model", "run_data"]

NO_FLOAT32 = "no float32 point lies in the box, so onnxruntime cannot be asked"


@dataclass(frozen=True)
class Options:
    """How to search.

    Args:
        timeout: seconds for one instance.
        engine: auto, bab, milp, lp or interval.
        solver: of the milp engine.
        seed: of everything random.
        proof: whether proofs are to be written: engines keep what these need, and every outcome
            has its property.
        float32: whether the question is what a runtime may compute in float32, instead of the
            exact real function.
    """

    timeout: float = 60.0
    engine: str = "auto"
    solver: str = "highs"
    seed: int = 0
    proof: bool = False
    float32: bool = False


@dataclass(frozen=True)
class Outcome:
    """One instance with its verdict.

    Args:
        name: the property's file, or the data set and index.
        prop: what was asked; None if the answer is the first pass's, which asks all at once.
        verdict: the answer; a witness has its replay attached.
        seconds: wall-clock time of the search.
        index, label, predicted, center: of the sample, for a data set; predicted is None if the
            outputs at the sample mean no class.
        classes: what outputs mean, for a data set.
        proof: the file that was written, if one was asked for.
        float32: whether the verdict is about what a runtime may compute in float32.
    """

    name: str
    prop: Property | None
    verdict: Verdict
    seconds: float
    index: int | None = None
    label: int | None = None
    predicted: int | None = None
    center: tuple[Fraction, ...] | None = None
    classes: Classes | None = None
    proof: ProofFile | None = None
    float32: bool = False

    @property
    def correct(self) -> bool:
        """Whether the sample itself is classified as its label."""
        return self.label is not None and self.predicted == self.label

    @property
    def margin(self) -> Fraction | None:
        """Of a refuted instance: the smallest slack of the violated clause, exactly (≥ 0)."""
        if not isinstance(self.verdict, Refuted) or self.prop is None:
            return None
        witness = self.verdict.witness
        values = witness.y + (witness.x if self.prop.mixes_inputs else ())
        clause = self.prop.cases[witness.case].clauses[witness.clause]
        return min((c.slack(values) for c in clause), default=Fraction(0))


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
    seconds = time.monotonic() - started
    outcome = Outcome(name, prop, verdict, seconds, float32=options.float32)
    reporter.finish(verdict)
    return outcome


def check_data(
    model: Model, data: DataSet, indices: Iterable[int], rule: Rule | None = None
) -> Classes:
    """What the model's outputs mean on this data.

    Args:
        model: the model.
        data: the data set.
        indices: the points that are asked about.
        rule: how to read the outputs; what the file says, or the largest one, by default.

    Raises:
        DataError: the data set's points and labels do not fit the model.
        PropertyError: the outputs cannot be read like this.
    """
    network = model.network
    if data.dimension != network.n_inputs:
        raise DataError(
            f"{data.name}: points have {data.dimension} coordinates {data.shape}, but the model "
            f"takes {network.n_inputs} inputs {network.input_shape}"
        )
    classes = Classes.of(model, data, rule)
    for i in indices:
        if not 0 <= i < len(data):
            raise DataError(
                f"{data.name}: no point {i}, the set has {len(data)} (0..{len(data) - 1})"
            )
        classes.position(data, i)
    return classes


def run_data(
    model: Model,
    data: DataSet,
    indices: Sequence[int],
    ball: Ball,
    options: Options,
    reporter: Reporter,
    classes: Classes | None = None,
) -> Iterator[Outcome]:
    """Decide robustness on the ball around each of the points, one after another.

    In exact arithmetic the engines auto and interval begin with one interval pass over all balls at
    once. A point that is itself misclassified (or tied) is refuted by itself, without a search.

    Args:
        model, data, indices: which points of which data set.
        ball: the box around a point.
        options: how to search.
        reporter: told what is going on.
        classes: what outputs mean, from ``check_data``.

    Raises:
        DataError: a point that lies outside of the clip range, or does not fit the model.
    """
    classes = check_data(model, data, indices) if classes is None else classes
    passed: dict[int, Outcome] = {}
    if options.engine in ("auto", "interval") and not options.float32:
        reporter.begin("interval pass over all balls")
        passed = _first_pass(model, data, indices, ball, options, classes)
    for i in indices:
        reporter.begin(f"sample {i}")
        started = time.monotonic()
        if i in passed:
            outcome = passed[i]
            if options.proof:
                _, prop = _question(model, data, i, ball, classes)
                outcome = replace(outcome, prop=prop)
        else:
            outcome = _run_sample(model, data, i, ball, options, reporter, classes)
            outcome = replace(outcome, seconds=time.monotonic() - started)
        reporter.finish(outcome.verdict)
        yield outcome


def _first_pass(
    model: Model,
    data: DataSet,
    indices: Sequence[int],
    ball: Ball,
    options: Options,
    classes: Classes,
) -> dict[int, Outcome]:
    """The balls that interval bounds prove, each with its share of the time."""
    if model.tail is not None and classes.decision.rule is not Rule.argmax:
        return {}  # every single property will be refused, with the reason
    from relucid.ball_pass import prove_points

    started = time.monotonic()
    positions = np.array([classes.position(data, i) for i in indices])
    deadline = Deadline(options.timeout * len(indices))
    found = {
        i: verdict
        for i, verdict in prove_points(
            model.network, classes.decision, data, indices, positions, ball, deadline
        )
        if verdict is not None
    }
    share = (time.monotonic() - started) / len(indices)
    labels = {i: int(data.labels[i]) for i in found}
    return {
        i: Outcome(f"{data.name} {i}", None, verdict, share, i, labels[i], labels[i])
        for i, verdict in found.items()
    }


def _run_sample(
    model: Model,
    data: DataSet,
    i: int,
    ball: Ball,
    options: Options,
    reporter: Reporter,
    classes: Classes,
) -> Outcome:
    """One sample; its time is filled in by the caller."""
    center, prop = _question(model, data, i, ball, classes)
    label = int(data.labels[i])
    outputs = _run_at(model, center) if options.float32 else model.network.exact(center)
    predicted = classes.chosen(outputs)
    where = prop.violation(center, outputs)
    if where is not None and not options.float32:
        verdict: Verdict = Refuted(_replayed(Witness(center, outputs, *where), prop, model))
    else:
        verdict = _search(model, prop, options, reporter)
    if where is not None and predicted == label:  # a tie
        predicted = classes.label(prop.cases[0].clauses[where[1]][0].terms[0][0])
    return Outcome(
        prop.name, prop, verdict, 0.0, i, label, predicted, center, classes,
        float32=options.float32,
    )  # fmt: skip


def _run_at(model: Model, center: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """What onnxruntime computes at the float32 point nearest to a sample.

    Raises:
        DataError: a number that is not finite.
    """
    y = np.asarray(model.run(np.array([float(v) for v in center])), dtype=np.float64).ravel()
    if not np.isfinite(y).all():
        raise DataError(f"{model.path}: the outputs at a sample are not finite in float32")
    return tuple(fractions(y))


def _question(
    model: Model, data: DataSet, i: int, ball: Ball, classes: Classes
) -> tuple[tuple[Fraction, ...], Property]:
    """The middle of a sample's ball, and what is asked of the ball.

    Raises:
        DataError: the middle lies outside of the clip range.
        PropertyError: the model cannot be asked this.
    """
    center = ball.center(data, i)
    box = Box.ball(center, ball.eps, ball.clip)
    name = f"{data.name} {i}"
    prop = classes.property(box, classes.position(data, i), model.network.n_outputs, name)
    model.check_property(prop)
    return center, prop


def _search(model: Model, prop: Property, options: Options, reporter: Reporter) -> Verdict:
    """The engines' verdict, with a replay of the witness."""
    if options.float32:
        from verifier.io.float32_chain import float32_chain
        from verifier.search.float32 import certify_float32

        return certify_float32(
            float32_chain(model),
            prop,
            model.run,
            timeout=options.timeout,
            engine=options.engine,
            progress=reporter.update,
            seed=options.seed,
            proof=options.proof,
        )
    verdict = certify(
        model.network,
        prop,
        timeout=options.timeout,
        engine=options.engine,
        solver=options.solver,
        progress=reporter.update,
        seed=options.seed,
        proof=options.proof,
    )
    if isinstance(verdict, Refuted):
        return replace(verdict, witness=_replayed(verdict.witness, prop, model))
    return verdict


def _replayed(witness: Witness, prop: Property, model: Model) -> Witness:
    """The witness with what onnxruntime makes of it."""
    return replace(witness, replay=replay(witness, prop, model.run))
