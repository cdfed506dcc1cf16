"""Verdicts as text, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from relucid.numbers import approximate, nearest
from relucid.pictures import text_grid
from relucid.proof_files import ProofFile
from relucid.runs import NO_FLOAT32, Outcome
from verifier.core.decision import Rule
from verifier.core.verdict import Proved, Refuted, Unknown, Witness, word

#: Longer tables show what is not proved.
_MOST_LINES = 100

_HEADS = ("index", "label", "verdict", "seconds", "evidence")


@dataclass(frozen=True)
class Accuracy:
    """What the verdicts on a set of samples say together.

    Args:
        total: samples.
        clean: correctly classified ones.
        proved: proved robust ones.
        refuted: ones with a witness, misclassified samples among them.
    """

    total: int
    clean: int
    proved: int
    refuted: int

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Accuracy:
        """Count the outcomes of a data set."""
        return cls(
            len(outcomes),
            sum(o.correct for o in outcomes),
            sum(isinstance(o.verdict, Proved) for o in outcomes),
            sum(isinstance(o.verdict, Refuted) for o in outcomes),
        )

    @property
    def adversarial(self) -> tuple[Fraction, Fraction]:
        """Between which fractions the accuracy against the strongest adversary lies."""
        return Fraction(self.proved, self.total), Fraction(self.total - self.refuted, self.total)

    def lines(self) -> list[str]:
        """Three lines for a person."""
        low, high = self.adversarial
        return [
            f"clean accuracy        {_share(self.clean, self.total)}",
            f"certified accuracy    {_share(self.proved, self.total)}",
            f"adversarial accuracy  [{float(low):.1%}, {float(high):.1%}]",
        ]


def _share(count: int, total: int) -> str:
    return f"{count}/{total} = {count / total:.1%}"


def table(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> list[str]:
    """Aligned columns; numbers to the right, the last column as long as it is."""
    widths = [max(len(r[k]) for r in (heads, *rows)) for k in range(len(heads))]
    lines = []
    for row in (heads, *rows):
        cells = [
            cell.rjust(w) if _numeric(rows, k) else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _numeric(rows: Sequence[Sequence[str]], k: int) -> bool:
    """Whether a column holds numbers."""
    return all(row[k][:1].isdigit() for row in rows)


def data_table(outcomes: Sequence[Outcome]) -> list[str]:
    """A line a sample; of many samples only those that are not proved, and how many are left out.

    ``--json`` and ``--out`` have all of them.
    """
    shown = list(outcomes)
    if len(outcomes) > _MOST_LINES:
        shown = [o for o in outcomes if not isinstance(o.verdict, Proved)][:_MOST_LINES]
    rows = [
        (str(o.index), str(o.label), word(o.verdict), f"{o.seconds:.2f}", evidence(o))
        for o in shown
    ]
    lines = table(rows, _HEADS) if rows else []
    left = Counter(word(o.verdict) for o in outcomes) - Counter(word(o.verdict) for o in shown)
    if left:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left.items()))
        lines.append(f"{'and ' if rows else ''}{counts}: --out FILE writes a line for each")
    return lines


def evidence(outcome: Outcome) -> str:
    """What supports the verdict, in a few words."""
    verdict = outcome.verdict
    file = "" if outcome.proof is None or outcome.index is None else f"; {outcome.proof.text()}"
    if isinstance(verdict, Proved):
        return "proof" + _counts(verdict.statistics) + file
    if isinstance(verdict, Unknown):
        return verdict.reason
    return witness_text(outcome) + file


def _counts(statistics: dict[str, float]) -> str:
    """The statistics that a search kept."""
    parts = [f"{value:g} {name}" for name, value in statistics.items() if value]
    return f" ({', '.join(parts)})" if parts else ""


def witness_text(outcome: Outcome) -> str:
    """The witness of a refuted instance, in a few words."""
    if not isinstance(outcome.verdict, Refuted):
        return ""
    witness = outcome.verdict.witness
    margin = "" if outcome.margin is None else f", margin {approximate(outcome.margin)}"
    if outcome.center is None:
        return f"witness{margin}; {replay_text(witness)}"
    if not outcome.correct and witness.x == outcome.center:
        return (
            f"the sample itself is classified {class_text(outcome.predicted)}{margin}; "
            f"{replay_text(witness)}"
        )
    (distance,) = _distances([witness], outcome.center)
    return (
        f"witness at distance {approximate(distance, 4)}, classified "
        f"{class_text(broken_by(outcome))}{margin}; "
        f"{replay_text(witness)}"
    )


def broken_by(outcome: Outcome) -> int | None:
    """The class that beats or ties with the label at the witness; None if it means no class."""
    if not isinstance(outcome.verdict, Refuted) or outcome.prop is None:
        raise ValueError("only a refuted instance has a witness")
    witness, classes = outcome.verdict.witness, outcome.classes
    if classes is not None and classes.decision.rule is not Rule.argmax:
        return classes.chosen(witness.y)
    (constraint,) = outcome.prop.cases[witness.case].clauses[witness.clause]
    position = constraint.terms[0][0]
    return position if classes is None else classes.label(position)


def class_text(label: int | None) -> str:
    """A class, or that there is none."""
    return "as no class" if label is None else str(label)


def _distances(witnesses: Sequence[Witness], center: Sequence[Fraction]) -> list[Fraction]:
    """ℓ∞ distances, exactly."""
    return [max(abs(a - b) for a, b in zip(w.x, center, strict=True)) for w in witnesses]


def replay_text(witness: Witness) -> str:
    """What onnxruntime said."""
    if witness.replay is None:
        return f"not replayed: {NO_FLOAT32}"
    return f"onnxruntime {'agrees' if witness.replay.violated else 'does not break here'}"


def property_lines(outcome: Outcome) -> list[str]:
    """The verdict of one property: the word first, then its evidence."""
    lines = [word(outcome.verdict), f"seconds: {outcome.seconds:.2f}"]
    if outcome.float32:
        lines.append("semantics: float32, in any order of summation")
    if isinstance(outcome.verdict, Unknown):
        return [*lines, f"reason: {outcome.verdict.reason}"]
    lines.append(f"evidence: {evidence(outcome)}")
    if outcome.proof is not None:
        lines.append(f"proof: {outcome.proof.text()}")
    if isinstance(outcome.verdict, Refuted):
        witness = outcome.verdict.witness
        lines += [f"X_{i} = {approximate(v, 17)}" for i, v in enumerate(witness.x[:20])]
        if len(witness.x) > 20:
            lines.append(f"... {len(witness.x) - 20} more inputs (--json or --counterexample)")
        lines += [f"Y_{i} = {approximate(v, 17)}" for i, v in enumerate(witness.y[:20])]
    return lines


def picture_lines(outcome: Outcome, shape: tuple[int, ...]) -> list[str]:
    """A refuted sample with its witness, as a grid of characters where that is possible."""
    if not isinstance(outcome.verdict, Refuted) or outcome.center is None:
        return []
    witness = outcome.verdict.witness
    if witness.x == outcome.center:
        return []  # misclassified as it is: there is no change to show
    grid = text_grid(outcome.center, witness.x, shape)
    if not grid:
        return []
    title = f"sample {outcome.index}, label {outcome.label}: {witness_text(outcome)}"
    return [title, *grid]


def shown(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The refuted sample to show: a correctly classified one if there is one."""
    refuted = [o for o in outcomes if isinstance(o.verdict, Refuted)]
    return next((o for o in refuted if o.correct), None) or next(iter(refuted), None)


