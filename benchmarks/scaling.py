"""How time grows with width, depth, inputs, ε and the number of points, with fitted exponents.

``python benchmarks/scaling.py --out FOLDER``

Each curve (``scaling_curves.py``) varies one parameter and keeps the rest. All is measured in this
one warm process: processor time and wall time, several times, the curve's values in turns; a first
run of each value warms up and is not counted. Time is per question. A curve ends, visibly, where a
question meets its limit or the measurement takes too long. The exponent of time = c · x^p is fitted
to the medians by least squares in logarithms. FOLDER gets runs.csv, summary.md, row.md and
scaling.png, a panel a curve.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from comparison import markdown, write_csv
from machine import Others, Session, append_row
from scaling_curves import CURVES, Answer, Curve, Work


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Args:
        value: of the curve's parameter.
        cpu, wall: seconds of all questions together.
        memory_mb: highest resident memory of this process meanwhile; 0 where the system does not
            tell.
        proved, refuted, late, nodes: see ``scaling_curves.Answer``.
    """

    curve: str
    value: float
    repetition: int
    cpu: float
    wall: float
    memory_mb: float
    proved: int
    refuted: int
    late: int
    nodes: int

    @property
    def seconds(self) -> float:
        """Of processor time, per question."""
        return self.cpu / max(1, self.proved + self.refuted + self.late)


@dataclass(frozen=True)
class Fit:
    """time = factor · x^exponent.

    Args:
        error: standard error of the exponent; NaN where two points leave none.
    """

    exponent: float
    error: float
    factor: float


def fit(x: Sequence[float], y: Sequence[float]) -> Fit | None:
    """Least squares of log y on log x; None for fewer than two different x."""
    if len(set(x)) < 2:
        return None
    u, v = [math.log(value) for value in x], [math.log(value) for value in y]
    mean_u, mean_v = statistics.fmean(u), statistics.fmean(v)
    spread = sum((a - mean_u) ** 2 for a in u)
    slope = sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True)) / spread
    shift = mean_v - slope * mean_u
    rest = sum((b - slope * a - shift) ** 2 for a, b in zip(u, v, strict=True))
    error = math.sqrt(rest / (len(u) - 2) / spread) if len(u) > 2 else math.nan
    return Fit(slope, error, math.exp(shift))


def measure_curve(
    name: str, curve: Curve, repetitions: int, limit: float, longest: float
) -> list[Measured]:
    """All values of a curve until it ends.

    Args:
        limit: seconds that a question may take.
        longest: seconds of processor time after which a value is the curve's last.
    """
    runs: list[Measured] = []
    works: list[tuple[float, Work]] = []
    for value in curve.values:
        work = curve.prepare(value, limit)
        first = _measure(name, value, 0, work)
        if first.late:
            runs.append(first)
            break
        works.append((value, work))
        if first.cpu > longest:
            break
    for repetition in range(1, repetitions + 1):
        for value, work in works:
            runs.append(_measure(name, value, repetition, work))
    return runs


def _measure(name: str, value: float, repetition: int, work: Work) -> Measured:
    """One run, said on standard error."""
    _forget_peak()
    cpu, wall = time.process_time(), time.monotonic()
    answer: Answer = work()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(
        f"{name} {value:g} [{repetition}]: {cpu:.3f} s of processor time, {answer.proved} proved, "
        f"{answer.refuted} refuted, {answer.late} late, {answer.nodes} nodes",
        file=sys.stderr,
        flush=True,
    )
    return Measured(
        name, value, repetition, cpu, wall, _peak_mb(), answer.proved, answer.refuted, answer.late,
        answer.nodes,
    )  # fmt: skip


def _forget_peak() -> None:
    """Let the system measure this process's peak memory anew."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def _peak_mb() -> float:
    """Highest resident memory since then."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1000, 1)


@dataclass(frozen=True)
class Panel:
    """A curve in medians.

    Args:
        x, y: values, and seconds of processor time per question.
        fits: to all of them.
        end: the value at which a question met its limit, or None.
    """

    name: str
    curve: Curve
    x: tuple[float, ...]
    y: tuple[float, ...]
    fits: Fit | None
    end: float | None

    @classmethod
    def of(cls, name: str, curve: Curve, runs: Sequence[Measured]) -> Panel:
        """From a curve's runs."""
        late = [r.value for r in runs if r.late]
        end = min(late) if late else None
        kept = [r for r in runs if end is None or r.value < end]
        x = tuple(dict.fromkeys(r.value for r in kept))
        y = tuple(statistics.median(r.seconds for r in kept if r.value == v) for v in x)
        return cls(name, curve, x, y, fit(x, y), end)

    @property
    def law(self) -> str:
        """The exponent in words."""
        if self.fits is None:
            return "no exponent"
        error = "" if math.isnan(self.fits.error) else f" ± {self.fits.error:.2f}"
        # What every command costs once flattens the beginning of a curve.
        end = math.log(self.y[-1] / self.y[-2]) / math.log(self.x[-1] / self.x[-2])
        return f"exponent {self.fits.exponent:.2f}{error} (last step {end:.2f})"

    @property
    def text(self) -> str:
        """The curve in a few words."""
        ends = "" if self.end is None else f", time limit met at {self.end:g}"
        if self.end is None and self.x[-1] < self.curve.values[-1]:
            ends = f", too long after {self.x[-1]:g}"
        if not self.x:
            return f"{self.name}: nothing{ends}"
        return (
            f"{self.name} {self.x[0]:g} to {self.x[-1]:g}: {self.law}, {self.y[0]:.3g} to "
            f"{self.y[-1]:.3g} s{ends}"
        )


