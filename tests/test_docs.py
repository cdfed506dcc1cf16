"""What the guide says is there, is there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from relucid import commands as typed
from verifier.io.operators import OPERATORS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[bd]*/**/*.md")])
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def commands() -> dict[str, object]:
    return typer.main.get_command(typed.app).commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page.name}: {target}"


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_reference_lists_every_operator(operator):
    section = REFERENCE.split("## Models")[1].split("## Properties")[0]
    assert re.search(rf"\b{operator}\b", section)


def test_reference_lists_no_other_operator():
    section = REFERENCE.split("The supported operators:")[1].split("Anything that")[0]
    assert set(re.findall(r"\w+", section)) == set(OPERATORS)


@pytest.mark.parametrize("command", sorted(commands()))
def test_reference_lists_every_option(command):
    section = re.split(r"\n###? ", REFERENCE.split(f"### relucid {command}")[1])[0]
    listed = set(re.findall(r"`(--[a-z0-9-]+)", section))
    options = {
        option
        for parameter in commands()[command].params
        for option in [*parameter.opts, *parameter.secondary_opts]
        if option.startswith("--") and option != "--help"
    }
    assert listed >= options
    assert listed <= options | {"--property", "--data"}


def printed_commands() -> list[tuple[str, str]]:
    """Every ``$ relucid ...`` line of the console blocks, up to a pipe or a redirection."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            lines = re.findall(r"^\$ (relucid .*)$", block, re.MULTILINE)
            found += [(page.name, re.split(r" [|>] ", line)[0]) for line in lines]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), printed_commands())
def test_printed_commands_are_understood(page, line):
    """Their options exist and take these values; nothing is run."""
    name, *rest = shlex.split(line)[1:]
    command = commands()[name]
    context = command.make_context(name, rest, resilient_parsing=False)
    assert context.args == []


def without_times(page: str) -> str:
    """The page without what differs from run to run: seconds, and the widths of their columns."""
    return re.sub(r"[ -]+", " ", re.sub(r"\d+\.\d+", "#", page))


@pytest.mark.slow
def test_printed_output_is_what_the_commands_print(tmp_path):
    refresh = importlib.import_module("refresh")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for page in refresh.PAGES:
        text = page.read_text()
        assert without_times(refresh.refreshed(text, tmp_path)) == without_times(text)
