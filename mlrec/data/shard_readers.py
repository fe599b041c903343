"""Readers of shards: `LocalReader` for a data set on this node, `RemoteReader` for others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from mlrec import storage
from mlrec.data.byte_ranges import ShardRead
from mlrec.data.cache import ShardCache
from mlrec.data.format import FileInfo
from mlrec.storage.transfer import CutShortError

READS_IN_FLIGHT = 32
"""Ranged reads that run at once."""
BYTES_IN_FLIGHT = 512 << 20
"""Memory that ranged reads hold at once."""


_Place = tuple[str, int, int]
"""Path of a shard, first byte and number of bytes."""


class ReadResult(NamedTuple):
    """What one read of a shard brought."""

    content: bytes | None
    """None if the read failed."""
    error: Exception | None
    """Failure after all retries of the storage; None if reading item by item may still help."""
    is_local: bool
    """Whether the bytes came from this node's disk."""


class ShardReader(Protocol):
    """Access to the bytes of a data set's shards."""

    def read_all(self, reads: Sequence[ShardRead]) -> Iterator[ReadResult]:
        """Yield the result of each read, in order."""

    def read(self, shard: FileInfo, start: int, size: int) -> bytes:
        """Return one range of a shard.

        Raises:
            OSError, RuntimeError: the storage gave up.
        """

    def discard(self, shard: FileInfo) -> bool:
        """Forget this node's copy of a damaged shard; return whether there was one."""

    def prefetch(self, shards: Iterable[FileInfo]) -> None:
        """Ask for copies of whole shards on this node, in the background."""

    def stream_url(self, shard: FileInfo) -> str:
        """Return the URL to stream a whole shard from."""

    def take_remote_bytes(self) -> int:
        """Return the bytes asked of the network since the last call."""


