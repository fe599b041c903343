"""Raw folders: their parts, their fingerprint, and the progress of reading them."""

import os
import zipfile
from pathlib import Path

import pytest

from shards_tools.raw.folder import fingerprint, open_raw
from shards_tools.raw.listing import list_folder
from shards_tools.raw.media.names import Part
from shards_tools.raw.pairs.readers import READERS
from shards_tools.raw.pairs.text import read_text
from shards_tools.raw.tables import open_text


def write(path: Path, text: str) -> str:
    """Write a file, and return its URL."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_open_raw_finds_parts_by_name(tmp_path: Path) -> None:
    for folder in ("MicroLens-9_videos", "MicroLens-9_covers"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "MicroLens-9_pairs.tsv", "1\t2\n")
    write(tmp_path / "MicroLens-9_title_en.csv", "2,x\n")
    (tmp_path / "MicroLens-9_videos" / "2.mp4").touch()
    (tmp_path / "MicroLens-9_videos" / ".DS_Store").touch()
    (tmp_path / "MicroLens-9_videos" / "3.mp4").symlink_to(tmp_path / "absent")
    raw = open_raw(str(tmp_path))
    assert (raw.name, raw.likes_and_views) == ("MicroLens-9", None)
    assert raw.titles == f"{tmp_path}/MicroLens-9_title_en.csv"
    # neither the hidden file nor the broken link is a video
    assert [file.path for file in raw.files.media] == ["MicroLens-9_videos/2.mp4"]


def test_open_raw_prefers_csv_with_times(tmp_path: Path) -> None:
    # both layouts of the same interactions, of which only one has times
    write(tmp_path / "x_pairs.tsv", "1\t2\n")
    write(tmp_path / "x_pairs.csv", "1,2,3\n")
    assert open_raw(str(tmp_path)).pairs == f"{tmp_path}/x_pairs.csv"


def test_open_raw_layout_in_the_table_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # all that a new layout needs: a reader, and its row
    monkeypatch.setitem(READERS, "*.pairs", read_text)
    write(tmp_path / "mine.pairs", "1\t2 3\n")
    raw = open_raw(str(tmp_path))
    assert (raw.name, raw.read_pairs) == ("mine", read_text)
    assert raw.read_pairs(raw.pairs).raw_ids == ["2", "3"]


def test_open_raw_without_interactions_names_what_looks_like_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/x_pairs.csv", "1,2,3\n")
    with pytest.raises(ValueError, match=r"in/x_pairs.csv in all.zip looks like them.*Unpack"):
        open_raw(str(tmp_path))
    (tmp_path / "tables").mkdir()
    write(tmp_path / "tables" / "x_pairs.csv", "1,2,3\n")
    with pytest.raises(ValueError, match=r"tables/x_pairs.csv looks like them.*Move the tables"):
        open_raw(str(tmp_path))
    write(tmp_path / "x_pairs.csv.gz", "")
    with pytest.raises(ValueError, match=r"x_pairs.csv.gz looks like them.*Decompress it"):
        open_raw(str(tmp_path))


def test_open_raw_missing_or_repeated_part_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no interactions"):
        open_raw(str(tmp_path))
    with pytest.raises(ValueError, match=r"absent is missing. Name the folder"):
        open_raw(str(tmp_path / "absent"))
    write(tmp_path / "a_pairs.tsv", "1\t2\n")
    write(tmp_path / "b_pairs.tsv", "1\t2\n")
    with pytest.raises(ValueError, match=r"a_pairs.tsv, b_pairs.tsv. Leave one"):
        open_raw(str(tmp_path))


def test_fingerprint_changes_with_tables_and_packed_media(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write(tmp_path / "x_pairs.tsv", "1\t2\n")
    parts: frozenset[Part] = frozenset({"videos", "covers"})
    fingerprints = {fingerprint(open_raw(str(tmp_path)), parts)}
    write(tmp_path / "x_pairs.tsv", "1\t3\n")
    fingerprints.add(fingerprint(open_raw(str(tmp_path)), parts))
    write(tmp_path / "videos" / "3.mp4", "a")
    fingerprints.add(fingerprint(open_raw(str(tmp_path)), parts))
    write(tmp_path / "covers.zip", "a")
    fingerprints.add(fingerprint(open_raw(str(tmp_path)), parts))
    assert len(fingerprints) == 4
    # and it stays the same without a change to what is packed
    write(tmp_path / "3.wav", "a")
    write(tmp_path / "readme.txt", "a")
    assert fingerprint(open_raw(str(tmp_path)), parts) in fingerprints


def test_raw_folder_names_in_other_encodings_are_listed_escaped(tmp_path: Path) -> None:
    # Latin-1: bytes that are no UTF-8
    root = os.fsencode(tmp_path)
    write(tmp_path / "x_pairs.tsv", "1\t2\n")
    (tmp_path / "videos").mkdir()
    for name in (b"stray_\xe9.mp4", b"notes_\xe9.txt", b"videos/2.m\xe9v"):
        with open(root + b"/" + name, "wb") as file:
            file.write(b"a")
    raw = open_raw(str(tmp_path))
    media = raw.find_media(["2"], frozenset({"videos"}))
    assert list(media.files["videos"]) == ["2"]
    assert media.report.remarks() == [
        r"1 file (0.0 MB) of media match no item: 1 .mp4 such as stray_\udce9.mp4"
    ]
    assert r"not used: 1 file (0.0 MB): 1 .txt such as notes_\udce9.txt" in media.report.sources()
    assert len(fingerprint(raw, frozenset({"videos"}))) == 64


def test_open_table_shows_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # otherwise a file that is read this fast shows no line
    monkeypatch.setattr("mlrec.runtime.progress.FIRST_LINE_S", 0.0)
    path = write(tmp_path / "x_pairs.tsv", "".join(f"{user}\t1 2 3\n" for user in range(100_000)))
    with open_text(path) as file:
        assert sum(1 for _ in file) == 100_000
    printed = capsys.readouterr().err
    assert "reading x_pairs.tsv  1.0 MB/1.2 MB" in printed
    assert "1.2 MB/1.2 MB  took 0:00:" in printed


def test_list_folder_storage_without_sizes_lists_none(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = [{"name": "http://host/videos/1.mp4", "type": "file", "size": None}]
    monkeypatch.setattr("mlrec.storage.list_folder", lambda url: listing)
    assert list_folder("http://host/videos").files[0].size is None
