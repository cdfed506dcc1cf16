"""What is installed is what stands in the checkout."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Names of the files in a wheel built from a copy of the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("verifier", "constructions", "torchbridge", "relucid", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_wheel_holds_every_module_and_model(wheel):
    for room in ("verifier", "constructions", "torchbridge", "relucid"):
        for file in (ROOT / room).rglob("*.py"):
            assert file.relative_to(ROOT).as_posix() in wheel
    for file in (ROOT / "data" / "relucid_models").glob("*.onnx"):
        assert f"relucid_models/{file.name}" in wheel


def test_wheel_holds_no_scripts_and_no_tests(wheel):
    assert not [name for name in wheel if "train_models" in name or "test" in name.lower()]


def test_torch_is_pinned_and_no_part_of_the_core():
    extras = PROJECT["optional-dependencies"]
    asked = [line for lines in extras.values() for line in lines if line.startswith("torch")]
    assert set(asked) == {"torch==2.13.0"}
    assert not [line for line in PROJECT["dependencies"] if "torch" in line]
    assert "torch" not in (ROOT / "requirements" / "core.txt").read_text()
    for file in ("test", "lint", "models"):
        assert "\ntorch==2.13.0\n" in (ROOT / "requirements" / f"{file}.txt").read_text()


def test_every_locked_version_is_exact():
    for file in (ROOT / "requirements").glob("*.txt"):
        for line in file.read_text().splitlines():
            assert re.fullmatch(r"#.*|-r core\.txt|[a-z0-9-]+==[0-9][0-9a-z.]*", line)


def test_every_direct_dependency_is_locked():
    locked = (ROOT / "requirements" / "core.txt").read_text()
    for line in PROJECT["dependencies"]:
        name = re.match(r"[A-Za-z0-9-]+", line)[0].lower()
        assert f"\n{name}==" in locked


def test_dependencies_are_exactly_what_the_code_imports():
    imported = set()
    for room in ("verifier", "constructions", "relucid"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    imported.add(node.module.split(".")[0])
    own = {"verifier", "constructions", "torchbridge", "relucid", "relucid_models"}
    distributions = packages_distributions()
    needed = {
        distributions[name][0].lower() for name in imported - own - set(sys.stdlib_module_names)
    }
    declared = {re.match(r"[A-Za-z0-9-]+", line)[0].lower() for line in PROJECT["dependencies"]}
    # google.protobuf comes with onnx, whose message types it defines; of scikit-learn only its
    # digits are used, which are read as a file.
    assert needed - {"protobuf"} | {"scikit-learn"} == declared
