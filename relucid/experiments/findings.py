"""What an experiment leaves: tables as CSV, pictures as PNG, and a summary in Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from relucid.numbers import nearest
from verifier.core.files import write_atomic

#: None is a cell without a value. A share is a Fraction: 9880/10000 is 98.80 % in Markdown and
#: both numbers in CSV.
Cell = str | int | float | Fraction | None


@dataclass(frozen=True)
class Table:
    """Rows under heads.

    Args:
        title: of the table in Markdown.
        heads: names of the columns.
        rows: of as many cells each.
        name: of its CSV file, after the experiment's; "" for the main one.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    name: str = ""

    def markdown(self) -> str:
        """As a Markdown table."""
        lines = [f"| {' | '.join(self.heads)} |", f"|{' --- |' * len(self.heads)}"]
        lines += [f"| {' | '.join(shown(cell) for cell in row)} |" for row in self.rows]
        return "\n".join(lines)

    def csv(self) -> str:
        """As CSV; shares as decimal numbers between 0 and 1."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.heads)
        for row in self.rows:
            writer.writerow(
                ["" if c is None else nearest(c) if isinstance(c, Fraction) else c for c in row]
            )
        return stream.getvalue()


@dataclass(frozen=True)
class Findings:
    """All that an experiment found.

    Args:
        title: one line.
        tables: the main one first.
        notes: what a reader must know, a paragraph each: which figures are the slides', what was
            made smaller, what is exact and what is not.
        pictures: PNG files by the names that follow the experiment's; "" is the main one.
    """

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path, name: str) -> tuple[Path, ...]:
        """Write NAME.md, NAME.csv, NAME-TABLE.csv, NAME.png, NAME-PICTURE.png.

        Raises:
            OSError: the folder cannot be written to.
        """
        written = []
        parts = [f"# {self.title}\n"]
        for table in self.tables:
            path = folder / f"{_joined(name, table.name)}.csv"
            write_atomic(path, table.csv().encode())
            written.append(path)
            parts.append(f"## {table.title}\n\n{table.markdown()}\n")
        for key, png in self.pictures.items():
            path = folder / f"{_joined(name, key)}.png"
            write_atomic(path, png)
            written.append(path)
            parts.append(f"![{path.stem}]({path.name})\n")
        parts += [f"{note}\n" for note in self.notes]
        path = folder / f"{name}.md"
        write_atomic(path, "\n".join(parts).encode())
        return (path, *written)


def shown(cell: Cell) -> str:
    """A cell for a person."""
    if cell is None:
        return "–"
    if isinstance(cell, Fraction):
        return f"{nearest(100 * cell):.2f} %"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return str(cell)


def _joined(name: str, more: str) -> str:
    return f"{name}-{more}" if more else name


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[Fraction | float | None]],
    title: str,
    axis_title: str,
) -> bytes:
    """Shares as bars side by side, as a PNG file.

    Args:
        groups: names along the axis.
        series: a share for each group, by the name in the legend; None leaves a bar out.
        title: of the picture.
        axis_title: what the shares are of.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 1.1 * len(groups) + 3), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(series)
    for k, (name, values) in enumerate(series.items()):
        places = [
            g + (k - (len(series) - 1) / 2) * width for g, v in enumerate(values) if v is not None
        ]
        heights = [100 * float(v) for v in values if v is not None]
        axes.bar(places, heights, width, label=name)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(title=title, ylabel=f"{axis_title}, %", ylim=(0, 105))
    axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def lines(
    places: Sequence[float],
    series: Mapping[str, Sequence[Fraction | float]],
    title: str,
    x_title: str,
    y_title: str,
) -> bytes:
    """Shares over a number as lines, as a PNG file.

    Args:
        places: along the axis.
        series: a share for each place, by the name in the legend.
        title: of the picture.
        x_title: what the places are.
        y_title: what the shares are of.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, (name, values) in enumerate(series.items()):
        # Lines that coincide stay visible: the later ones are thinner, with smaller marks.
        size = 9 * 0.7**k
        shares = [100 * float(v) for v in values]
        axes.plot(places, shares, marker="o", markersize=size, linewidth=size / 2, label=name)
    axes.set(title=title, xlabel=x_title, ylabel=f"{y_title}, %", ylim=(-2, 102))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()
