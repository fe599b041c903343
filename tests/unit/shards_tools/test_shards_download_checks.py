"""mlrec-shards download checks contents, disk space and files that are in the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from published_files import (
    DEFAULT,
    PAIRS,
    ROOT,
    download,
    expected,
    local_files,
    published,
)
from published_server import Site, Style, serve

from shards_tools.download import fetch, plan


def test_download_compares_published_checksums(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = site.files[f"{ROOT}MicroLens-50k_pairs.csv"]
    lines = f"{hashlib.md5(pairs).hexdigest()}  ./MicroLens-50k_pairs.csv\n"
    lines += f"SHA256 (MicroLens-50k_titles.csv) = {'0' * 64}\n"
    site.files[f"{ROOT}MD5SUMS"] = lines.encode()
    video = f"{ROOT}MicroLens-50k_videos/1.mp4"
    site.files[f"{video}.md5"] = hashlib.md5(b"other").hexdigest().encode()
    assert download(site, tmp_path) == 1
    err = capsys.readouterr().err
    assert "MicroLens-50k_titles.csv: its sha256 is " in err
    assert "MicroLens-50k_videos/1.mp4: its md5 is " in err
    assert "2 files could not" in err
    assert not (tmp_path / "MicroLens-50k_titles.csv").exists()


def test_download_tests_zip_archives(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{ROOT}MicroLens-50k_covers.zip"
    content = bytearray(site.files[path])
    content[400] ^= 1
    site.files[path] = bytes(content)
    assert download(site, tmp_path) == 1
    assert "MicroLens-50k_covers/1.jpg in this zip archive is damaged" in capsys.readouterr().err
    assert not (tmp_path / "MicroLens-50k_covers.zip").exists()


def split_site(num_parts: int) -> dict[str, bytes]:
    """Return a layout whose videos are only in a split archive."""
    files = {path: data for path, data in published().items() if "videos" not in path}
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", num_parts, num_parts, 0, 0, 0, 0, 0)
    files[f"{ROOT}MicroLens-50k_videos.zip"] = b"last part" + end
    for number in range(1, num_parts + 1):
        files[f"{ROOT}MicroLens-50k_videos.z{number:02d}"] = b"part %d" % number
    return files


@pytest.mark.parametrize("style", ["nginx", "none"])
def test_download_of_a_split_archive_checks_its_parts_and_says_how_to_join(
    style: Style, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Site(split_site(12), style)) as site:
        assert download(site, tmp_path) == 0
        out = capsys.readouterr().out
        joined = "zip -s 0 MicroLens-50k_videos.zip --out MicroLens-50k_videos_joined.zip"
        assert f"cd {tmp_path} && {joined} && rm MicroLens-50k_videos.z*" in out
        assert len(list(tmp_path.glob("*videos.z*"))) == 13
        del site.files[f"{ROOT}MicroLens-50k_videos.z07"]
        shutil.rmtree(tmp_path)
        assert download(site, tmp_path) == 1
    name = "MicroLens-50k_videos.z07" if style == "nginx" else "MicroLens-50k_videos.z12"
    err = capsys.readouterr().err
    assert f"{name}: MicroLens-50k_videos.zip needs this part" in err


def test_download_that_does_not_fit_the_disk_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage)
    assert download(site, tmp_path / "raw") == 2
    assert "raw needs 0.1 MB more, and its disk has 0.0 MB free, " in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_download_onto_a_full_disk_fails_and_resumes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device", "video.part")

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_copy", fail)
        assert download(site, tmp_path) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert download(site, tmp_path) == 0
    assert local_files(tmp_path) == expected(site, *DEFAULT)


def test_download_over_a_foreign_file_of_another_size_is_refused(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "MicroLens-50k_titles.csv"
    own.write_bytes(b"mine")
    (tmp_path / "MicroLens-50k_pairs.csv").write_bytes(PAIRS.encode())
    assert download(site, tmp_path) == 2
    assert f"{own} has 4 bytes, and the published file has 144" in capsys.readouterr().err
    assert own.read_bytes() == b"mine"
    own.unlink()
    assert download(site, tmp_path) == 0
    assert f"{ROOT}MicroLens-50k_pairs.csv" not in site.gets()


def test_download_names_from_the_server_never_leave_the_folder(tmp_path: Path) -> None:
    files = published()
    files[f"{ROOT}MicroLens-50k_videos/..%2fout.mp4"] = b"no"
    files[f"{ROOT}MicroLens-50k_videos/.hidden"] = b"no"
    with serve(Site(files)) as site:
        assert download(site, tmp_path / "raw") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}
    assert not list(tmp_path.rglob("*out.mp4"))


def test_download_of_empty_files_and_web_pages_names_them(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {
        "MicroLens-50k_pairs.csv": b"",
        "MicroLens-50k_titles.csv": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
        "MicroLens-50k_videos/3.mp4": b"<HTML><body>quota exceeded</body></HTML>",
    }
    for name, content in pages.items():
        site.files[ROOT + name] = content
    assert download(site, tmp_path) == 1
    said = capsys.readouterr().err
    assert "MicroLens-50k_pairs.csv: it is empty\n" in said
    for name in ("MicroLens-50k_titles.csv", "MicroLens-50k_videos/3.mp4"):
        assert f"{name}: the server sent a web page, such as a login page" in said
    assert local_files(tmp_path) == {
        name: content for name, content in expected(site, *DEFAULT).items() if name not in pages
    }


def test_download_of_a_name_that_is_too_long_keeps_the_rest(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = expected(site, *DEFAULT)
    site.files[f"{ROOT}MicroLens-50k_videos/{'n' * 300}.mp4"] = b"video"
    assert download(site, tmp_path) == 1
    said = capsys.readouterr().err
    assert "its name is longer than 245 bytes" in said
    assert "1 file could not be downloaded" in said
    assert local_files(tmp_path) == rest


def test_download_into_a_file_or_a_read_only_folder_is_refused(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert download(site, file) == 2
    assert f"DIR is {file}, but {file} is not a folder" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert download(site, tmp_path) == 2
    assert f"Cannot write into {tmp_path}: it is read-only" in capsys.readouterr().err
