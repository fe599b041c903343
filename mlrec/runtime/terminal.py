"""Output for people. Whatever text reaches a terminal, a log or a pipe goes through here and is made printable first.

Titles, names, ids, file names and server replies come from strangers: they must neither control the terminal nor be read
as rich markup. JSON for programs (`answers.print_json`) keeps the original text.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from mlrec.runtime.printable import printable

MAX_LINE_CHARACTERS = 10_000
"""Longer lines are cut: no message of ours comes near, but a hostile value could fill the terminal."""


def printable_lines(text: str) -> str:
    """Return `text` with each of its lines made printable; the line breaks stay."""
    return "\n".join(printable(line, MAX_LINE_CHARACTERS) for line in text.split("\n"))


def one_line(text: str) -> str:
    """Return `text` on one printable line, its line breaks replaced by spaces, so that no value can add a line of its own."""
    return printable(" ".join(part.strip() for part in text.split("\n")), MAX_LINE_CHARACTERS)


def say(text: object, *, error: bool = False, flush: bool = False) -> None:
    """Print `text`, which may have several lines, to standard output, or with `error` to standard error."""
    print(printable_lines(str(text)), file=sys.stderr if error else sys.stdout, flush=flush)


class _SafeConsole(Console):
    """A console for which every string is plain text: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(
            printable_lines(text), **{**options, "markup": False, "emoji": False}
        )


def console(error: bool = False) -> Console:
    """Return a console on standard output, or with `error` on standard error, that shows strings as plain text.

    Pass strings to it and to its tables, not `rich.text.Text`, which it could not check.
    """
    return _SafeConsole(stderr=error, markup=False, emoji=False, highlight=False)


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def nobody_reads(stream: TextIO) -> bool:
    """Return whether the other end of a stream's pipe is closed."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):  # it may be closed itself
        poll.register(stream, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False


def prepare_output() -> None:
    """Make what a command logs printable, and let text that the terminal cannot encode be escaped instead of failing."""
    for name in ("stdin", "stdout", "stderr"):
        if (
            getattr(sys, name) is None
        ):  # whoever started the command closed it: the next file to be opened would take its place
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):  # it may be closed
                stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_SafeFormatter("%(message)s"))
