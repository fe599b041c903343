"""Failures while packing: each costs its item, and too many stop the run."""

import io
import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packed import SETTINGS, open_packed, pack, runs
from packing import data_set
from rich.console import Console

from mlrec.data.format import FAILURES_FILE, item_shard, read_dataset_info
from shards_tools.cli import main
from shards_tools.make import make
from shards_tools.pack.settings import Settings


def read_failures(out: Path) -> list[dict[str, object]]:
    """Return the lines of failures.jsonl."""
    return [json.loads(line) for line in (out / FAILURES_FILE).read_text().splitlines()]


def test_make_failed_items_stay_in_the_catalogue_and_leave_the_sequences(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    raw_ids = open_packed(dataset_dir)[1].table["raw_id"].to_pylist()
    missing, empty, cut, cover = raw_ids[0], raw_ids[17], raw_ids[18], raw_ids[19]
    (raw_copy / "videos" / f"{missing}.mp4").unlink()
    (raw_copy / "videos" / f"{empty}.mp4").write_bytes(b"")
    # four kinds of damage: missing, empty and truncated videos, and a broken cover
    whole = (raw_copy / "videos" / f"{cut}.mp4").read_bytes()
    (raw_copy / "videos" / f"{cut}.mp4").write_bytes(whole[: len(whole) // 2])
    (raw_copy / "covers" / f"{cover}.jpg").write_bytes(b"no image")
    info = pack(raw_copy, tmp_path / "out")
    _, catalogue = open_packed(tmp_path / "out")

    failures = read_failures(tmp_path / "out")
    assert [(failure["item"], failure["raw_id"], failure["kind"]) for failure in failures] == [
        (1, missing, "video"),
        (18, empty, "video"),
        (19, cut, "video"),
        (20, cover, "cover"),
    ]
    assert failures[0]["reason"] == "the file is missing"
    assert failures[1]["reason"] == "the file is empty"
    assert np.flatnonzero(~catalogue.ok_N1[1:]).tolist() == [0, 17, 18]
    for item in (1, 18, 19):
        assert not catalogue.members(item)
        assert catalogue.popularity_N1[item] == 0
    # an item without its cover stays
    assert "cover.jpg" not in {member.name for member in catalogue.members(20)}

    before = runs(dataset_dir)
    expected = {}
    for user, run in before.items():
        remaining_run = [item for item in run if item not in (1, 18, 19)]
        # users with fewer than 5 interactions leave
        if len(remaining_run) >= 5:
            expected[user] = remaining_run
    assert runs(tmp_path / "out") == expected
    assert (info.counts["failed_items"], info.counts["failed_covers"]) == (3, 1)
    assert info.counts["lost_users"] == len(before) - len(expected) > 0
    num_before = sum(map(len, before.values()))
    num_after = sum(map(len, expected.values()))
    assert info.counts["lost_interactions"] == num_before - num_after
    assert main(["check", str(tmp_path / "out")]) == 0


def test_make_unreadable_files_fail_alone(raw_copy: Path, tmp_path: Path) -> None:
    unreadable = {"7": raw_copy / "videos" / "7.mp4", "9": raw_copy / "covers" / "9.jpg"}
    for path in unreadable.values():
        path.unlink()
        # reading it is an error of the system
        path.symlink_to("/proc/self/mem")
    info = pack(raw_copy, tmp_path / "out")
    of_video, of_cover = read_failures(tmp_path / "out")
    assert (of_video["raw_id"], of_video["kind"]) == ("7", "video")
    assert (of_cover["raw_id"], of_cover["kind"]) == ("9", "cover")
    assert of_video["reason"] == of_cover["reason"] == "Input/output error"
    assert (info.counts["failed_items"], info.counts["failed_covers"]) == (1, 1)


def test_make_missing_cover_and_audio_are_counted_and_no_failures(
    raw_copy: Path, tmp_path: Path
) -> None:
    (raw_copy / "covers" / "7.jpg").unlink()
    # 30 has sound, 31 was recorded without a microphone, and 32 is damaged
    (raw_copy / "audios").mkdir()
    with wave.open(str(raw_copy / "audios" / "30.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(200))
    shutil.copy(raw_copy / "videos" / "31.mp4", raw_copy / "audios")
    (raw_copy / "audios" / "32.wav").write_bytes(b"no sound")
    # an item that fails is not counted once more for its missing cover
    (raw_copy / "videos" / "40.mp4").unlink()
    (raw_copy / "covers" / "40.jpg").unlink()
    counts = pack(raw_copy, tmp_path / "out").counts
    failures = read_failures(tmp_path / "out")
    assert [(failure["raw_id"], failure["kind"]) for failure in failures] == [
        ("32", "audio"),
        ("40", "video"),
    ]
    assert (counts["failed_items"], counts["failed_covers"], counts["failed_audio"]) == (1, 0, 1)
    # of 60 items 58 have no audio, and one of these has failed
    assert (counts["items_without_cover"], counts["items_without_audio"]) == (1, 57)
    assert main(["check", str(tmp_path / "out")]) == 0


def test_make_items_without_title_are_counted(
    raw_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = raw_copy / "synthetic_titles.csv"
    lines = titles.read_text().splitlines(keepends=True)
    # one item without a row, and one with an empty title
    titles.write_text("".join([*lines[:-2], lines[-1].split(",")[0] + ",\n"]))
    shutil.rmtree(raw_copy / "videos")
    shutil.rmtree(raw_copy / "covers")
    assert main(["make", str(raw_copy), str(tmp_path / "out")]) == 0
    assert "2 of 60 items have no title in synthetic_titles.csv" in capsys.readouterr().out
    assert main(["make", str(raw_copy), str(tmp_path / "out"), "--dry-run"]) == 0
    assert "titles: missing for 2 of 60 items, raw ids " in capsys.readouterr().out
    assert read_dataset_info(str(tmp_path / "out")).counts["items_without_title"] == 2


def test_make_too_many_failures_stop_until_more_are_allowed(raw_copy: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3, 5):
        (raw_copy / "videos" / f"{number}.mp4").write_bytes(b"")
    (raw_copy / "videos" / "4.mp4").unlink()
    out = tmp_path / "out"
    with pytest.raises(
        ValueError,
        match=r"^4 items failed: 3 x the file is empty \(raw ids 1, 2, 3\), "
        r"1 x the file is missing \(raw id 4\)\. That is more than --max-failures 3\. "
        r".*out/failures\.jsonl lists the files\. Fix the files or raise",
    ):
        pack(raw_copy, out, max_failures=3)
    assert [failure["raw_id"] for failure in read_failures(out)] == ["1", "2", "3", "4"]
    # the stopped run has left no dataset.json
    with pytest.raises(ValueError, match="is not a data set"):
        read_dataset_info(str(out))
    assert pack(raw_copy, out, max_failures=5).counts["failed_items"] == 5
    assert len(read_failures(out)) == 5


def test_make_all_items_failed_gives_the_reasons_and_the_file(
    raw_copy: Path, tmp_path: Path
) -> None:
    for path in (raw_copy / "videos").iterdir():
        path.write_bytes(b"")
    out = tmp_path / "out"
    with pytest.raises(
        ValueError,
        match=r"^60 of 60 items failed: 60 x the file is empty \(raw ids 1, 2, 3, \.\.\.\)\. "
        r"Without them no user has 5 interactions\. "
        r".*out/failures\.jsonl lists the files\. Fix the files, and run",
    ):
        pack(raw_copy, out)
    assert [failure["reason"] for failure in read_failures(out)] == ["the file is empty"] * 60


def test_make_after_files_were_fixed_packs_only_their_shards_again(
    raw_copy: Path, raw_dir: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, items_per_shard=4)
    # all items but those of shard 0
    for number in range(5, 61):
        (raw_copy / "videos" / f"{number}.mp4").unlink()
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="56 of 60 items failed: 56 x the file is missing"):
        pack(raw_copy, out, settings)
    packed_at = (out / item_shard(0)).stat().st_mtime_ns
    shutil.copytree(raw_dir / "videos", raw_copy / "videos", dirs_exist_ok=True)
    log = io.StringIO()
    make(raw_copy, str(out), settings, 2, None, Console(file=log))
    assert "packing 14 item shards of an earlier run again" in log.getvalue()
    assert (out / item_shard(0)).stat().st_mtime_ns == packed_at
    # the same bytes as of a folder without faults
    pack(raw_dir, tmp_path / "whole", settings)
    assert data_set(out) == data_set(tmp_path / "whole")


def test_make_without_any_user_raises(raw_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no user has 99 interactions\. Lower --min-interactions"):
        pack(raw_dir, tmp_path / "other", Settings(min_interactions=99, keep_last=99))
