"""Cut-offs of a split by time: dates, numbers, quantiles, and those that fit no data."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from packed import open_packed, pack
from rich.console import Console
from timed import Log, pack_log, write_log

from mlrec.data.format import FAILURES_FILE, ORACLE_FILE, DatasetInfo, SplitInfo, held_out
from shards_tools.cli import main
from shards_tools.make import make
from shards_tools.pack.settings import Settings

DAY_MS = 86_400_000
FIRST_DAY_MS = 1_672_531_200_000
"""2023-01-01 in UTC."""
# Ten users, each with an interaction on each of the first ten days of 2023.
LOG: Log = {}
for user in range(1, 11):
    LOG[str(user)] = [(FIRST_DAY_MS + day * DAY_MS, day + 1) for day in range(10)]
NUMBERS: Log = {user: [(day, day + 1) for day in range(10)] for user in LOG}


def split_of(folder: Path, log: Log, validation_from: str, test_from: str) -> SplitInfo:
    return open_packed(pack_log(folder, log, validation_from, test_from, 13))[0].split


@pytest.mark.parametrize(
    ("validation_from", "test_from"),
    [
        ("2023-01-08", "2023-01-09T02:00+02:00"),
        (str(FIRST_DAY_MS + 7 * DAY_MS), "2023-01-09T00:00:00"),
    ],
)
def test_make_split_by_dates_or_numbers(
    validation_from: str, test_from: str, tmp_path: Path
) -> None:
    split = split_of(tmp_path, LOG, validation_from, test_from)
    assert split.validation_from == FIRST_DAY_MS + 7 * DAY_MS
    assert split.test_from == FIRST_DAY_MS + 8 * DAY_MS
    assert split.cut_offs_in_words() == "validation from 2023-01-08, test from 2023-01-09"


def test_make_split_of_seconds_or_dates_equals_that_of_milliseconds(tmp_path: Path) -> None:
    splits = []
    for name, as_text in {
        "milliseconds": str,
        "seconds": lambda time: str(time // 1000),
        "dates": lambda time: datetime.fromtimestamp(time / 1000, UTC).isoformat(),
    }.items():
        raw = write_log(tmp_path / name / "raw", LOG)
        pairs = raw / "log_pairs.csv"
        rows = [line.split(",") for line in pairs.read_text().splitlines()[1:]]
        lines = [f"{user},{item},{as_text(int(time))}\n" for user, item, time in rows]
        pairs.write_text("user,item,timestamp\n" + "".join(lines))
        settings = Settings(split="time", validation_from="2023-01-08", test_from="2023-01-09")
        info = pack(raw, tmp_path / name / "data", settings)
        splits.append((info.split, info.counts))
    assert splits[0] == splits[1] == splits[2]


def test_make_split_without_cut_offs_says_which_it_chose(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    info = make(raw, str(tmp_path / "data"), Settings(split="time"), 1, None, Console(quiet=True))
    assert info.split.cut_offs_in_words() == "validation from 2023-01-09, test from 2023-01-10"
    remark = "validation begins at 2023-01-09, after 80 % of the interactions"
    assert any(remark in text for text in info.remarks)


def test_make_split_by_time_leaves_the_oracle_out(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    (raw / ORACLE_FILE).write_text("{}")
    info = pack(raw, tmp_path / "time", Settings(split="time"))
    assert not info.has(ORACLE_FILE)
    assert "oracle.json is left out: its metrics are those of leave-one-out" in info.remarks
    assert pack(raw, tmp_path / "leave_one_out", Settings()).has(ORACLE_FILE)


@pytest.mark.parametrize(
    ("log", "options", "message"),
    [
        (
            LOG,
            "--validation-from 2024-01-01",
            "validation begins at 2024-01-01, which is not before test at 2023-01-10. "
            "The times go from 2023-01-01 to 2023-01-10. Choose other cut-offs",
        ),
        (
            LOG,
            "--validation-from 2023-01-02",
            "validation from 2023-01-02, test from 2023-01-10: "
            "no user has 2 interactions before validation begins. The times go from",
        ),
        (LOG, "--test-from 2023-02-01", "no user has a test target with earlier interactions"),
        (
            LOG,
            "--validation-from 2023-01-09T01:00 --test-from 2023-01-09T02:00",
            "no user has a validation target with earlier interactions",
        ),
        (
            NUMBERS,
            "--test-from 2023-01-09",
            "at --test-from 2023-01-09: the times are no dates but numbers. "
            "The times go from 0 to 9. Give a number",
        ),
        (LOG, "--test-from soon", "--test-from is 'soon'. Give a date such as 2023-07-01"),
        (
            LOG,
            "--test-from 20230109",
            "at --test-from 20230109: it is no time in seconds or milliseconds since 1970",
        ),
    ],
)
def test_make_wrong_cut_off_is_one_sentence_and_claims_no_place(
    log: Log, options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_log(tmp_path / "raw", log)
    out = str(tmp_path / "data")
    assert main(["make", str(raw), out, "--split", "time", *options.split()]) == 2
    assert message in capsys.readouterr().err
    assert main(["make", str(raw), out, "--split", "time"]) == 0


def test_make_cut_offs_in_seconds_and_milliseconds_are_the_same(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    seconds = Settings(split="time", validation_from="1673222400", test_from="1673308800")
    milliseconds = Settings(split="time", validation_from="1673222400000", test_from="2023-01-10")
    split = pack(raw, tmp_path / "seconds", seconds).split
    assert split.cut_offs_in_words() == "validation from 2023-01-09, test from 2023-01-10"
    assert pack(raw, tmp_path / "milliseconds", milliseconds).split == split


def test_make_failed_items_that_empty_a_period_give_their_reasons(
    raw_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    (raw / "log_videos").mkdir()
    # item 10 is the only one of the last day
    for item in range(1, 10):
        shutil.copy(raw_dir / "videos" / f"{item}.mp4", raw / "log_videos")
    out = str(tmp_path / "data")
    assert main(["make", str(raw), out, "--split", "time", "--size", "32"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 10 items failed: 1 x the file is missing (raw id 10). ")
    assert "no user has a test target with earlier interactions" in error
    assert (tmp_path / "data" / FAILURES_FILE).exists()


def test_make_split_by_time_without_times_is_refused(
    raw_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", str(raw_dir), str(tmp_path / "data"), "--split", "time"]) == 2
    assert "by time: its interactions have no times" in capsys.readouterr().err


def test_make_cut_off_without_split_by_time_is_refused() -> None:
    with pytest.raises(ValueError, match="--test-from 5 is a cut-off of a split by time"):
        Settings(test_from="5")


def test_make_split_by_time_refuses_repeats_that_later_interactions_decide() -> None:
    with pytest.raises(ValueError, match="--repeats last takes earlier interactions out"):
        Settings(split="time", repeats="last")
    Settings(split="time", repeats="first")


def test_make_dry_run_counts_the_periods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    options = ["--split", "time", "--validation-from", "2023-01-06", "--test-from", "2023-01-08"]
    assert main(["make", str(raw), str(tmp_path / "data"), *options, "--dry-run"]) == 0
    assert (
        "split by time, validation from 2023-01-06, test from 2023-01-08: 50 training "
        "interactions, 10 users with a validation target, 10 users with a test target\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["leave_one_out", "time"])
def test_split_info_of_dataset_json_survives_a_round_trip(kind: str, tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    info = pack(raw, tmp_path / "data", Settings(split=kind))  # type: ignore[arg-type]
    assert isinstance(info, DatasetInfo)
    assert info.split.kind == kind
    assert (info.split.validation_from is None) == (kind == "leave_one_out")


def test_held_out_counts_each_period() -> None:
    split = SplitInfo(13, 1, "time", 10, 20)
    offsets = np.array([0, 4, 5, 7])
    times = np.array([9, 10, 19, 20, 25, 1, 2])
    lengths = held_out(split, offsets, times)
    assert lengths.validation_U.tolist() == [2, 0, 0]
    assert lengths.test_U.tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="no times"):
        held_out(split, offsets, None)


def test_make_with_a_split_that_fits_no_plan_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_log(tmp_path / "raw", LOG)
    out = tmp_path / "sets" / "data"
    words = ["--split", "time", "--validation-from", "1990-01-01", "--test-from", "1990-01-02"]
    assert main(["make", str(raw), str(out), *words]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()
    # a folder that was there stays
    out.mkdir(parents=True)
    assert main(["make", str(raw), str(out), *words]) == 2
    assert list(out.iterdir()) == []
