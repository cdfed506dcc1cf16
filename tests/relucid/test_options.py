"""Options that several commands share are the same in each, and refused in the same words."""

import inspect
import math
from fractions import Fraction
from typing import get_type_hints

import pytest
import typer

from relucid.certify import certify
from relucid.lipschitz import lipschitz
from relucid.options import Center, Outputs, choose_samples, require_seconds
from relucid.radius import radius
from verifier.core.decision import Rule

COMMANDS = (certify, lipschitz, radius)


def declared(command):
    """Parameter -> its annotation with what the help says."""
    return get_type_hints(command, include_extras=True)


@pytest.mark.parametrize("name", ["model", "clip", "no_clip", "seed", "json_output"])
def test_all_commands_declare_the_same(name):
    first, *others = (declared(command)[name] for command in COMMANDS)
    assert all(other == first for other in others)
    defaults = {inspect.signature(command).parameters[name].default for command in COMMANDS}
    assert len(defaults) == 1


@pytest.mark.parametrize("name", ["index", "start", "limit", "center", "outputs", "out"])
def test_data_sets_are_chosen_the_same_way(name):
    assert declared(certify)[name] == declared(radius)[name]


def test_samples_are_what_was_asked_for():
    got = choose_samples(
        "digits", Fraction(1, 7), ("-0.5", "8/3"), False,
        start=3, limit=4, center=Center.exact, outputs=Outputs.sign,
    )  # fmt: skip
    assert (got.data, got.eps, got.clip) == (
        "digits",
        Fraction(1, 7),
        (Fraction(-1, 2), Fraction(8, 3)),
    )
    assert (got.index, got.start, got.limit) == (None, 3, 4)
    assert (got.exact_center, got.default_clip, got.rule) == (True, True, Rule.sign)
    plain = choose_samples("digits", Fraction(0), None, True, index=5)
    assert (plain.index, plain.clip, plain.default_clip) == (5, None, False)
    assert (plain.exact_center, plain.rule) == (False, None)


@pytest.mark.parametrize(
    ("clip", "no_clip", "chosen", "words"),
    [
        (None, False, {"index": 0, "start": 1}, "--index chooses one point"),
        (None, False, {"index": 0, "limit": 1}, "--index chooses one point"),
        (("0", "1"), True, {}, "--clip and --no-clip exclude each other"),
        (("1", "1/2"), False, {}, "--clip needs LOW <= HIGH, got 1 1/2"),
        (("0", "one"), False, {}, "--clip: expected a decimal such as 0.03"),
    ],
)
def test_what_does_not_go_together_is_refused(clip, no_clip, chosen, words):
    with pytest.raises(typer.BadParameter, match=words):
        choose_samples("digits", Fraction(1), clip, no_clip, **chosen)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf])
def test_a_time_limit_that_is_none_is_refused(seconds):
    with pytest.raises(typer.BadParameter, match="positive number of seconds"):
        require_seconds(seconds)


def test_an_interval_of_one_value_and_no_end_of_time_are_allowed():
    require_seconds(math.inf)
    assert choose_samples("digits", Fraction(1), ("1", "1"), False).clip == (1, 1)
