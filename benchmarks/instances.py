"""The instances of a VNN-COMP set: reading and choosing them, and their known verdicts."""

from __future__ import annotations

import argparse
import csv
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KNOWN = Path(__file__).resolve().parent / "known"
SOLVED = ("sat", "unsat")


class BadInputError(Exception):
    """What the caller gave cannot be used; the message says why."""


@dataclass(frozen=True)
class Instance:
    """One line of instances.csv; network and property as they stand there."""

    network: str
    property: str
    limit: float


def read_instances(file: Path, limit: float | None) -> list[Instance]:
    """The lines of instances.csv, with the limit replaced if one is given.

    Raises:
        BadInputError: the file is missing, empty, or a line is not network, property, seconds.
    """
    try:
        with file.open(newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    except OSError as error:
        raise BadInputError(f"{file}: {error.strerror}") from error
    if not rows:
        raise BadInputError(f"{file}: no instances")
    instances = []
    for number, row in enumerate(rows, 1):
        try:
            network, prop, seconds = row
            instances.append(Instance(network, prop, limit or float(seconds)))
        except ValueError:
            raise BadInputError(
                f"{file}:{number}: expected network, property, seconds; got {','.join(row)!r}"
            ) from None
    return instances


def read_known(file: Path) -> dict[tuple[str, str], str]:
    """(network, property) file names to sat or unsat."""
    try:
        with file.open(newline="") as lines:
            rows = list(csv.reader(lines))
    except OSError as error:
        raise BadInputError(f"{file}: {error.strerror}") from error
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or row[2] not in SOLVED:
            raise BadInputError(f"{file}:{number}: expected network, property, sat|unsat")
    return {(network, prop): verdict for network, prop, verdict in rows}


def known_for(options: argparse.Namespace) -> dict[tuple[str, str], str]:
    """The known verdicts of a set: of ``--known``, else of the set's name, if there are any."""
    file = options.known or KNOWN / f"{options.instances.resolve().parent.name}.csv"
    return read_known(file) if options.known or file.exists() else {}


def existing(folder: Path, name: str) -> Path:
    """The named file, or the same name with .gz."""
    path = folder / name
    compressed = path.with_name(path.name + ".gz")
    return compressed if not path.exists() and compressed.exists() else path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that ``chosen`` reads."""
    parser.add_argument("--timeout", type=float, help="seconds; replaces the set's own limits")
    parser.add_argument(
        "--filter", default="", help="only lines NETWORK,PROPERTY that match this expression"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th of these")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="in the random order of a seed")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N of what is left")


def chosen(options: argparse.Namespace) -> list[Instance]:
    """The instances that the options ask for.

    Raises:
        BadInputError: there are none, or an option makes no sense.
    """
    return choose(
        read_instances(options.instances, options.timeout),
        options.filter,
        options.every,
        options.shuffle,
        options.limit,
    )


def choose(
    instances: Sequence[Instance],
    expression: str = "",
    every: int = 1,
    seed: int | None = None,
    limit: int | None = None,
) -> list[Instance]:
    """First the expression, then each N-th, then the random order, then the first ones.

    Raises:
        BadInputError: nothing is left, or an argument makes no sense.
    """
    if every < 1 or (limit is not None and limit < 1):
        raise BadInputError("--every and --limit must be at least 1")
    try:
        wanted = re.compile(expression)
    except re.error as error:
        raise BadInputError(f"--filter {expression!r}: {error}") from error
    left = [i for i in instances if wanted.search(f"{i.network},{i.property}")][::every]
    if seed is not None:
        random.Random(seed).shuffle(left)
    if not left:
        raise BadInputError(f"no instance matches {expression!r}")
    return left[:limit]
