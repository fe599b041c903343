"""Read and list files by URL."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from mlrec.storage import filesystems, transfer
from mlrec.storage.filesystems import is_local, local_path, open_filesystem

READ_BYTES = 16 << 20
"""Bytes per remote request of a stream. With s3fs' default of 5 MiB, streams run at less than half
the speed."""
BLOCKS_IN_FLIGHT = 3
"""Blocks of a stream that are requested ahead."""


def exists(url: str) -> bool:
    """Return whether `url` is an existing file or folder."""
    return bool(filesystems.call(url, "exists"))


def size_of(url: str) -> int:
    """Return the size in bytes of the file at `url`."""
    return int(filesystems.call(url, "info")["size"])


def list_folder(url: str) -> list[dict[str, Any]]:
    """Return fsspec's entries of the files and folders directly in `url`.

    The list is empty if there is no such folder.
    """
    try:
        return list(filesystems.call(url, "ls", transfer.LISTING_TIMEOUT_S, detail=True))
    except FileNotFoundError:
        return []


def find_files(url: str) -> dict[str, dict[str, Any]]:
    """Return fsspec's entries of all files below `url`, by path relative to it, in order of paths.

    The result is empty if there is no such folder.
    """
    _, root = open_filesystem(url)
    prefix_length = len(root.rstrip("/")) + 1
    try:
        entries = filesystems.call(url, "find", transfer.LISTING_TIMEOUT_S, detail=True)
    except FileNotFoundError:
        return {}
    # Storages list files in different orders.
    return {str(path)[prefix_length:]: entry for path, entry in sorted(entries.items())}


def list_files(url: str) -> dict[str, int]:
    """Return the sizes in bytes of all files below `url`, by path relative to it.

    The result is empty if there is no such folder.
    """
    return {path: int(entry["size"]) for path, entry in find_files(url).items()}


def read_bytes(url: str, size: int | None = None) -> bytes:
    """Return the whole content of `url`; `size` is as for `open_stream`."""
    with open_stream(url, size) as stream:
        return stream.read()


def read_range(url: str, start: int, size: int) -> bytes:
    """Return the bytes [start, start + size) of `url`.

    Raises:
        transfer.CutShortError: the file ends before the range does.
        RuntimeError: every attempt failed.
    """
    if is_local(url):
        (data,) = read_local_ranges(local_path(url), [(start, size)])
    else:
        (data,) = read_ranges([(url, start, size)], in_flight=1)
    if isinstance(data, Exception):
        raise data
    return data


def _open_local(path: str | Path) -> int:
    """Open a file of this machine for reading, and return its descriptor.

    Raises:
        OSError: the file is missing, or not a regular file.
    """
    # A pipe would wait for a writer, and a device may never end: O_NONBLOCK opens them at once,
    # so that they can be refused.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(f"{path} is a pipe or a device. Replace it with a regular file")
    return handle


def read_local_ranges(
    path: str | Path, ranges: Iterable[tuple[int, int]]
) -> Iterator[bytes | Exception]:
    """Yield the bytes of each (start, size) of one file of this machine, which is opened once.

    A range that cannot be read yields its error.
    """
    try:
        handle = _open_local(path)
    except OSError as error:
        for _ in ranges:
            yield error
        return
    try:
        for start, size in ranges:
            yield _read_open(handle, path, start, size)
    finally:
        os.close(handle)


def _read_open(handle: int, path: str | Path, start: int, size: int) -> bytes | Exception:
    """Return a range of an open file, or the error."""
    try:
        data = os.pread(handle, size, start)
    except OSError as error:
        return error
    # Reads of local files are not retried: the file is that short.
    if len(data) != size:
        return transfer.short_answer(str(path), start, size, len(data))
    return data


def read_ranges(
    ranges: Sequence[tuple[str, int, int]], in_flight: int
) -> Iterator[bytes | Exception]:
    """Yield the bytes of each (url, start, size) of one remote storage, in order.

    A range that cannot be read yields its error.

    Args:
        in_flight: number of reads at the same time.
    """
    if not ranges:
        return iter(())
    fs, _ = open_filesystem(ranges[0][0])
    path_of_url: dict[str, str] = {}
    path_ranges = []
    for url, start, size in ranges:
        # Many ranges belong to the same shard: parse its URL once.
        if url not in path_of_url:
            _, path_of_url[url] = open_filesystem(url)
        path_ranges.append((path_of_url[url], start, size))
    return transfer.read_ranges(fs, path_ranges, in_flight)


class _BlockStream(io.RawIOBase):
    """A stream over blocks that are read ahead."""

    def __init__(self, blocks: Generator[bytes | Exception, None, None]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")
        """Bytes of the current block that are still to be read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            block = next(self._blocks, b"")
            if isinstance(block, Exception):
                raise block
            self._rest = memoryview(block)
        # A raw stream may return fewer bytes than the buffer holds; BufferedReader asks again.
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        self._blocks.close()  # cancels the requests under way
        super().close()


def open_stream(url: str, size: int | None = None) -> IO[bytes]:
    """Open `url` for reading from front to back, in large blocks that are requested ahead.

    Args:
        size: bytes to read, if known; it saves a request.

    Raises:
        FileNotFoundError: the file does not exist.
        RuntimeError: every attempt to read failed. Reads of the stream may raise this as well.
    """
    fs, path = open_filesystem(url)
    if is_local(url):
        return os.fdopen(_open_local(path), "rb")
    # The size tells where the last block ends, and reveals an answer that was cut.
    length = transfer.call(fs, "info", path)["size"] if size is None else size
    if length is None:
        raise ValueError(
            f"{url}: the server does not report the size of the file, which mlrec needs. "
            "Use a server that does"
        )
    blocks = transfer.read_ranges(fs, _blocks(path, length), BLOCKS_IN_FLIGHT)
    return cast("IO[bytes]", io.BufferedReader(_BlockStream(blocks), READ_BYTES))


def _blocks(path: str, length: int) -> Iterable[tuple[str, int, int]]:
    for start in range(0, length, READ_BYTES):
        yield path, start, min(READ_BYTES, length - start)


def sha256_of(url: str) -> str:
    """Stream the content of `url`, and return its SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    with open_stream(url) as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
