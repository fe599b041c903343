"""Progress on standard error: a bar with the time left on a terminal, occasional lines in a log."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from mlrec.runtime import terminal
from mlrec.runtime.terminal import one_line, printable_lines
from mlrec.runtime.units import clock

T = TypeVar("T")

FIRST_LINE_S = 2.0
"""Seconds until a log gets the first line of a task. Shorter tasks print nothing."""
LINE_EVERY_S = 10.0
"""Seconds between two lines of a task in a log."""
REFRESH_S = 0.1
"""Seconds between two pictures of a bar. Drawing one takes a millisecond."""
MIN_ESTIMATE_S = 1.0
"""Seconds of work, after its first progress, from which the time left is estimated."""
BAR_WIDTH = 16


def number(amount: float) -> str:
    """Return an amount as a whole number with commas."""
    return f"{amount:,.0f}"


class Remaining:
    """Estimate of the time left, from the mean speed of this process since its first progress.

    What comes before that, such as the start of workers, is not repeated for the rest.
    """

    def __init__(self, total: float, done_before: float = 0.0) -> None:
        """Start the clock.

        Args:
            done_before: amount done before this process started; it does not count as speed.
        """
        self._total = total
        self._first_done = done_before
        self._started_at = time.monotonic()
        self._first_at: float | None = None

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_at

    def __call__(self, done: float) -> str:
        """Return the time left after the amount `done`, such as "0:12:03 left".

        The text is empty until MIN_ESTIMATE_S after the first progress.
        """
        if done >= self._total:
            return f"{clock(0)} left"
        now = time.monotonic()
        if self._first_at is None:
            if done > self._first_done:
                self._first_at = now
                self._first_done = done
            return ""
        seconds = now - self._first_at
        done_since = done - self._first_done
        if done_since <= 0 or seconds < MIN_ESTIMATE_S:
            return ""
        return f"{clock(seconds / done_since * (self._total - done))} left"


class Task:
    """A task in progress. This base class shows nothing."""

    def __init__(self, total: float, done: float = 0.0) -> None:
        self.total = total
        self.done = done

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Add an amount of finished work; the note is shown after the time left."""
        self.reach(self.done + amount, note)

    def reach(self, done: float, note: str = "") -> None:
        """Set the amount of finished work."""
        self.done = done

    def close(self) -> None:
        """End the task, finished or not."""


class Lines(Task):
    """A task that prints lines into a log."""

    def __init__(
        self, words: str, total: float, form: Callable[[float], str], console: Console
    ) -> None:
        super().__init__(total)
        self._words = words
        self._form = form
        self._console = console
        self._remaining = Remaining(total)
        self._next_line_s = FIRST_LINE_S
        self._has_printed = False

    def reach(self, done: float, note: str = "") -> None:
        self.done = done
        spent_s = self._remaining.spent_s
        # `close` prints the last line, with the time that the task took.
        if spent_s >= self._next_line_s and done < self.total:
            self._next_line_s = spent_s + LINE_EVERY_S
            self._has_printed = True
            self._print(self._remaining(done), note)

    def close(self) -> None:
        if self._has_printed and self.done >= self.total:
            self._print(f"took {clock(self._remaining.spent_s)}")

    def _print(self, *parts: str) -> None:
        count = f"{self._form(self.done)}/{self._form(self.total)}"
        line = "  ".join(filter(None, (self._words, count, *parts)))
        with contextlib.suppress(OSError):  # a closed pipe must not end the work
            self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


class Bar(Task):
    """A task shown as a bar on a terminal.

    A task that starts while another is shown appears below it until it is done.
    """

    # A terminal has room for one display, which all tasks of a process share.
    _open: Progress | None = None

    def __init__(
        self,
        words: str,
        total: float,
        form: Callable[[float], str],
        console: Console,
        done: float = 0.0,
        stays: bool = False,
    ) -> None:
        """Show the bar.

        Args:
            words: name of the task.
            form: formats amounts.
            done: amount done before this process started.
            stays: whether the bar stays on the terminal after it is closed.
        """
        super().__init__(total, done)
        self._form = form
        self._remaining = Remaining(total, done)
        self._next_refresh_at = 0.0
        self._owns_display = Bar._open is None
        if Bar._open is None:
            Bar._open = _new_display(console, stays)
            Bar._open.start()
        self._progress = Bar._open
        self._task = self._progress.add_task(
            one_line(words), total=total, completed=int(done), count=self._count(), text=""
        )
        self._progress.refresh()

    def reach(self, done: float, note: str = "") -> None:
        self.done = done
        text = one_line("  ".join(filter(None, (self._remaining(done), note))))
        self._progress.update(self._task, completed=done, count=self._count(), text=text)
        if time.monotonic() >= self._next_refresh_at:
            self._next_refresh_at = time.monotonic() + REFRESH_S
            self._progress.refresh()

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(printable_lines(text), markup=False, highlight=False)

    def close(self) -> None:
        if self._owns_display:
            self._progress.stop()
            Bar._open = None
        else:
            self._progress.remove_task(self._task)

    def _count(self) -> str:
        return f"{self._form(self.done)}/{self._form(self.total)}"


def _new_display(console: Console, stays: bool) -> Progress:
    # On a narrow terminal only the note is cut: its column takes the room that is left.
    note_column = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[text]}", markup=False, table_column=note_column),
        console=console,
        expand=True,
        # No refreshing thread: loader workers are forked from this process, and a fork copies
        # the locks that another thread holds.
        auto_refresh=False,
        transient=not stays,
        # Output to the same terminal goes above the bar. A file or a pipe is left alone.
        redirect_stdout=sys.stdout.isatty(),
    )


def is_terminal(console: Console) -> bool:
    """Return whether the console can draw bars."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def task(
    words: str, total: float, form: Callable[[float], str] = number, console: Console | None = None
) -> Iterator[Task]:
    """Show the progress of a task until the block ends; only rank 0 shows anything.

    Args:
        words: name of the task.
        total: amount of work in all.
        form: formats amounts.
        console: where to show it; None is standard error.
    """
    # Standard output is for results, which may be piped into another program.
    console = console or terminal.console(error=True)
    under_way: Task
    if os.environ.get("RANK", "0") != "0":
        under_way = Task(total)
    elif is_terminal(console):
        under_way = Bar(words, total, form, console)
    else:
        under_way = Lines(words, total, form, console)
    try:
        yield under_way
    finally:
        under_way.close()


def track(
    elements: Iterable[T],
    words: str,
    total: int | None = None,
    console: Console | None = None,
    amount: Callable[[T], float] = lambda element: 1.0,
) -> Iterator[T]:
    """Yield the elements, and show how many of them the caller has finished.

    Args:
        words: name of the task.
        total: amount of work in all; None takes the number of elements.
        console: where to show it; None is standard error.
        amount: returns the amount of work of an element.
    """
    if total is None:
        assert isinstance(elements, Sized)
        total = len(elements)
    with task(words, total, console=console) as under_way:
        for element in elements:
            yield element
            under_way.advance(amount(element))
