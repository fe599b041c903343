"""How far a command is: a bar with the time left on a terminal, a line now and then in a log or a pipe; on standard error."""

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

T = TypeVar("T")

FIRST_LINE_S, LINE_EVERY_S = 2.0, 10.0
"""A log has the first line of a task after so long, and another every so often: what is done sooner says nothing there."""
REFRESH_S = 0.1
"""Between two pictures of a bar, which take a millisecond each."""


def number(amount: float) -> str:
    """An amount of things that are counted."""
    return f"{amount:,.0f}"


def megabytes(amount: float) -> str:
    """An amount of bytes."""
    return f"{amount / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Remaining:
    """Estimates the time left from the mean speed of this process."""

    def __init__(self, total: float, first: float = 0.0) -> None:
        """
        Args:
            first: what was done before this process began.
        """
        self._total, self._first = total, first
        self._start = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def __call__(self, done: float) -> str:
        """The time left once so much is done, "0:12:03 left"; "" where nothing tells."""
        if done <= self._first:
            return ""
        return (
            f"{duration(self.spent_s / (done - self._first) * max(0.0, self._total - done))} left"
        )


class Task:
    """Something that is under way; this one tells nobody."""

    def __init__(self, total: float, done: float = 0.0) -> None:
        self.total, self.done = total, done

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """So much more of it is done; the note stands behind the time left."""
        self.reach(self.done + amount, note)

    def reach(self, done: float, note: str = "") -> None:
        """So much of it is done in all."""
        self.done = done

    def close(self) -> None:
        """It is over, done or not."""


class Lines(Task):
    """A task in a log."""

    def __init__(
        self, words: str, total: float, form: Callable[[float], str], console: Console
    ) -> None:
        super().__init__(total)
        self._words, self._form, self._console = words, form, console
        self._remaining = Remaining(total)
        self._due_s, self._is_told = FIRST_LINE_S, False

    def reach(self, done: float, note: str = "") -> None:
        self.done = done
        if self._remaining.spent_s >= self._due_s and done < self.total:
            self._due_s = self._remaining.spent_s + LINE_EVERY_S
            self._is_told = True
            self._say(self._remaining(done), note)

    def close(self) -> None:
        if self._is_told and self.done >= self.total:
            self._say(f"took {duration(self._remaining.spent_s)}")

    def _say(self, *parts: str) -> None:
        line = "  ".join(
            filter(None, (self._words, f"{self._form(self.done)}/{self._form(self.total)}", *parts))
        )
        with contextlib.suppress(OSError):  # a pipe that nobody reads any more ends no work
            self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


class Bar(Task):
    """A task on a terminal; one that begins while another is shown stands below it until it is done."""

    _open: Progress | None = (
        None  # a terminal has room for one display: all tasks of a process share it
    )

    def __init__(
        self,
        words: str,
        total: float,
        form: Callable[[float], str],
        console: Console,
        done: float = 0.0,
        stays: bool = False,
    ) -> None:
        """
        Args:
            done: what was done before this process began.
            stays: whether the bar is left on the terminal when it is closed.
        """
        super().__init__(total, done)
        self._form, self._remaining = form, Remaining(total, done)
        self._is_first, self._due = Bar._open is None, 0.0
        if Bar._open is None:
            # On a narrow terminal the note is cut, and nothing else: it has the room that is left.
            rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
            # No thread that refreshes: loader workers are forked from this process. What is printed stands above the bar, where
            # it is printed to a terminal; elsewhere it goes past it.
            Bar._open = Progress(
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[text]}", markup=False, table_column=rest),
                console=console,
                expand=True,
                auto_refresh=False,
                transient=not stays,
                redirect_stdout=sys.stdout.isatty(),
            )
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
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + REFRESH_S
            self._progress.refresh()

    def message(self, text: str) -> None:
        """Shows a line above the bar."""
        self._progress.console.print(printable_lines(text), markup=False, highlight=False)

    def close(self) -> None:
        if self._is_first:
            self._progress.stop()
            Bar._open = None
        else:
            self._progress.remove_task(self._task)

    def _count(self) -> str:
        return f"{self._form(self.done)}/{self._form(self.total)}"


def is_terminal(console: Console) -> bool:
    """Whether bars can be drawn there."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def task(
    words: str, total: float, form: Callable[[float], str] = number, console: Console | None = None
) -> Iterator[Task]:
    """Shows how far something is that comes to `total`; of a launcher's ranks the first one does.

    Args:
        form: how amounts are written.
        console: where to, in the place of standard error.
    """
    console = console or terminal.console(error=True)
    under_way: Task
    if os.environ.get("RANK", "0") != "0":
        under_way = Task(total)
    else:
        under_way = (Bar if is_terminal(console) else Lines)(words, total, form, console)
    try:
        yield under_way
    finally:
        under_way.close()


def track(
    things: Iterable[T],
    words: str,
    total: int | None = None,
    console: Console | None = None,
    amount: Callable[[T], float] = lambda thing: 1.0,
) -> Iterator[T]:
    """Passes things on, and shows how many of them the caller is done with.

    Args:
        total: their number, where they have no length or come in chunks.
        amount: what one of them counts.
    """
    if total is None:
        assert isinstance(things, Sized)
        total = len(things)
    with task(words, total, console=console) as under_way:
        for thing in things:
            yield thing
            under_way.advance(amount(thing))
