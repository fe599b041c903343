"""The tables of a raw folder, on any storage, read from front to back while it is shown how far that is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, TextIO

from mlrec import storage
from mlrec.runtime.progress import Task, megabytes, task

BLOCK_BYTES = 1 << 20


class _Watched(io.RawIOBase):
    """A stream that tells a task how much was read of it."""

    def __init__(self, stream: Any, under_way: Task) -> None:
        self._stream, self._under_way = stream, under_way

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = int(self._stream.readinto(buffer))
        self._under_way.advance(size)
        return size


@contextmanager
def open_table(url: str, words: str = "reading") -> Iterator[io.BufferedReader[_Watched]]:
    """A table's bytes.

    Args:
        words: what is done with them.
    """
    name = PurePosixPath(url).name
    with (
        storage.open_stream(url) as stream,
        task(f"{words} {name}", storage.size_of(url), megabytes) as under_way,
        io.BufferedReader(_Watched(stream, under_way), BLOCK_BYTES) as table,
    ):
        yield table


@contextmanager
def open_text(url: str) -> Iterator[TextIO]:
    """A table's text.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        with (
            open_table(url) as table,
            io.TextIOWrapper(table, encoding="utf-8-sig", newline="") as file,
        ):
            yield file
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{url} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of the lines that are not blank."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")
