"""The plainest command lines, read without Typer, which takes longer to load than many to answer.

``relucid certify MODEL --property FILE`` and ``relucid check MODEL PROPERTY PROOF``, with options
that take a whole word, a file or a number. Everything else (help, mistakes, ``--name=value``,
other options) is left to ``relucid.commands``, and means there what it means here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def _seconds(text: str) -> float:
    """A positive number of seconds.

    Raises:
        ValueError: written in any other way than 60 or 0.5.
    """
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or float(text) == 0:
        raise ValueError(text)
    return float(text)


def _count(text: str) -> int:
    """A number that is at least 0.

    Raises:
        ValueError: anything but a few digits.
    """
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


@dataclass(frozen=True)
class Form:
    """What a command line may consist of.

    Args:
        positional: names and types of the arguments without a dash, all of which must be there.
        options: by name, the parameter that its value goes to, and the value's type.
        flags: by name, the parameter that it sets.
        required: options that must be there.
    """

    positional: tuple[tuple[str, Callable[[str], Any]], ...]
    options: dict[str, tuple[str, Callable[[str], Any]]]
    flags: dict[str, str]
    required: tuple[str, ...] = ()


FORMS = {
    "certify": Form(
        (("model", str),),
        {
            "--property": ("property_file", Path),
            "--timeout": ("timeout", _seconds),
            "--seed": ("seed", _count),
            "--out": ("out", Path),
            "--counterexample": ("counterexample", Path),
            "--proof": ("proof", Path),
        },
        {"--json": "json_output"},
        ("--property",),
    ),
    "check": Form(
        (("model", str), ("property_file", Path), ("proof", Path)),
        {},
        {"--plain": "plain", "--json": "json_output"},
    ),
}


def read(arguments: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The command and its parameters, or None if they are not as plain as that.

    Args:
        arguments: without the program's name.
    """
    form = FORMS.get(arguments[0]) if arguments else None
    if form is None:
        return None
    words, free, given = iter(arguments[1:]), iter(form.positional), {}
    try:
        for word in words:
            if word in form.flags:
                name, value = form.flags[word], True
            elif word in form.options:
                (name, convert), text = form.options[word], next(words)
                value = convert(_plain(text))
            else:
                (name, convert) = next(free)
                value = convert(_plain(word))
            if name in given:
                return None
            given[name] = value
    except (StopIteration, ValueError):
        return None
    wanted = [name for name, _ in form.positional] + [form.options[o][0] for o in form.required]
    return (arguments[0], given) if given.keys() >= set(wanted) else None


def _plain(word: str) -> str:
    """A word that is no option, and something.

    Raises:
        ValueError: it is.
    """
    if not word or word.startswith("-"):
        raise ValueError(word)
    return word


def run(arguments: Sequence[str]) -> int | None:
    """Run the command; its exit status, or None if the line is not plain and nothing was done.

    Raises:
        Exception: whatever the command raises.
    """
    started = time.monotonic()
    parsed = read(arguments)
    if parsed is None:
        return None
    command, given = parsed
    if command == "check":
        from relucid.proof_check import check_files

        return check_files(**given)
    from relucid import certification
    from relucid.runs import Options

    names = ("out", "counterexample", "proof", "json_output")
    out, counterexample, proof, json_output = (given.get(name) for name in names)
    options = Options(given.get("timeout", 60.0), seed=given.get("seed", 0), proof=bool(proof))
    targets = certification.Targets(out, counterexample, None, bool(json_output), proof)
    return certification.certify_property(
        given["model"], given["property_file"], options, targets, started
    )
