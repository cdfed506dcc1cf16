"""Two points beside each other, as a grid of characters or a PNG file; and a histogram."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from relucid.numbers import nearest

_SHADES = " .:-=+*#%@"
_WIDEST_GRID = 32
_GAP = "   "


def planes(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(channels, rows, columns) if points of this shape are pictures, else None."""
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape
    return None


def text_grid(
    center: Sequence[Fraction],
    witness: Sequence[Fraction],
    shape: tuple[int, ...],
    titles: Sequence[str] = ("original", "witness", "change"),
) -> list[str]:
    """Two points and their difference side by side, a character or two a pixel.

    Grey levels span the two pictures' common range; colours are averaged. In the third grid, +
    and − mark pixels moved by more than half of the largest change, · smaller ones, blank none.

    Returns:
        Lines; none if the points are no pictures or too wide for a terminal.
    """
    form = planes(shape)
    if form is None or form[2] > _WIDEST_GRID:
        return []
    before, after = (
        np.array([nearest(v) for v in point]).reshape(form).mean(axis=0)
        for point in (center, witness)
    )
    change = after - before
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    repeat = 2 if form[2] <= 14 else 1
    width = form[2] * repeat
    heads = [title[:width].ljust(width) for title in titles]
    lines = [_GAP.join(heads).rstrip()]
    for row in range(form[1]):
        cells = [_shades(before[row], low, high), _shades(after[row], low, high)]
        cells.append(_signs(change[row], np.abs(change).max()))
        lines.append(_GAP.join("".join(c * repeat for c in line) for line in cells).rstrip())
    return lines


def _shades(values: np.ndarray, low: float, high: float) -> str:
    """Grey levels as characters."""
    span = high - low or 1.0
    levels = np.clip((values - low) / span * len(_SHADES), 0, len(_SHADES) - 1).astype(int)
    return "".join(_SHADES[k] for k in levels)


def _signs(change: np.ndarray, largest: float) -> str:
    """+, −, · or blank for each change."""
    marks = []
    for value in change:
        if value == 0:
            marks.append(" ")
        elif abs(value) <= largest / 2:
            marks.append("·")
        else:
            marks.append("+" if value > 0 else "−")
    return "".join(marks)


def png(
    center: Sequence[Fraction],
    witness: Sequence[Fraction],
    shape: tuple[int, ...],
    titles: Sequence[str],
) -> bytes:
    """The same three pictures as a PNG file; the change is shown on its own scale.

    Args:
        center: the original.
        witness: the point that breaks it.
        shape: (rows, columns) or (1 or 3, rows, columns).
        titles: three of them.

    Raises:
        ValueError: the points are no pictures.
    """
    return gallery([(center, witness, titles)], shape)


def gallery(
    rows: Sequence[tuple[Sequence[Fraction], Sequence[Fraction], Sequence[str]]],
    shape: tuple[int, ...],
) -> bytes:
    """Pairs of points below each other: original, changed, and the change on its own scale.

    Args:
        rows: (original, changed, three titles) of each pair, at least one.
        shape: (rows, columns) or (1 or 3, rows, columns).

    Raises:
        ValueError: the points are no pictures.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    form = planes(shape)
    if form is None:
        raise ValueError(f"points of shape {shape} are no pictures")
    figure, axes = plt.subplots(
        len(rows), 3, figsize=(9, 3.4 * len(rows)), layout="constrained", squeeze=False
    )
    for line, (center, witness, titles) in zip(axes, rows, strict=True):
        before, after = (
            np.array([nearest(v) for v in point]).reshape(form).transpose(1, 2, 0)
            for point in (center, witness)
        )
        change = (after - before).mean(axis=2)
        largest = float(np.abs(change).max()) or 1.0
        scale = {"vmin": 0.0, "vmax": max(1.0, before.max(), after.max())}
        for axis, picture in zip(line[:2], (before, after), strict=True):
            flat = picture[:, :, 0] if form[0] == 1 else np.clip(picture, 0, 1)
            axis.imshow(flat, cmap="gray", **scale)
        drawn = line[2].imshow(change, cmap="RdBu", vmin=-largest, vmax=largest)
        figure.colorbar(drawn, ax=line[2], shrink=0.8)
        for axis, title in zip(line, titles, strict=True):
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    plt.close(figure)
    return stream.getvalue()


def histogram(values: np.ndarray, mark: float, title: str, mark_title: str) -> bytes:
    """How many values lie where, as a PNG file.

    Args:
        values: (n,) finite floats.
        mark: where to draw a line.
        title: of the picture.
        mark_title: of the line.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axis.hist(values, bins=64, color="#4a7ab5")
    axis.axvline(mark, color="#c0392b", label=mark_title)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("ℓ∞ distance to the nearest point with another label")
    axis.set_ylabel("points")
    axis.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    plt.close(figure)
    return stream.getvalue()