class LocalReader:
    """Shards of a data set on a file system of this node."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read_all(self, reads: Sequence[ShardRead]) -> Iterator[ReadResult]:
        """Yield the result of each read, in order."""
        for shard, shard_reads in groupby(reads, attrgetter("shard")):
            yield from _read_file(storage.local_path(self.stream_url(shard)), shard_reads)

    def read(self, shard: FileInfo, start: int, size: int) -> bytes:
        """Return one range of a shard.

        Raises:
            OSError, RuntimeError: the file cannot be read.
        """
        return storage.read_range(str(storage.local_path(self.stream_url(shard))), start, size)

    def discard(self, shard: FileInfo) -> bool:
        """Return False: the data set itself is never deleted."""
        del shard
        return False

    def prefetch(self, shards: Iterable[FileInfo]) -> None:
        """Do nothing: all shards are on this node."""

    def stream_url(self, shard: FileInfo) -> str:
        """Return the URL to stream a whole shard from."""
        return storage.join(self._url, shard.path)

    def take_remote_bytes(self) -> int:
        """Return 0: nothing crosses the network."""
        return 0


class RemoteReader:
    """Shards of a remote data set, read from the node's cache or by ranged reads."""

    def __init__(self, url: str, cache: ShardCache) -> None:
        self._url = url
        self._cache = cache
        self._ranged_bytes = 0

    def read_all(self, reads: Sequence[ShardRead]) -> Iterator[ReadResult]:
        """Yield the result of each read, in order."""
        # 1. Look up all cached shards first, so that the ranged reads can start together.
        paths: dict[str, Path | None] = {}
        reads_of_shard: dict[str, list[ShardRead]] = {}
        for read in reads:
            if read.shard.path not in paths:
                paths[read.shard.path] = self._cache.path(read.shard)
            if paths[read.shard.path] is None:
                reads_of_shard.setdefault(read.shard.path, []).append(read)
        # 2. Of incomplete shards, use the ranges that a process of this node has fetched.
        present: dict[_Place, bytes] = {}
        for incomplete in reads_of_shard.values():
            present.update(self._read_sparse(incomplete))
        ranged = self._start(
            [
                read
                for read in reads
                if paths[read.shard.path] is None and _place_of(read) not in present
            ]
        )
        # 3. Deliver in order: cached ranges from disk, the others as they arrive.
        for shard, shard_reads in groupby(reads, attrgetter("shard")):
            path = paths[shard.path]
            if path is not None:
                yield from _read_file(path, shard_reads)
                continue
            for read in shard_reads:
                content = present.get(_place_of(read))
                if content is not None:
                    yield ReadResult(content, None, is_local=True)
                    continue
                outcome = next(ranged)
                self._ranged_bytes += read.size
                if isinstance(outcome, bytes):
                    self._cache.keep(shard, read.start, outcome)
                yield _result_of(outcome)

    def _read_sparse(self, reads: Sequence[ShardRead]) -> dict[_Place, bytes]:
        """Return what is present of the reads of one incomplete shard."""
        shard = reads[0].shard
        ranges = [(read.start, read.size) for read in reads]
        contents = self._cache.read_sparse(shard, ranges)
        present = {}
        for read, content in zip(reads, contents, strict=True):
            if content is not None:
                present[_place_of(read)] = content
        return present

    def _start(self, reads: Sequence[ShardRead]) -> Iterator[bytes | Exception]:
        """Start ranged reads; the storage retries each of them with backoff."""
        largest = max((read.size for read in reads), default=1)
        in_flight = max(1, min(READS_IN_FLIGHT, BYTES_IN_FLIGHT // largest))
        ranges = [(self._origin(read.shard), read.start, read.size) for read in reads]
        return storage.read_ranges(ranges, in_flight)

    def read(self, shard: FileInfo, start: int, size: int) -> bytes:
        """Return one range of a shard.

        Raises:
            OSError, RuntimeError: the storage gave up.
        """
        path = self._cache.path(shard)
        if path is not None:
            try:
                return storage.read_range(str(path), start, size)
            except FileNotFoundError:
                pass  # another job evicted it a moment ago: read the origin
        self._ranged_bytes += size
        return storage.read_range(self._origin(shard), start, size)

    def discard(self, shard: FileInfo) -> bool:
        """Delete the cached copy of a damaged shard; return whether there was one."""
        return self._cache.drop(shard)

    def prefetch(self, shards: Iterable[FileInfo]) -> None:
        """Ask the cache to download whole shards in the background."""
        for shard in shards:
            self._cache.ask(shard)

    def stream_url(self, shard: FileInfo) -> str:
        """Return the cached file of a shard, downloaded now if necessary, or else its origin."""
        path = self._cache.wait_for(shard)
        if path is not None:
            return str(path)
        self._ranged_bytes += shard.size
        return self._origin(shard)

    def take_remote_bytes(self) -> int:
        """Return the bytes of ranged reads and whole shards requested since the last call."""
        ranged_bytes = self._ranged_bytes
        self._ranged_bytes = 0
        return ranged_bytes + self._cache.take_bytes()

    def _origin(self, shard: FileInfo) -> str:
        return storage.join(self._url, shard.path)


def _place_of(read: ShardRead) -> _Place:
    return read.shard.path, read.start, read.size


def _read_file(path: Path, reads: Iterable[ShardRead]) -> Iterator[ReadResult]:
    """Read parts of a file of this node. Failures are left to the reads item by item."""
    # Opened for these reads only, so that a file that was evicted or replaced is seen in time.
    ranges = ((read.start, read.size) for read in reads)
    for outcome in storage.read_local_ranges(path, ranges):
        content = outcome if isinstance(outcome, bytes) else None
        yield ReadResult(content, None, is_local=True)


def _result_of(outcome: bytes | Exception) -> ReadResult:
    if isinstance(outcome, bytes):
        return ReadResult(outcome, None, is_local=False)
    # A shard that ends early may still hold some of the items: they are read one by one.
    error = None if isinstance(outcome, CutShortError) else outcome
    return ReadResult(None, error, is_local=False)
