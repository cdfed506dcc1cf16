"""``make coverage``: are all rules of the proof checker tested, and all that they refuse?

Runs the checker's own tests and the tests of ``relucid check``, measures branches, and fails if a
file of ``verifier/proof`` has less than 95 % of them, or if no test reaches some ``InvalidError``.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/proof", "tests/relucid/test_check.py", "tests/relucid/test_proof_check.py")
LEAST = 95.0


def measured(folder: Path) -> dict[str, dict]:
    """Coverage of every file by name, from a run of the tests.

    Raises:
        subprocess.CalledProcessError: a test fails.
    """
    data = f"--data-file={folder / 'data'}"
    coverage = [sys.executable, "-m", "coverage"]
    run = ["run", "--branch", "--source=verifier/proof", data, "-m", "pytest", "-n0", *TESTS]
    subprocess.run([*coverage, *run], cwd=ROOT, check=True)
    report = folder / "report.json"
    subprocess.run([*coverage, "json", "-q", data, "-o", str(report)], cwd=ROOT, check=True)
    return json.loads(report.read_text())["files"]


def rejections(path: Path) -> list[tuple[int, int]]:
    """First and last line of every ``raise InvalidError``."""
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == "InvalidError"
    ]


def main() -> int:
    """Status 1 if something is not tested."""
    with tempfile.TemporaryDirectory() as folder:
        files = measured(Path(folder))
    failures, count = [], 0
    for name, found in sorted(files.items()):
        share = found["summary"]["percent_covered"]
        print(f"{share:6.1f} %  {name}")
        if share < LEAST:
            failures.append(f"{name}: {share:.1f} % of lines and branches, at least {LEAST:g}")
        raised = rejections(ROOT / name)
        missing = set(found["missing_lines"])
        failures += [
            f"{name}:{first}: no test is refused here"
            for first, last in raised
            if missing & set(range(first, last + 1))
        ]
        count += len(raised)
    print(f"{count} places that refuse a proof")
    for line in failures:
        print(line, file=sys.stderr)
    return int(bool(failures) or not count)


if __name__ == "__main__":
    sys.exit(main())
