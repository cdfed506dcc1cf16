"""Run the commands that README.md and the tutorial print, and write their real output below them.

``python docs/refresh.py`` (``make docs``). A line ``$ command`` in a console block is run in a
shell, all of a page's in one scratch folder; what follows it, up to the next such line, is
replaced.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorial.md")
SHOWN_LINES = 40
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def run(command: str, folder: Path) -> str:
    """What the command prints on stdout, with the environment's own programs first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "100"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def refreshed(page: str, folder: Path) -> str:
    """The page with every command's output as it is now."""

    def block(match: re.Match[str]) -> str:
        lines = [line for line in match[1].splitlines() if line.startswith("$ ")]
        parts = []
        for line in lines:
            output = run(line[2:], folder).splitlines(keepends=True)
            if len(output) > SHOWN_LINES:
                output = [*output[: SHOWN_LINES - 5], "...\n", *output[-4:]]
            parts.append(f"{line}\n{''.join(output)}")
        return f"```console\n{''.join(parts)}```"

    return _BLOCK.sub(block, page)


def main() -> None:
    """Rewrite the pages in place."""
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "docs").symlink_to(ROOT / "docs")
            text = refreshed(page.read_text(encoding="utf-8"), Path(folder))
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
