"""Write the lock files: the exact versions, installed here, of all that each group needs.

Run it with the project's own interpreter after upgrading something: ``make lock``.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
#: Its own needs differ from build to build (processor or GPU); only itself is pinned.
UNFOLDED = "torch"
HEADER = "# Written by requirements/lock.py from the ranges in pyproject.toml; do not edit.\n"


def closure(requirements: list[str]) -> set[str]:
    """Canonical names of the requirements and of all that they need here, Torch's own needs not."""
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [Requirement(line) for line in requirements]
    while pending:
        requirement = pending.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if requirement.name == UNFOLDED:
            continue
        for line in distribution(requirement.name).requires or []:
            needed = Requirement(line)
            extras = requirement.extras or {""}
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                pending.append(needed)
    return {name for name, _ in seen}


def write(file: str, names: set[str], include: str | None = None) -> None:
    """One line ``name==version`` for each name, after the file that this one builds on."""
    lines = [f"-r {include}\n"] if include else []
    lines += [f"{name}=={pinned_version(name)}\n" for name in sorted(names)]
    (ROOT / "requirements" / file).write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"requirements/{file}: {len(names)} packages")


def pinned_version(name: str) -> str:
    """The installed version without its local part (``2.13.0+cpu`` is 2.13.0 to every index)."""
    return re.sub(r"\+.*", "", distribution(name).version)


def main() -> None:
    """Write core.txt, test.txt, lint.txt and models.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    core = closure(project["project"]["dependencies"] + project["build-system"]["requires"])
    write("core.txt", core)
    for group in ("test", "lint", "models"):
        write(f"{group}.txt", closure(extras[group]) - core, include="core.txt")


if __name__ == "__main__":
    main()
