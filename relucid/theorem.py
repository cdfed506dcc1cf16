"""``relucid theorem``: a theorem on a concrete instance, proved before it is printed."""

from __future__ import annotations

import json
import textwrap
import time
from dataclasses import replace
from importlib import import_module
from typing import Annotated

import typer

from constructions.demonstration import Demonstration, Question, Shown, SlopeQuestion
from relucid.numbers import rational
from verifier.core.verdict import Unknown, Verdict, word

#: One theorem = one entry: the module in ``constructions`` whose ``demonstrate()`` shows it.
THEOREMS = {
    "separation": "separation_theorem",
    "optimal-robust": "optimal_robust",
    "compact": "compact",
    "width-bound": "width_bound",
    "depth-two": "depth_two",
    "lipschitz": "lipschitz",
    "lipschitz-depth-two": "lipschitz_depth_two",
    "game": "game",
    "memorization": "memorization",
    "bias": "bias",
    "np-hardness": "np_hardness",
    "parameter-attack": "parameter_attack",
}

_WIDTH = 100

#: Seconds for one question; theorems are small.
_LIMIT = 10.0


def theorem(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(THEOREMS)}.")],
    model: Annotated[
        str | None,
        typer.Option(help="width-bound only: refute this ONNX file (or bundled model) instead."),
    ] = None,
    mu: Annotated[
        str | None,
        typer.Option(help="With --model: the radius, at least 1/4, which is the default."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a theorem on a concrete instance: what was proved, and by what certificate."""
    if name not in THEOREMS:
        raise typer.BadParameter(f"no theorem {name!r}; there are {', '.join(THEOREMS)}")
    if model is not None and name != "width-bound":
        raise typer.BadParameter("--model goes with width-bound")
    if mu is not None and model is None:
        raise typer.BadParameter("--mu goes with --model")
    radius = None if mu is None else rational(mu, "--mu")
    started = time.monotonic()
    module = import_module(f"constructions.{THEOREMS[name]}")
    shown: Demonstration
    if model is None:
        shown = module.demonstrate()
    else:
        from relucid.runs import open_model

        network = open_model(model).network
        shown = module.demonstrate_on(network, *([] if radius is None else [radius]))
    answers = tuple(ask(question) for question in shown.questions)
    answers += tuple(ask_slope(question) for question in shown.slopes)
    shown = replace(shown, shown=shown.shown + answers)
    seconds = time.monotonic() - started
    if json_output:
        print(json.dumps(_as_json(name, shown, seconds), indent=2, ensure_ascii=False))
        return
    print(_as_text(name, shown))


def ask(question: Question) -> Shown:
    """Put a question to the verifier, every property with all engines.

    Raises:
        ClaimError: a verdict is not the theorem's; that is a defect, never the input's fault.
    """
    # Loading the engines takes half a second, which theorems without questions need not wait for.
    from constructions.claims import ClaimError
    from verifier.search.portfolio import certify

    expected = "refuted" if question.refuted else "proved"
    for prop in question.properties:
        verdict = certify(question.network, prop, timeout=_LIMIT)
        if word(verdict) != expected:
            raise ClaimError(
                f"{question.claim}: the verifier should say {expected} of {prop.name}, "
                f"says {_words(verdict)}"
            )
    count = len(question.properties)
    what = "the property" if count == 1 else f"each of {count} properties"
    how = ", by a point evaluated exactly" if question.refuted else ""
    return Shown(question.claim, f"the verifier, which knows no theorem: {what} {expected}{how}")


def ask_slope(question: SlopeQuestion) -> Shown:
    """Let the verifier find a Lipschitz constant, and check its evidence again.

    Raises:
        ClaimError: the constant is not the theorem's.
    """
    from constructions.claims import ClaimError
    from verifier.search.lipschitz import lipschitz
    from verifier.search.lipschitz_check import check_lipschitz
    from verifier.search.problem import Deadline

    found = lipschitz(question.network, deadline=Deadline(_LIMIT))
    wanted = question.constant
    if not (found.lower >= wanted if question.least else found.lower == wanted == found.upper):
        least = "at least " if question.least else ""
        raise ClaimError(
            f"{question.claim}: the constant should be {least}{wanted}, the verifier "
            f"finds it between {found.lower} and {found.upper}"
        )
    check_lipschitz(question.network, None, None, found)
    value = f"exactly {found.lower}" if found.exact else f"at least {found.lower}"
    return Shown(
        question.claim,
        f"the verifier, which knows no theorem: {value}, by the gradient at an exact point and a "
        f"tree of {len(found.evidence.steps)} cells, checked again",
    )


def _words(verdict: Verdict) -> str:
    """The verdict, with the reason if there is one."""
    return f"unknown ({verdict.reason})" if isinstance(verdict, Unknown) else word(verdict)


def _as_json(name: str, shown: Demonstration, seconds: float) -> dict[str, object]:
    return {
        "theorem": name,
        "statement": shown.statement,
        "instance": shown.instance,
        "proved": [{"claim": s.claim, "certificate": s.certificate} for s in shown.shown],
        "values": shown.values,
        "seconds": round(seconds, 3),
    }


def _as_text(name: str, shown: Demonstration) -> str:
    """The statement, the instance, and each claim with its certificate, wrapped."""
    lines = [name, *_wrapped("theorem", shown.statement), *_wrapped("instance", shown.instance)]
    for item in shown.shown:
        lines += ["", *_wrapped("proved", item.claim), *_wrapped("by", item.certificate)]
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {head:<10}",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )
