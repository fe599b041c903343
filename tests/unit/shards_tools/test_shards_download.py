"""mlrec-shards download, against local servers with the published layout and with faults."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from published_files import (
    DEFAULT,
    LARGE,
    ROOT,
    download,
    expected,
    local_files,
)
from published_server import Site, Style, serve

from mlrec.runtime.ending import Stopped
from shards_tools import cli
from shards_tools.download.manifest import MANIFEST_FILE
from shards_tools.download.published import part_of


@pytest.mark.parametrize("style", ["apache", "nginx"])
def test_download_of_the_published_layout_takes_each_part_in_one_form(
    site: Site, style: Style, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.style = style
    assert download(site, tmp_path / "raw") == 0
    assert local_files(tmp_path / "raw") == expected(site, *DEFAULT)
    out = capsys.readouterr().out
    assert "videos   7 files, 0.1 MB" in out
    assert "MicroLens-50k_covers (the same covers are in MicroLens-50k_covers.zip)" in out
    assert "MicroLens-50k_audios (add audios to --only to download)" in out
    assert "readme.txt (add others to --only to download)" in out
    assert out.endswith(f"next: mlrec-shards make {tmp_path}/raw OUT\n")
    manifest = json.loads((tmp_path / "raw" / MANIFEST_FILE).read_text())
    name = "MicroLens-50k_videos/3.mp4"
    assert manifest["files"][name]["size"] == 9000
    assert manifest["files"][name]["sha256"] == hashlib.sha256(LARGE[:9000]).hexdigest()


def test_download_again_requests_only_what_changed(site: Site, tmp_path: Path) -> None:
    assert download(site, tmp_path) == 0
    site.requests.clear()
    assert download(site, tmp_path) == 0
    folders = {ROOT, f"{ROOT}MicroLens-50k_videos/"}
    assert set(site.gets()) == folders
    changed = f"{ROOT}MicroLens-50k_titles.csv"
    site.files[changed] += b"8,new\n"
    touched = tmp_path / "MicroLens-50k_videos/2.mp4"
    touched.write_bytes(touched.read_bytes())
    damaged = tmp_path / "MicroLens-50k_videos/3.mp4"
    damaged.write_bytes(bytes(9000))
    site.requests.clear()
    assert download(site, tmp_path) == 0
    assert set(site.gets()) - folders == {changed, f"{ROOT}MicroLens-50k_videos/3.mp4"}
    assert local_files(tmp_path) == expected(site, *DEFAULT)


def test_download_only_some_parts(site: Site, tmp_path: Path) -> None:
    assert download(site, tmp_path, "--only", "titles,pairs,audios") == 0
    parts = ("MicroLens-50k_pairs", "MicroLens-50k_titles", "MicroLens-50k_audios")
    assert local_files(tmp_path) == expected(site, *parts)


def test_download_dry_run_lists_and_writes_nothing(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert download(site, folder, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "missing            0.0 MB  MicroLens-50k_videos/7.mp4" in out
    assert "in all   11 files" in out
    assert not folder.exists()


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("has_validators", [True, False])
def test_download_over_broken_connections_is_complete(
    site: Site, tmp_path: Path, has_ranges: bool, has_validators: bool
) -> None:
    site.has_ranges = has_ranges
    site.has_validators = has_validators
    path = f"{ROOT}MicroLens-50k_videos/7.mp4"
    site.breaks = {path: [5000, 5000, 7000]}
    assert download(site, tmp_path) == 0
    assert local_files(tmp_path) == expected(site, *DEFAULT)
    ranges = [ranged for method, asked, ranged in site.requests if (method, asked) == ("GET", path)]
    if has_ranges and has_validators:
        assert ranges == ["", "bytes=5000-", "bytes=10000-", "bytes=17000-"]
    elif not has_validators:
        assert set(ranges) == {""}


def test_download_resumed_in_another_process_continues_the_part(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{ROOT}MicroLens-50k_videos/7.mp4"
    site.breaks = {path: [4000] + [0] * 20}
    assert download(site, tmp_path) == 1
    err = capsys.readouterr().err
    reason = "the answer ended after 4,000 of 21,000 bytes, 6 times in a row"
    assert f"MicroLens-50k_videos/7.mp4: {reason}" in err
    assert "1 file could not be downloaded; the same command tries again" in err
    assert (tmp_path / "MicroLens-50k_videos/7.mp4.part").stat().st_size == 4000
    site.breaks.clear()
    site.requests.clear()
    assert download(site, tmp_path) == 0
    assert ("GET", path, "bytes=4000-") in site.requests
    assert local_files(tmp_path) == expected(site, *DEFAULT)


def test_download_of_a_file_that_changed_meanwhile_starts_over(site: Site, tmp_path: Path) -> None:
    path = f"{ROOT}MicroLens-50k_videos/7.mp4"
    site.breaks = {path: [4000] + [0] * 20}
    assert download(site, tmp_path) == 1
    site.breaks.clear()
    site.files[path] = bytes(reversed(site.files[path]))
    assert download(site, tmp_path) == 0
    assert local_files(tmp_path) == expected(site, *DEFAULT)


def test_download_from_a_busy_server_tries_again(site: Site, tmp_path: Path) -> None:
    site.statuses = {
        ROOT: [503, 429],
        f"{ROOT}MicroLens-50k_pairs.csv": [500, 503, 502],
        f"{ROOT}MicroLens-50k_videos/": [503],
    }
    assert download(site, tmp_path) == 0
    assert local_files(tmp_path) == expected(site, *DEFAULT)


def test_download_of_files_that_are_refused_names_them_and_keeps_the_rest(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.statuses = {f"{ROOT}MicroLens-50k_videos/{item}.mp4": [404] for item in (2, 5)}
    assert download(site, tmp_path) == 1
    err = capsys.readouterr().err
    assert "MicroLens-50k_videos/2.mp4: status 404 Not Found\n" in err
    assert "2 files could not be downloaded" in err
    assert len(local_files(tmp_path)) == 9
    assert download(site, tmp_path) == 0


@pytest.mark.parametrize("style", ["none", "app"])
def test_download_without_index_pages_finds_known_names(
    site: Site, style: Style, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.style = style
    assert download(site, tmp_path, "--only", "pairs,titles,covers") == 0
    assert local_files(tmp_path) == expected(site, *DEFAULT[:2], DEFAULT[3])
    assert download(site, tmp_path) == 2
    message = f"{site.url}{ROOT} has no videos. Download the rest with --only pairs,titles,likes,"
    assert message in capsys.readouterr().err


def test_download_from_an_empty_server_says_how_to_name_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Site({})) as site:
        assert download(site, tmp_path) == 2
    err = capsys.readouterr().err
    assert "has no index page and no file named MicroLens-50k_pairs.csv or .tsv" in err
    assert "--base-url" in err
    assert download(site, tmp_path) == 1
    assert "cannot be reached (" in capsys.readouterr().err


def test_download_stopped_keeps_what_arrived(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise Stopped(15)

    with monkeypatch.context() as patch:
        patch.setattr("shards_tools.download.download._Counter.add", stop)
        assert download(site, tmp_path) == 143
    assert download(site, tmp_path) == 0
    assert local_files(tmp_path) == expected(site, *DEFAULT)


def test_download_in_json(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert download(site, tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == 11
    assert document["failures"] == {}
    assert document["dataset"] == "microlens-50k"


def test_download_result_is_packed_by_make(site: Site, tmp_path: Path) -> None:
    assert download(site, tmp_path / "raw", "--only", "pairs,titles,likes,covers") == 0
    words = ["make", str(tmp_path / "raw"), str(tmp_path / "data"), "--without", "videos"]
    assert cli.main([*words, "--size", "32", "--workers", "1"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["download", "ml-1m", "raw"], "argument DATASET: 'ml-1m' is none of microlens-50k,"),
        (["download", "50k", "raw", "--only", "film"], "argument --only: 'film' is none of pairs,"),
        (["download", "50k", "raw", "--base-url", "s3://x"], "--base-url s3://x is not an http or"),
    ],
)
def test_download_of_bad_arguments_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("MicroLens-100k_title_en.csv", "titles"),
        ("MicroLens-100k_pairs.tsv", "pairs"),
        ("MicroLens-100k_likes_and_views.txt", "likes"),
        ("MicroLens-100k_videos.z222", "videos"),
        ("MicroLens-100k_frames_interval_1_number_5.zip", "frames"),
        ("extracted_modality_features", "features"),
        ("MicroLens-100k_comment_en.txt", "others"),
        ("tags_to_summary.csv", "others"),
        ("MicroLens-100k_covers", "covers"),
    ],
)
def test_part_of_published_names(name: str, part: str) -> None:
    assert part_of(name) == part