def table(runs: Sequence[Measured], curves: Mapping[str, Curve]) -> list[list[str]]:
    """A row a value, in medians over the repetitions."""
    head = ["curve", "value", "processor s a question", "wall s", "memory MB", "proved", "refuted"]
    rows = [[*head, "at limit", "counted"]]
    order = list(curves)
    for name, value in sorted(
        {(r.curve, r.value) for r in runs}, key=lambda k: (order.index(k[0]), k)
    ):
        mine = [r for r in runs if (r.curve, r.value) == (name, value)]
        wall = statistics.median(r.wall * r.seconds / r.cpu if r.cpu else 0.0 for r in mine)
        last = mine[-1]
        numbers = [f"{statistics.median(r.seconds for r in mine):.4f}", f"{wall:.4f}"]
        counts = [str(last.proved), str(last.refuted), str(last.late)]
        peak = f"{max(r.memory_mb for r in mine):.0f}"
        counted = f"{last.nodes} {curves[name].counted}"
        rows.append([name, f"{value:g}", *numbers, peak, *counts, counted])
    return rows


def plot(panels: Sequence[Panel], runs: Sequence[Measured], path: Path) -> None:
    """Each curve on logarithmic axes, with its fitted line; where it ended, an open mark."""
    import matplotlib.pyplot as plt

    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    size = (3.6 * columns, 3.0 * rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, dpi=120, layout="constrained", squeeze=False
    )
    for ax, panel in zip(axes.flat, panels, strict=False):
        ax.loglog(panel.x, panel.y, "o", color="tab:blue")
        if panel.fits is not None:
            line = [panel.fits.factor * x**panel.fits.exponent for x in panel.x]
            ax.loglog(panel.x, line, "-", color="tab:orange")
        for run in runs:
            if run.curve == panel.name and run.late:
                ax.loglog([run.value], [run.seconds], "o", mfc="none", color="tab:red")
        ax.set_title(panel.law, fontsize=9)
        ax.set(xlabel=panel.curve.parameter, ylabel="processor s")
        ax.set_xticks(panel.curve.values, [f"{value:g}" for value in panel.curve.values])
        ax.tick_params(axis="x", labelsize=8, rotation=45)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    figure.savefig(path)
    plt.close(figure)


def save(out: Path, runs: Sequence[Measured], panels: Sequence[Panel], row: str) -> None:
    """The files that the module names."""
    rows = [[field.name for field in fields(Measured)], *(list(astuple(r)) for r in runs)]
    write_csv(rows, out / "runs.csv")
    plot(panels, runs, out / "scaling.png")
    laws = "".join(f"- {panel.text}\n" for panel in panels)
    curves = {panel.name: panel.curve for panel in panels}
    (out / "summary.md").write_text(markdown(table(runs, curves)) + "\n" + laws)
    (out / "row.md").write_text(row + "\n")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the results")
    parser.add_argument("--curve", action="append", choices=CURVES, help="only this one")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for a question")
    parser.add_argument(
        "--longest", type=float, default=30.0, help="processor seconds that end a curve"
    )
    parser.add_argument("--row", type=Path, metavar="FILE", help="add a row to this file")
    options = parser.parse_args(given)
    if options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {options.repetitions}")
    return options


def main(given: Sequence[str] | None = None) -> int:
    """0 measured, 2 a file cannot be written or a command failed."""
    options = arguments(given)
    curves = {name: CURVES[name] for name in options.curve or CURVES}
    words = ["benchmarks/scaling.py", *(f"--curve {name}" for name in options.curve or ())]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        session, others = Session.begin(" ".join(words)), Others()
        started, runs, panels, row = time.process_time(), list[Measured](), list[Panel](), ""
        for name, curve in curves.items():
            mine = measure_curve(name, curve, options.repetitions, options.timeout, options.longest)
            runs += mine
            panels.append(Panel.of(name, curve, mine))
            # After each curve, so that an interruption costs one.
            text = "; ".join(panel.text for panel in panels)
            share = others.share(time.process_time() - started)
            what = "scaling: processor time of a question = c · x^p in a warm process"
            row = session.row(what, share, text, "")
            save(options.out, runs, panels, row)
        print((options.out / "summary.md").read_text(), end="")
        if options.row is not None:
            append_row(options.row, row)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
