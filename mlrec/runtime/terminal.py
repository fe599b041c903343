"""Output for people, made printable before it reaches a terminal, a log or a pipe.

Titles, names, ids, file names and server replies come from strangers. They must neither control
the terminal nor be read as rich markup. JSON for programs is printed by `json_output.print_json`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import select
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from mlrec.runtime.printable import printable

MAX_LINE_CHARACTERS = 10_000
"""Length at which lines are cut. Our messages are far shorter, but a hostile value could fill the
terminal."""


def printable_lines(text: str) -> str:
    """Return `text` with each of its lines made printable."""
    return "\n".join(printable(line, MAX_LINE_CHARACTERS) for line in text.split("\n"))


def one_line(text: str) -> str:
    """Return `text` on one printable line; line breaks become spaces.

    So a value within the text cannot add a line that looks like one of ours.
    """
    return printable(" ".join(part.strip() for part in text.split("\n")), MAX_LINE_CHARACTERS)


def say(text: object, *, error: bool = False, flush: bool = False) -> None:
    """Print `text`, of one or more lines, to standard output, or with `error` to standard error."""
    with naming_output():
        print(printable_lines(str(text)), file=sys.stderr if error else sys.stdout, flush=flush)


@contextlib.contextmanager
def naming_output() -> Iterator[None]:
    """Say in an error of the system, for example of a full disk, that the output caused it."""
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads the output any more
    except OSError as error:
        raise OSError(f"standard output cannot be written: {error}") from error


class _SafeConsole(Console):
    """A console that shows every string as plain text, without markup, emoji or control codes."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(
            printable_lines(text), **{**options, "markup": False, "emoji": False}
        )

    def print(self, *texts: Any, **options: Any) -> None:
        with naming_output():
            super().print(*texts, **options)

    def on_broken_pipe(self) -> None:
        """Raise the error of a closed pipe as print does; rich would end the process.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console(error: bool = False) -> Console:
    """Return a console that shows strings as plain text.

    Pass strings to it and to its tables. It cannot check a `rich.text.Text`.

    Args:
        error: write to standard error instead of standard output.
    """
    plain = _SafeConsole(stderr=error, markup=False, emoji=False, highlight=False)
    if not plain.is_terminal:
        # A file or a pipe has no width. Rich would take 80 columns, and cut the cells of tables.
        plain.width = MAX_LINE_CHARACTERS
    return plain


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in which no cell is cut.

    Where the terminal is too narrow for it, each row becomes a list of its cells.
    """
    from rich.cells import cell_len
    from rich.table import Table

    table = Table()
    width = 1
    for title, *cells in zip(header, *rows, strict=True):
        min_width = max(map(cell_len, cells), default=0)
        table.add_column(title, min_width=min_width, overflow="fold")
        # a border and a space on each side
        width += min_width + 3
    output = console()
    if width <= output.width:
        for row in rows:
            table.add_row(*row)
        output.print(table)
        return
    for row in rows:
        say(row[0])
        for title, cell in zip(header[1:], row[1:], strict=True):
            say(f"  {title}: {cell}")


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def nobody_reads(stream: TextIO) -> bool:
    """Return whether the other end of a stream's pipe is closed."""
    # poll reports a closed reader without writing anything.
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):  # our end may be closed
        poll.register(stream, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False


def prepare_output() -> None:
    """Prepare the standard streams and the log for any text.

    Text that the terminal cannot encode is escaped instead of failing, and logs are printable.
    """
    for name in ("stdin", "stdout", "stderr"):
        # The stream is None if the command was started with it closed. The next file to be opened
        # would get its descriptor, and child processes would write into that file.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):  # it may be closed
                stream.reconfigure(errors="backslashreplace")
    # Commands configure no logging: libraries' warnings go through Python's last resort.
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_SafeFormatter("%(message)s"))
