"""What runs of several tools on the same instances show: tables, ratios, losses, a cactus plot."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from instances import SOLVED

OWN = "relucid"
Key = tuple[str, str]


@dataclass(frozen=True)
class RunOf:
    """One tool on one instance.

    Args:
        result: sat, unsat, unknown, timeout or error.
        seconds: wall time of the whole process.
        peak_mb: highest memory of the process and its descendants together.
        cpu: processor time of the process.
        others: share of the machine's cores that other processes used meanwhile.
        reason: of an error, its last words.
    """

    tool: str
    network: str
    prop: str
    result: str
    seconds: float
    peak_mb: float
    cpu: float = 0.0
    others: float = 0.0
    reason: str = ""

    @property
    def key(self) -> Key:
        """Which instance."""
        return self.network, self.prop

    @property
    def solved(self) -> bool:
        """Whether it said sat or unsat."""
        return self.result in SOLVED


@dataclass(frozen=True)
class Duel:
    """relucid against another tool, on what at least one of the two solved.

    Where the other one ended with an error it may not have been set up for the instance: that is
    counted, and gives no ratio.

    Args:
        tool: the other one.
        pairs: instance to seconds (relucid, other); an unsolved one counts with its limit.
        own, other: the runs.
    """

    tool: str
    pairs: Mapping[Key, tuple[float, float]]
    own: Mapping[Key, RunOf]
    other: Mapping[Key, RunOf]

    @classmethod
    def of(cls, tool: str, runs: Sequence[RunOf], limits: Mapping[Key, float]) -> Duel:
        """The runs of two tools, side by side."""
        own = {r.key: r for r in runs if r.tool == OWN}
        other = {r.key: r for r in runs if r.tool == tool}

        def cost(r: RunOf) -> float:
            return r.seconds if r.solved else max(limits[r.key], r.seconds)

        compared = [k for k in own if k in other and other[k].result != "error"]
        both = [k for k in compared if own[k].solved or other[k].solved]
        return cls(tool, {k: (cost(own[k]), cost(other[k])) for k in both}, own, other)

    @property
    def ratios(self) -> list[float]:
        """Seconds of the other tool over seconds of relucid."""
        return [theirs / ours for ours, theirs in self.pairs.values()]

    @property
    def of_totals(self) -> float:
        """All its seconds over all of relucid's."""
        pairs = self.pairs.values()
        return sum(theirs for _, theirs in pairs) / sum(ours for ours, _ in pairs)

    def losses(self) -> list[str]:
        """Every instance that the other tool solved sooner, or alone."""
        found = []
        for k, (ours, theirs) in self.pairs.items():
            own, other = self.own[k], self.other[k]
            if other.solved and not own.solved:
                found.append(f"{k[0]} {k[1]} (only {self.tool}, {theirs:.1f} s)")
            elif other.solved and theirs < ours:
                found.append(f"{k[0]} {k[1]} ({ours:.2f} / {theirs:.2f} s)")
        return found


def contradictions(runs: Sequence[RunOf], known: Mapping[Key, str]) -> Iterator[tuple[RunOf, str]]:
    """Solved runs against known verdicts; without one, against relucid's or the first tool's."""
    said: dict[Key, str] = {}
    for r in sorted(runs, key=lambda r: r.tool != OWN):
        if not r.solved:
            continue
        said.setdefault(r.key, r.result)
        truth = known.get((Path(r.network).name, Path(r.prop).name), said[r.key])
        if r.result != truth:
            yield r, truth


def tools(runs: Sequence[RunOf]) -> list[str]:
    """relucid first, then the others as they come."""
    return sorted(dict.fromkeys(r.tool for r in runs), key=lambda tool: tool != OWN)


