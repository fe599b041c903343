"""Tables of a raw folder on any storage, read from front to back with their progress shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, TextIO

from mlrec import storage
from mlrec.runtime.progress import Task, task
from mlrec.runtime.units import megabytes
from shards_tools.raw.encodings import conversion

BLOCK_BYTES = 1 << 20
"""Bytes read at once."""


class _Watched(io.RawIOBase):
    """A stream that reports to a task how much of it was read."""

    def __init__(self, stream: Any, progress: Task) -> None:
        self._stream = stream
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # io.BufferedReader calls this once per block, so that progress costs nothing
        size = int(self._stream.readinto(buffer))
        self._progress.advance(size)
        return size


@contextmanager
def open_table(url: str, words: str = "reading") -> Iterator[io.BufferedReader[_Watched]]:
    """Open a table's bytes.

    Args:
        words: Verb for the progress, such as "hashing".
    """
    name = PurePosixPath(url).name
    with (
        storage.open_stream(url) as stream,
        task(f"{words} {name}", storage.size_of(url), megabytes) as progress,
        io.BufferedReader(_Watched(stream, progress), BLOCK_BYTES) as table,
    ):
        yield table


@contextmanager
def open_text(url: str) -> Iterator[TextIO]:
    """Open a table's text.

    Raises:
        ValueError: it is not UTF-8.
    """
    name = PurePosixPath(url).name
    try:
        with open_table(url) as table:
            sample = table.peek()
            # ASCII in UTF-16 is valid UTF-8, and so are parts of binary files
            if b"\0" in sample:
                line = sample[: sample.index(0)].count(b"\n") + 1
                raise ValueError(
                    f"{url} is not UTF-8 text: line {line} has a zero byte. "
                    f"{conversion(sample, name)}"
                )
            # sig: spreadsheets write a byte order mark; newline="": csv handles line ends in quoted
            # fields
            with io.TextIOWrapper(table, encoding="utf-8-sig", newline="") as file:
                yield file
    except UnicodeDecodeError as error:
        # the block that is decoded has thousands of bytes around the faulty ones
        remedy = conversion(error.object, name)
        raise ValueError(f"{url} is not UTF-8 text ({error.reason}). {remedy}") from error


def lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line that is not blank."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")
