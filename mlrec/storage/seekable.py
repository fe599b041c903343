"""Files on any storage that are read in any order, such as Parquet tables and zip archives."""

from __future__ import annotations

import io
import os
from typing import IO, Any, cast

from mlrec.storage.filesystems import is_local
from mlrec.storage.reads import open_stream, read_range, size_of

BUFFER_BYTES = 1 << 20
"""Least bytes per remote request."""


class _RangeStream(io.RawIOBase):
    """A remote file whose reads are requests for ranges."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = origins[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._size - self._position)
        if size <= 0:
            return 0
        buffer[:size] = read_range(self._url, self._position, size)
        self._position += size
        return size


def open_seekable(url: str, size: int | None = None) -> IO[bytes]:
    """Open `url` for reading in any order.

    Args:
        size: Bytes of the file, if known; it saves a request.

    Raises:
        FileNotFoundError: the file does not exist.
        RuntimeError: every attempt to read failed. Reads of the stream may raise this as well.
    """
    if is_local(url):
        return open_stream(url)
    stream = _RangeStream(url, size_of(url) if size is None else size)
    return cast("IO[bytes]", io.BufferedReader(stream, BUFFER_BYTES))