def summary(runs: Sequence[RunOf], limits: Mapping[Key, float]) -> str:
    """A table of the tools, then of relucid against each of the others, in Markdown."""
    lines = [
        "| tool | solved | unsat | sat | median s | total s | processor s | largest MB | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for tool in tools(runs):
        mine = [r for r in runs if r.tool == tool]
        lines.append(
            f"| {tool} | {sum(r.solved for r in mine)} of {len(mine)} "
            f"| {sum(r.result == 'unsat' for r in mine)} "
            f"| {sum(r.result == 'sat' for r in mine)} | {_median(mine):.2f} "
            f"| {sum(r.seconds for r in mine):.1f} | {sum(r.cpu for r in mine):.1f} "
            f"| {max(r.peak_mb for r in mine):.0f} | {sum(r.result == 'error' for r in mine)} |"
        )
    lines += [
        "",
        f"Other processes used {100 * busy(runs):.0f} % of the machine meanwhile, "
        f"{100 * max(r.others for r in runs):.0f} % during the worst run.",
    ]
    duels = [Duel.of(tool, runs, limits) for tool in tools(runs) if tool != OWN]
    if duels:
        lines += [
            "",
            "Ratios are seconds of the other tool over seconds of relucid; an unsolved instance "
            "counts with its limit; instances that neither solves, and errors of the other tool, "
            "are left out.",
            "",
            "| against | instances | median ratio | worst | of totals | relucid lost on |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
    for duel in duels:
        figures = "| | |"
        if duel.pairs:
            ratios = duel.ratios
            figures = f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} "
            figures += f"| {duel.of_totals:.2f} |"
        lost = "; ".join(duel.losses()) or "none"
        lines.append(f"| {duel.tool} | {len(duel.pairs)} {figures} {lost} |")
    return "\n".join(lines) + "\n"


def busy(runs: Sequence[RunOf]) -> float:
    """The share of the machine that others used, over all runs."""
    seconds = sum(r.seconds for r in runs)
    return sum(r.others * r.seconds for r in runs) / seconds if seconds else 0.0


def figure(runs: Sequence[RunOf]) -> str:
    """relucid's own figures in a few words."""
    mine = [r for r in runs if r.tool == OWN]
    return (
        f"relucid {sum(r.solved for r in mine)} of {len(mine)} solved, median "
        f"{_median(mine):.2f} s, total {sum(r.seconds for r in mine):.1f} s "
        f"({sum(r.cpu for r in mine):.1f} s of processor time), at most "
        f"{max(r.peak_mb for r in mine):.0f} MB"
    )


def versus(runs: Sequence[RunOf], limits: Mapping[Key, float]) -> str:
    """The rivals' figures, ratios and every loss, in a few words each."""
    parts = []
    for tool in tools(runs):
        if tool == OWN:
            continue
        mine, duel = [r for r in runs if r.tool == tool], Duel.of(tool, runs, limits)
        text = (
            f"{tool}: {sum(r.solved for r in mine)} solved, errors: "
            f"{sum(r.result == 'error' for r in mine)}, median {_median(mine):.2f} s, total "
            f"{sum(r.seconds for r in mine):.1f} s ({sum(r.cpu for r in mine):.1f} s of processor "
            f"time), {max(r.peak_mb for r in mine):.0f} MB"
        )
        if duel.pairs:
            text += (
                f"; ratio median {statistics.median(duel.ratios):.2f}, worst "
                f"{min(duel.ratios):.2f}, of totals {duel.of_totals:.2f}"
            )
        lost = duel.losses()
        parts.append(text + f"; losses: {'; '.join(lost) if lost else 'none'}")
    return ". ".join(parts)


def _median(runs: Sequence[RunOf]) -> float:
    """Seconds of the solved ones."""
    return statistics.median([r.seconds for r in runs if r.solved] or [0.0])


def table(runs: Sequence[RunOf]) -> list[list[str]]:
    """Instance by instance: result and seconds of every tool, and who was fastest."""
    names = tools(runs)
    of = {(r.tool, r.key): r for r in runs}
    rows = [["network", "property", *(f"{n} {x}" for n in names for x in ("result", "s")), "best"]]
    for key in dict.fromkeys(r.key for r in runs):
        mine = [of.get((name, key)) for name in names]
        cells = [c for r in mine for c in ((r.result, f"{r.seconds:.2f}") if r else ("", ""))]
        solved = [r for r in mine if r is not None and r.solved]
        best = min(solved, key=lambda r: r.seconds).tool if solved else ""
        rows.append([*key, *cells, best])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is the head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write_csv(rows: Sequence[Sequence[object]], path: Path) -> None:
    """The same for programs."""
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def cactus(runs: Sequence[RunOf], path: Path) -> None:
    """Seconds against the number of instances that a tool solves within them."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), dpi=150, layout="constrained")
    for tool in tools(runs):
        seconds = sorted(r.seconds for r in runs if r.tool == tool and r.solved)
        axes.plot(range(1, len(seconds) + 1), seconds, marker=".", label=tool)
    axes.set(yscale="log", xlabel="instances solved", ylabel="seconds each at most")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
    plt.close(figure)