def record(outcome: Outcome, model: str, sha256: str, **more: Any) -> dict[str, Any]:
    """One instance for machines.

    Exact numbers are strings (``"1/10"``), the others the nearest floats; a witness's inputs are
    exact, its outputs can be computed from them.
    """
    verdict = outcome.verdict
    about: dict[str, Any] = {"model": model, "model_sha256": sha256}
    if outcome.index is None:
        about["property"] = outcome.name
    else:
        about |= {"index": outcome.index, "label": outcome.label, "predicted": outcome.predicted}
    return {
        **about,
        **more,
        "verdict": word(verdict),
        "reason": verdict.reason if isinstance(verdict, Unknown) else None,
        "semantics": "float32" if outcome.float32 else "real",
        "seconds": round(outcome.seconds, 4),
        "witness": witness_record(outcome),
        **(ProofFile(None) if outcome.proof is None else outcome.proof).record(),
        "statistics": verdict.statistics,
    }


def witness_record(outcome: Outcome) -> dict[str, Any] | None:
    """The witness for machines."""
    if not isinstance(outcome.verdict, Refuted):
        return None
    witness = outcome.verdict.witness
    replay = witness.replay
    return {
        "x": [str(v) for v in witness.x],
        "y": [_json_float(nearest(v)) for v in witness.y],
        "margin": None if outcome.margin is None else _json_float(nearest(outcome.margin)),
        "case": witness.case,
        "clause": witness.clause,
        "replay": None
        if replay is None
        else {
            "x": list(replay.x),
            "y": [_json_float(v) for v in replay.y],
            "violated": replay.violated,
        },
        "replay_note": NO_FLOAT32 if replay is None else None,
    }


def _json_float(value: float) -> float | str:
    """JSON has no infinities and no NaN: those become strings."""
    return value if value - value == 0 else str(value)


def json_text(records: dict[str, Any] | list[dict[str, Any]]) -> str:
    """One JSON document."""
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def csv_text(records: Sequence[dict[str, Any]]) -> str:
    """A line an instance, with the columns that are values or pairs (two numbers with a space)."""
    columns = [key for key in records[0] if key not in ("witness", "statistics")]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        cells = (record[c] for c in columns)
        writer.writerow([" ".join(v) if isinstance(v, list) else v for v in cells])
    return stream.getvalue()
