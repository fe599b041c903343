"""Writing files by URL."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mlrec import storage
from mlrec.storage import writes


def test_write_bytes_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "folder" / "file")
    storage.write_bytes(url, b"first")

    def fail(source: Path, target: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writes, "publish", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_bytes(url, b"second")
    assert storage.read_bytes(url) == b"first"
    names = [path.name for path in (tmp_path / "folder").iterdir()]
    assert names == ["file"], "no partial file stays"


def test_write_bytes_with_a_tilde_writes_to_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    storage.write_bytes("~/data/file", b"0123")
    assert (tmp_path / "data" / "file").exists()
    assert storage.read_range("~/data/file", 1, 2) == b"12"


def test_write_bytes_to_a_path_with_colons_keeps_them(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a::b" / "file"), b"0123")
    assert (tmp_path / "a::b" / "file").read_bytes() == b"0123"
    assert storage.list_files(str(tmp_path / "a::b")) == {"file": 4}


def test_publish_from_another_file_system_copies_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123")
    target = tmp_path / "folder" / "target"
    real_replace = writes.os.replace

    def replace(old: Path | str, new: Path | str) -> None:
        if str(old) == str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real_replace(old, new)

    monkeypatch.setattr(writes.os, "replace", replace)
    storage.publish(source, str(target))
    assert target.read_bytes() == b"0123"
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert not source.exists()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EFBIG, "File too large")],
)
def test_writing_on_a_full_disk_names_the_place(error: OSError) -> None:
    with (
        pytest.raises(OSError, match=r": 'runs/a/state\.json'$"),
        storage.writing("runs/a/state.json"),
    ):
        raise error


def test_writing_with_an_error_that_names_a_place_keeps_it() -> None:
    with pytest.raises(FileNotFoundError, match=r"'elsewhere'$"), storage.writing("here"):
        open("elsewhere")  # noqa: SIM115
