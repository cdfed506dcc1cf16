"""``relucid separation``: how far apart the classes of a data set lie."""

from __future__ import annotations

import csv
import io
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from constructions.dataset import DataSet
    from constructions.separation import Separation

SHARES = tuple(Fraction(p, 100) for p in (0, 1, 5, 25, 50, 75, 95, 99, 100))


def separation(
    data: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="digits, a folder of IDX or CIFAR files, an NPZ or CSV; "
            "SET:train, SET:test or SET:all chooses a part (all by default).",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="SET", help="Look for the enemies of SET's points in this set, not in SET."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only λ and a closest pair, not every point.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write every point's nearest enemy to a .csv file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a PNG of the closest pair (pictures only).")
    ] = None,
    histogram: Annotated[
        Path | None, typer.Option(help="Write a PNG histogram of the distances.")
    ] = None,
) -> None:
    """Measure λ, the smallest ℓ∞ distance between differently labelled points, exactly.

    A network can be right on whole balls of radius μ around all points exactly if μ < λ/2.
    """
    for name, value in {"--out": out, "--histogram": histogram, "--against": against}.items():
        if quick and value is not None:
            raise typer.BadParameter(f"{name} needs every point's distance; leave out --quick")
    # Loading the compiled search takes a second, which --help need not wait for.
    from constructions.dataset import load_dataset
    from relucid.pictures import planes
    from verifier.core.files import write_atomic

    first = load_dataset(data)
    second = first if against is None else load_dataset(against)
    if picture is not None and planes(first.shape) is None:
        raise typer.BadParameter(
            f"--picture: points of {first.name} have shape {first.shape}: they are no pictures"
        )
    found = _measure(first, second, quick, against is not None)
    if out is not None:
        write_atomic(out, _csv_text(found, first, second).encode())
    if picture is not None:
        write_atomic(picture, _pair_png(found, first, second))
    if histogram is not None:
        write_atomic(histogram, _histogram_png(found, first, second))
    if json_output:
        record = _record(found, first, None if against is None else second)
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    else:
        print("\n".join(_lines(found, first, None if against is None else second)))


def _measure(first: DataSet, second: DataSet, quick: bool, between: bool) -> Separation:
    """The search, with its progress on stderr."""
    from constructions.separation import separation as measure
    from constructions.separation import separation_between
    from relucid.compilation import note_compilation
    from relucid.progress import Reporter

    note_compilation()
    with Reporter(1) as reporter:
        reporter.begin(first.name)

        def progress(share: float) -> None:
            reporter.update("nearest enemies", share)

        if between:
            return separation_between(first, second, progress=progress)
        return measure(first, nearest=not quick, progress=progress)


def _lines(found: Separation, first: DataSet, against: DataSet | None) -> list[str]:
    """The answer for a person."""
    from relucid.pictures import text_grid

    second = first if against is None else against
    (i, j), (a, b) = found.pair, found.labels
    of_second = "" if against is None else f" of {second.name}"
    sizes = " × ".join(str(s) for s in first.shape)
    lines = [
        f"{first.name}: {len(first)} points of {sizes} numbers, {first.n_classes} classes",
        *([] if against is None else [f"enemies from {second.name}: {len(second)} points"]),
        "",
        f"λ    {_value(found.lam)}",
        f"λ/2  {_value(found.lam / 2)}",
        f"closest enemies: point {i} (label {first.label_name(a)}) and "
        f"point {j}{of_second} (label {second.label_name(b)})",
    ]
    if found.lam == 0:
        lines.append("They are equal: no network is right on both, and no ball fits around either.")
    grid = text_grid(
        first.sample(i), second.sample(j), first.shape, (f"point {i}", f"point {j}", "change")
    )
    lines += ["", *grid] if grid else []
    if found.nearest is None:
        return lines
    lines += ["", "distance to the nearest enemy"]
    for share in SHARES:
        value = found.nearest.quantile(share)
        lines.append(f"  {_share_name(share):<9} {_value(value)}")
    noun = "point has an enemy" if found.attained == 1 else "points have an enemy"
    return [*lines, f"{found.attained} {noun} at distance λ"]


def _share_name(share: Fraction) -> str:
    """How people call a quantile."""
    names = {Fraction(0): "smallest", Fraction(1, 2): "median", Fraction(1): "largest"}
    return names.get(share, f"{share * 100}%")


def _value(value: Fraction) -> str:
    """``188/255 ≈ 0.737255``, or one of the two where they agree."""
    from relucid.numbers import approximate

    text = approximate(value)
    if text == str(value):
        return text
    if value.denominator > 10**6:
        return text
    return f"{value} {text[0]} {text[1:]}" if text.startswith("≈") else f"{value} = {text}"


def _record(found: Separation, first: DataSet, against: DataSet | None) -> dict[str, Any]:
    """The answer for machines; rationals are strings."""
    record: dict[str, Any] = {
        "data": first.name,
        "against": None if against is None else against.name,
        "points": len(first),
        "classes": first.n_classes,
        "lambda": str(found.lam),
        "pair": list(found.pair),
        "labels": list(found.labels),
        "quantiles": None,
        "attained": found.attained,
    }
    if found.nearest is not None:
        record["quantiles"] = {
            str(float(share)): str(found.nearest.quantile(share)) for share in SHARES
        }
    return record


def _csv_text(found: Separation, first: DataSet, second: DataSet) -> str:
    """A line a point: index, label, its nearest enemy's index and label, the exact distance."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("index", "label", "enemy", "enemy_label", "distance"))
    if found.nearest is None:
        raise ValueError("the nearest enemies were not searched for")
    for i, j in enumerate(found.nearest.enemy.tolist()):
        writer.writerow((i, first.labels[i], j, second.labels[j], str(found.nearest.distance(i))))
    return stream.getvalue()


def _pair_png(found: Separation, first: DataSet, second: DataSet) -> bytes:
    """The closest pair and its difference."""
    from relucid.pictures import png

    (i, j), (a, b) = found.pair, found.labels
    titles = (
        f"{first.name} {i}: {first.label_name(a)}",
        f"{second.name} {j}: {second.label_name(b)}",
        f"change, λ {_value(found.lam)}",
    )
    return png(first.sample(i), second.sample(j), first.shape, titles)


def _histogram_png(found: Separation, first: DataSet, second: DataSet) -> bytes:
    """Where the distances lie."""
    from relucid.numbers import nearest
    from relucid.pictures import histogram

    if found.nearest is None:
        raise ValueError("the nearest enemies were not searched for")
    other = "" if second is first else f", enemies from {second.name}"
    title = f"{first.name}: {len(first)} points{other}"
    return histogram(found.nearest.floats(), nearest(found.lam), title, f"λ {_value(found.lam)}")
