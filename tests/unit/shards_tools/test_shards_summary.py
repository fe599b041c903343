"""The summary of make, its dry run and show: what failed and why, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlrec.data.format import DatasetInfo, MediaInfo, SplitInfo
from shards_tools.cli import main
from shards_tools.pack.reasons import Reason
from shards_tools.show.summary import summary_lines

SMALL = ["--size", "32", "--items-per-shard", "16", "--workers", "2"]


def info_of(counts: dict[str, int], remarks: tuple[str, ...] = ()) -> DatasetInfo:
    """Return a dataset.json with these and other counts, without files."""
    media = MediaInfo("none", has_audio=True)
    all_counts = {"users": 50, "interactions": 400, "items": 10, "failed_items": 0, **counts}
    return DatasetInfo("tiny", all_counts, media, SplitInfo(), (), remarks=remarks)


def test_summary_lines_without_faults_have_no_zero_counts() -> None:
    assert summary_lines("out", info_of({"failed_covers": 0, "items_without_title": 0}), []) == [
        "out: 50 users, 400 interactions, 10 items; 0.0 MB in 1 file",
        "without videos, covers",
    ]


def test_summary_lines_give_reasons_and_what_failures_cost() -> None:
    counts = {
        "failed_items": 3,
        "lost_interactions": 12,
        "lost_users": 1,
        "failed_covers": 2,
        "items_without_audio": 4,
        "items_without_title": 7,
    }
    reasons = [
        Reason("video", "the file is missing", 2, ["3", "9"]),
        Reason("video", "the file is empty", 1, ["5"]),
        Reason("cover", "no image", 2, ["1", "2"]),
    ]
    lines = summary_lines("out", info_of(counts, ("x_pairs.csv: times are in ms",)), reasons)
    assert lines[1:] == [
        "3 of 10 items failed, which cost 12 interactions and 1 user:",
        "  2 x the file is missing (raw ids 3, 9)",
        "  1 x the file is empty (raw id 5)",
        "2 covers failed, replaced by black:",
        "  2 x no image (raw ids 1, 2)",
        "failures.jsonl lists each file that failed, with the reason",
        "4 of 7 packed items have no audio and get silence",
        "without videos, covers, titles",
        "x_pairs.csv: times are in ms",
    ]


@pytest.fixture
def faulty(raw_copy: Path) -> Path:
    """Return a raw folder without one video, with a damaged one and a damaged cover."""
    (raw_copy / "videos" / "7.mp4").unlink()
    (raw_copy / "videos" / "8.mp4").write_bytes(b"no video")
    (raw_copy / "covers" / "9.jpg").write_bytes(b"no image")
    (raw_copy / "covers" / "10.jpg").unlink()
    return raw_copy


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints to standard output."""
    assert main(words) == 0
    return capsys.readouterr().out


def test_make_and_show_print_reasons_in_text_and_json(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    text = shown(["make", str(faulty), out, *SMALL], capsys)
    assert "2 of 60 items failed, which cost " in text
    missing = "1 x the file is missing (raw id 7)"
    damaged = "1 x the file is damaged, or of a format that is not read as video (raw id 8)"
    assert missing in text
    assert damaged in text
    assert "1 cover failed, replaced by black:" in text
    assert "1 of 58 packed items have no cover and get a black image" in text
    # a complete data set is summed up alike, from its own files
    assert shown(["make", str(faulty), out, *SMALL], capsys) == text
    document = json.loads(shown(["make", str(faulty), out, *SMALL, "--json"], capsys))
    assert {"kind": "video", "reason": "the file is missing", "num_files": 1, "raw_ids": ["7"]} in (
        document["failures"]
    )
    assert json.loads(shown(["show", out, "--json"], capsys))["failures"] == document["failures"]
    assert missing in shown(["show", out], capsys)


def test_make_dry_run_counts_what_fails_without_video_as_make_does(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # make loses what the dry run predicts, where only missing files fail
    (faulty / "videos" / "8.mp4").unlink()
    command = ["make", str(faulty), str(tmp_path / "out"), *SMALL]
    predicted: dict[str, Any] = json.loads(shown([*command, "--dry-run", "--json"], capsys))
    text = shown([*command, "--dry-run"], capsys)
    assert "videos: missing for 2 of 60 items, raw ids 7, 8\n" in text
    assert "2 of 60 items will fail without their video, which will cost " in text
    counts = json.loads(shown([*command, "--json"], capsys))["counts"]
    assert predicted["will_fail"] == {
        "items": counts["failed_items"],
        "lost_interactions": counts["lost_interactions"],
        "lost_users": counts["lost_users"],
    }


def test_make_dry_run_without_enough_videos_says_that_nothing_can_be_packed(
    raw_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2, 61):
        (raw_copy / "videos" / f"{number}.mp4").unlink()
    text = shown(["make", str(raw_copy), str(tmp_path / "out"), "--dry-run"], capsys)
    assert "videos: missing for 59 of 60 items, raw ids 2, 3, 4, ...\n" in text
    assert "59 of 60 items will fail without their video. No user is left" in text


def test_make_dry_run_gives_the_reasons_of_sampled_items(
    raw_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for video in (raw_copy / "videos").iterdir():
        video.write_bytes(b"")
    text = shown(["make", str(raw_copy), str(tmp_path / "out"), "--dry-run"], capsys)
    assert (
        "packed: no item can be packed, judged by 8 of them: "
        "8 x the file is empty (raw ids 1, 9, 17, ...)"
    ) in text
