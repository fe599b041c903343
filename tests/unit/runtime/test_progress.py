"""Progress: a bar on a terminal, lines in a log, and nothing on standard output."""

from __future__ import annotations

import re
import time

import pytest
from rich.console import Console

from mlrec.runtime import progress
from mlrec.runtime.progress import Bar, Remaining, number, task, track
from mlrec.runtime.units import megabytes


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard error a terminal of 80 columns."""
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(progress, "REFRESH_S", 0.0)


def visible_lines(text: str) -> list[str]:
    """Return the lines sent to a terminal, without its control codes."""
    without_codes = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = without_codes.replace("\r", "\n").split("\n")
    return [line.rstrip() for line in lines if line.strip()]


def test_track_of_a_short_task_prints_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "packing items")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_task_in_a_log_prints_lines_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "MIN_ESTIMATE_S", 0.0)
    with task("checking", 3e9, megabytes) as under_way:
        under_way.advance(1e9, "items-00000.tar")
        under_way.advance(1e9, "items-00001.tar")
        under_way.advance(1e9)
    printed = capsys.readouterr()
    first, second, last = printed.err.splitlines()
    assert first == "checking  1,000.0 MB/3,000.0 MB  items-00000.tar", "no speed is known yet"
    assert re.fullmatch(
        r"checking  2,000\.0 MB/3,000\.0 MB  \d:\d\d:\d\d left  items-00001\.tar", second
    )
    assert re.fullmatch(r"checking  3,000\.0 MB/3,000\.0 MB  took \d:\d\d:\d\d", last)
    assert printed.out == ""


def test_track_in_a_log_prints_lines_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    assert len(list(track(range(1000), "ranking users"))) == 1000
    assert len(capsys.readouterr().err.splitlines()) == 2, "the first one, and the last"


def test_task_that_is_interrupted_prints_no_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    with pytest.raises(RuntimeError), task("packing items", 3) as under_way:
        under_way.advance()
        raise RuntimeError
    assert "took" not in capsys.readouterr().err


def test_track_on_another_rank_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: None
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert list(track([1, 2], "encoding items")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_track_with_amounts_counts_the_elements_of_chunks(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in track([[1, 2], [3]], "encoding items", 3, amount=len):
        pass
    printed = capsys.readouterr()
    assert list(dict.fromkeys(re.findall(r"\d+/3", printed.err))) == ["0/3", "2/3", "3/3"]
    assert "left" in printed.err
    assert printed.out == ""


def test_bar_within_another_is_shown_below_it(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Bar("training", 200, number, Console(), stays=True)
    note = "loss 1.0 " * 20
    bar.reach(50, note)
    assert list(track([1, 2], "ranking users")) == [1, 2]
    bar.message("step 50  validation hr@10 0.1")
    bar.close()
    printed = capsys.readouterr()
    lines = visible_lines(printed.out)
    assert printed.err == "", "there is one display"
    assert any(line.startswith("ranking users") and "1/2" in line for line in lines)
    for line in lines:
        if line.startswith("training") and "loss" in line:
            assert "50/200" in line
            assert len(line) <= 80
    assert "step 50  validation hr@10 0.1" in lines
    assert lines[-1].startswith("training")
    assert Bar._open is None


def test_remaining_counts_from_the_first_progress_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    remaining = Remaining(total=100, done_before=40)
    now += 300
    assert remaining(40) == ""
    assert remaining(50) == "", "the start of workers tells no speed"
    now += 0.5
    assert remaining(58) == "", "too early"
    now += 29.5
    assert remaining(60) == "0:02:00 left", "ten in 30 s, and 40 to go"
    assert remaining(100) == "0:00:00 left"
