"""Text from outside on terminals, in logs and in JSON."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from mlrec.runtime import terminal
from mlrec.runtime.entry_point import run_main
from mlrec.runtime.json_output import print_json
from mlrec.runtime.printable import MAX_CHARACTERS, brief
from mlrec.runtime.progress import Bar, number, task, track
from mlrec.runtime.terminal import console, print_table, say

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "colour": "\x1b[31mred",
    "c1": "\x9b31mred",
    "bidi": "a\u202eb",
    "return": "harmless\rerror: none",
    "markup": "x[/]y",
    "link": "[link=https://evil]x[/link]",
    "emoji": ":warning:",
    "surrogate": "x\ud800y",
}
ACTED_ON = frozenset("\x1b\x07\x9b\u202e\r\ud800")
"""Characters that must not reach a terminal."""


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def assert_harmless(printed: str, text: str) -> None:
    """Check that the text was printed without characters that a terminal acts on."""
    assert not ACTED_ON & set(printed)
    assert terminal.printable_lines(text) in printed


@pytest.mark.parametrize("error", [False, True])
def test_say_with_hostile_text_is_harmless(
    hostile: str, error: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    say(f"one\n{hostile}", error=error)
    output = capsys.readouterr()
    printed = output.err if error else output.out
    assert_harmless(printed, hostile)
    assert len(printed.splitlines()) == 2


def test_console_with_hostile_text_in_a_table_is_plain(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(hostile, title=hostile, caption=hostile)
    table.add_row(hostile)
    out = console()
    out.print(table)
    out.print(hostile)
    printed = capsys.readouterr().out
    assert_harmless(printed, hostile)
    assert printed.count(terminal.printable_lines(hostile)) == 5


def test_console_that_is_no_terminal_prints_tables_complete(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = [f"figure {number} of a wide table" for number in range(12)]
    table = Table(*cells)
    table.add_row(*cells)
    console().print(table)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(printed.count(cell) == 2 for cell in cells)


def test_run_main_with_hostile_text_in_an_error_prints_one_line(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> int:
        raise ValueError(f"{hostile}\nsecond line")

    assert run_main(fail, []) == 2
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert not ACTED_ON & set(printed)


def test_progress_with_hostile_text_is_harmless(
    hostile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlrec.runtime.progress.FIRST_LINE_S", 0.0)
    with task(hostile, 3) as under_way:
        under_way.advance(note=hostile)
    list(track([1, 2], hostile))
    assert_harmless(capsys.readouterr().err, hostile)


def test_bar_with_hostile_text_is_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    bar = Bar("\x1b]0;owned\x07", 3, number, console(error=True))
    bar.reach(1, "\x1b]0;note\x07")
    bar.message("\x1b]0;message\x07[/]")
    bar.close()
    printed = capsys.readouterr().err
    assert "\x1b]" not in printed
    assert "\x07" not in printed
    assert r"\x1b]0;message\x07[/]" in printed


def test_logs_with_hostile_text_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sink)
    terminal.prepare_output()
    assert logging.lastResort is not None
    logging.lastResort.handle(
        logging.makeLogRecord({"msg": "%s", "args": ("\x1b[31m",), "levelno": logging.WARNING})
    )
    assert sink.getvalue() == "\\x1b[31m\n"


def test_print_json_with_hostile_text_keeps_it_and_is_harmless(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_json({"title": hostile, "fine": "Füße 影 👩‍👧"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"title": hostile, "fine": "Füße 影 👩‍👧"}
    assert not ACTED_ON & set(printed)
    assert "Füße 影 👩‍👧" in printed


def test_prepare_output_on_an_ascii_terminal_escapes_other_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    terminal.prepare_output()
    say("Füße")
    assert raw.getvalue() == b"F\\xfc\\xdfe\n"


def test_sources_create_no_console_of_rich() -> None:
    root = Path(terminal.__file__).parents[2]
    unsafe = []
    for folder in ("mlrec", "shards_tools"):
        for path in (root / folder).rglob("*.py"):
            if " Console(" in path.read_text():
                unsafe.append(path.name)
    assert unsafe == [], "use mlrec.runtime.terminal.console"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("two\n  lines."), "two lines"),
        (KeyError(), "KeyError"),
        (OSError("x" * 20_000), "x" * (MAX_CHARACTERS - 1) + "…"),
        (ValueError("\x1b[31mred"), r"\x1b[31mred"),
    ],
)
def test_brief_of_a_library_error_is_one_short_line(error: Exception, shown: str) -> None:
    assert brief(error) == shown


@pytest.mark.parametrize("columns", [30, 40, 60, 200])
def test_print_table_narrow_terminal_cuts_no_figure(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(terminal._SafeConsole, "is_terminal", True)
    cells = ("hr@10", "0.1234 ± 0.0012", "+0.0012 ± 0.0034", "1.4e-34")
    print_table(("metric", "a long name of a run", "difference", "p"), [cells])
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in cells) and "…" not in printed


@pytest.mark.parametrize("write", [say, console().print, print_json])
def test_output_to_full_disk_is_named(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full, pytest.raises(OSError, match="standard out"):
        monkeypatch.setattr(sys, "stdout", full)
        write("a\n" * 10_000)
