"""Readers meet damaged files: one-line errors only."""

import time

import pytest

from tests.soundness import fuzzing
from verifier.core.errors import ModelError


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return folder, {target.name: target for target in fuzzing.targets(folder)}


@pytest.mark.parametrize("name", ["model", "property", "proof"])
def test_damaged_files_are_refused_in_one_line(targets, name):
    folder, by_name = targets
    count = fuzzing.fuzz(by_name[name], folder, executions=150, seconds=60, seed=1)
    assert count["executions"] == 150
    assert count["crashes"] == count["hangs"] == count["wrong VALID"] == 0, count
    assert count["refused"] >= 50
    assert count["corpus"] > len(by_name[name].seeds)


def trial(folder, read):
    target = fuzzing.Target("trial", ".x", (b"abc",), (fuzzing.bytes_changed,), read)
    return fuzzing.fuzz(target, folder, executions=5, seconds=60)


def test_a_crash_is_seen_and_kept(tmp_path):
    def read(path):
        raise KeyError(path.name)

    assert trial(tmp_path, read)["crashes"] == 5
    assert list(tmp_path.glob("failed-*"))


def test_a_hang_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "HANG_SECONDS", 0.05)
    assert trial(tmp_path, lambda _: time.sleep(10))["hangs"] == 5


def test_a_wrong_valid_is_seen_and_a_refusal_is_none(tmp_path):
    assert trial(tmp_path, lambda _: True)["wrong VALID"] == 5

    def refuse(path):
        raise ModelError(str(path))

    count = trial(tmp_path, refuse)
    assert count["refused"] == 5
    assert not count["wrong VALID"] + count["crashes"] + count["hangs"]


def test_coverage_counts_lines_of_the_verifier_only(tmp_path):
    seed = tmp_path / "seed.vnnlib"
    seed.write_bytes(fuzzing.SAFE_TEXT)
    lines = fuzzing.covered(lambda: fuzzing.load_property(seed, n_inputs=2, n_outputs=1))
    assert lines
    assert all("/verifier/" in file for file, _ in lines)
