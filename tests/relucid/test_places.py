"""Places for results, asked before the work."""

import os

import pytest

from relucid.places import require_file, require_folder
from verifier.core.errors import ExportError


def test_files_and_folders(tmp_path):
    (tmp_path / "file").write_text("")
    require_file(tmp_path / "file")
    require_file(tmp_path / "new")
    require_folder(tmp_path)
    require_folder(tmp_path / "new")
    for require, name, word in (
        (require_file, "", "is a folder"),
        (require_file, "no/new", "no does not exist"),
        (require_folder, "file", "is a file"),
        (require_folder, "no/new", "no does not exist"),
        (require_folder, "file/new", "does not exist"),
    ):
        with pytest.raises(ExportError, match=word):
            require(tmp_path / name)


@pytest.mark.parametrize("inside", [True, False])
def test_a_folder_that_takes_no_files(tmp_path, monkeypatch, inside):
    """As the system says it; the superuser may write nearly everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ExportError, match="cannot be written to"):
        require_file(tmp_path / "new")
    with pytest.raises(ExportError, match="cannot be written to"):
        require_folder(tmp_path if inside else tmp_path / "new")
