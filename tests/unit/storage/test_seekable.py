"""Files that are read in any order."""

import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlrec import storage


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a folder of each kind of storage."""
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_open_seekable_reads_parquet_columns(folder: str, tmp_path: Path) -> None:
    table = pa.table({"item": range(1000), "title": [f"title {row}" for row in range(1000)]})
    pq.write_table(table, tmp_path / "items.parquet")
    url = storage.join(folder, "table.parquet")
    storage.write_bytes(url, (tmp_path / "items.parquet").read_bytes())
    with storage.open_seekable(url) as stream:
        assert pq.ParquetFile(stream).read(["title"]) == table.select(["title"])


def test_open_seekable_reads_zip_members(folder: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "local.zip", "w") as archive:
        archive.writestr("1.jpg", b"first")
        archive.writestr("2.jpg", b"second")
    url = storage.join(folder, "frames.zip")
    storage.write_bytes(url, (tmp_path / "local.zip").read_bytes())
    with storage.open_seekable(url) as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("2.jpg") == b"second"
        assert archive.read("1.jpg") == b"first"


def test_open_seekable_at_the_end_returns_nothing(folder: str) -> None:
    url = storage.join(folder, "short.bin")
    storage.write_bytes(url, b"0123456789")
    with storage.open_seekable(url) as stream:
        stream.seek(-3, 2)
        assert stream.read() == b"789"
        assert stream.read(1) == b""
        stream.seek(100)
        assert stream.read(1) == b""


def test_open_seekable_of_a_missing_file_raises(folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open_seekable(storage.join(folder, "missing.bin"))
