"""Folders that are created when something is written into them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlrec import storage


def test_check_writable_names_files_and_read_only_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.check_writable(tmp_path / "new/deep", "run_dir")
    assert not (tmp_path / "new").exists()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=f"run_dir is {file}/run, but {file} is not a folder"):
        storage.check_writable(file / "run", "run_dir")
    # root may write everywhere, so permissions cannot be taken from every user of this test
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=f"Cannot write into {tmp_path}: it is read-only for this"):
        storage.check_writable(tmp_path / "new/deep", "run_dir")
