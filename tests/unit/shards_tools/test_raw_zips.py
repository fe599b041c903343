"""Zip archives: their directory, their members, and archives that are damaged or hostile."""

import io
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from mlrec import storage
from shards_tools.raw.media.zips import MemberError, list_zip, read_member

CONTENTS = {"b/2.jpg": b"two" * 100, "a/1.jpg": b"one" * 1000, "c.txt": b""}


def write_zip(path: Path, method: int = zipfile.ZIP_DEFLATED) -> str:
    """Write CONTENTS as an archive, and return its URL."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("b")
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return str(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_read_member_returns_the_content(tmp_path: Path, method: int) -> None:
    url = write_zip(tmp_path / "x.zip", method)
    files = list_zip(url)
    assert [file.path for file in files] == sorted(CONTENTS)
    assert {file.path: read_member(url, file.member) for file in files} == CONTENTS


def test_read_member_zip64_streamed_and_prefixed_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    # an archive behind a program, whose members have their sizes behind them
    with path.open("wb") as stream:
        stream.write(b"#!/bin/sh\n" * 10)
        with (
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("1.jpg", "w", force_zip64=True) as member,
        ):
            member.write(b"one" * 1000)
    (file,) = list_zip(str(path))
    assert read_member(str(path), file.member) == b"one" * 1000


def test_list_zip_remote_storage(tmp_path: Path) -> None:
    url = "memory://zips/x.zip"
    storage.write_bytes(url, Path(write_zip(tmp_path / "x.zip")).read_bytes())
    assert {file.path: read_member(url, file.member) for file in list_zip(url)} == CONTENTS


def test_list_zip_names_of_other_systems(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("frames\\1.jpg", b"a")
        archive.writestr("../../2.jpg", b"a")
    # members are read, never extracted: a path that leads out of the archive does no harm
    assert [file.path for file in list_zip(str(tmp_path / "x.zip"))] == [
        "../../2.jpg",
        "frames/1.jpg",
    ]


def test_list_zip_not_an_archive_raises(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    whole = Path(write_zip(path)).read_bytes()
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x.zip cannot be read as a zip archive \(File is"):
            list_zip(str(path))


def test_list_zip_encrypted_or_split_raises(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    whole = bytearray(Path(write_zip(path)).read_bytes())
    # the last member of the directory, because the first is a folder
    directory = whole.rindex(b"PK\x01\x02")
    encrypted = bytearray(whole)
    encrypted[directory + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(ValueError, match=r"is encrypted\. Extract it with its password"):
        list_zip(str(path))
    # the member begins in part 3
    struct.pack_into("<H", whole, directory + 34, 3)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"`zip -s 0 x\.zip --out x_joined\.zip`"):
        list_zip(str(path))


def test_list_zip_last_part_of_a_cut_archive_raises(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(Path(write_zip(path)).read_bytes()[50:])
    with pytest.raises(ValueError, match="is the last part of a split archive"):
        list_zip(str(path))


def test_list_zip_server_without_ranges_names_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WholeFiles(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ValueError("mlrec needs a server that supports range requests")

    monkeypatch.setattr("mlrec.storage.open_seekable", lambda url: WholeFiles(b"PK"))
    with pytest.raises(RuntimeError, match="needs a server that supports range requests"):
        list_zip("http://host/x.zip")


def test_list_zip_large_directory_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards_tools.raw.media.zips.MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(ValueError, match="its directory has"):
        list_zip(write_zip(tmp_path / "x.zip"))


def test_read_member_longer_than_stated_is_not_inflated(tmp_path: Path) -> None:
    url = write_zip(tmp_path / "x.zip")
    file = list_zip(url)[0]
    with pytest.raises(MemberError, match="damaged"):
        read_member(url, file.member._replace(size=10))


def test_read_member_large_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards_tools.raw.media.zips.LARGE_SPAN_BYTES", 0)
    monkeypatch.setattr("shards_tools.raw.media.zips.INFLATED_BLOCK_BYTES", 7)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        url = write_zip(tmp_path / f"{method}.zip", method)
        assert {file.path: read_member(url, file.member) for file in list_zip(url)} == CONTENTS


def test_read_member_that_expands_too_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("1.mp4", "w") as member,
    ):
        for _ in range(80):
            member.write(bytes(1 << 20))
    (file,) = list_zip(str(path))
    # nothing is read
    path.unlink()
    with pytest.raises(MemberError, match=r"expand to 83,886,080, more than 100-fold"):
        read_member(str(path), file.member)


def test_read_member_memory_holds_the_content_once(tmp_path: Path) -> None:
    size = 32 << 20
    content = random.Random(0).randbytes(1 << 16) * (size >> 16)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.mp4", content)
    (file,) = list_zip(str(tmp_path / "x.zip"))
    tracemalloc.start()
    assert read_member(str(tmp_path / "x.zip"), file.member) == content
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < file.member.compressed_size + 1.3 * size


def test_read_member_other_method_names_it(tmp_path: Path) -> None:
    url = write_zip(tmp_path / "x.zip", zipfile.ZIP_LZMA)
    with pytest.raises(MemberError, match="compression method 14"):
        read_member(url, list_zip(url)[0].member)


def test_list_zip_random_damage_is_an_error_or_a_failed_member(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    whole = Path(write_zip(path)).read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            files = list_zip(str(path))
        except ValueError:
            continue
        for file in files:
            # any other error would end the packing
            try:
                read_member(str(path), file.member)
            except (MemberError, storage.transfer.CutShortError):
                continue
