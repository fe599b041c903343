"""The item store: read the members of any item from a local data set, the node's cache or storage.

Reading many items takes these steps:
1. Plan: group neighbouring items into few reads (byte_ranges.py).
2. Read: the reader fetches the ranges and retries failing storage (shard_readers.py).
3. Check: every member must have its crc32. An item that fails is read again, alone.
4. Quarantine: an item that fails again comes with a reason, and the caller leaves it out.
5. Prefetch: ranges that were read over the network go to the node's cache, which then fetches the
   rest of their shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlrec import storage
from mlrec.data.byte_ranges import SampleRanges, ShardRead
from mlrec.data.cache import ShardCache
from mlrec.data.cache_folder import SHARDS_FOLDER, checked_cache_dir
from mlrec.data.format import Catalogue, DatasetInfo, FileInfo
from mlrec.data.samples import TITLE, BadItemError, Sample
from mlrec.data.shard_readers import LocalReader, ReadResult, RemoteReader, ShardReader
from mlrec.runtime.redact import scrub

MAX_CRC_TRIES = 2
"""Tries to read an item whose bytes do not have their crc32. The second bypasses the cache."""


class _Attempt(NamedTuple):
    """One try to read an item."""

    members: dict[str, bytes] | None
    fault: str = ""
    """Why there are no members."""
    is_storage_fault: bool = False
    """Whether the storage failed, after retries of its own."""


class ItemStore:
    """Access to the item samples of a data set."""

    def __init__(
        self, url: str, info: DatasetInfo, catalogue: Catalogue, cache_dir: Path, cache_bytes: int
    ) -> None:
        """Open the item shards of the data set at `url`.

        Raises:
            ValueError: the cache folder cannot be written, or belongs to a data set or a run.
        """
        cache_dir = checked_cache_dir(cache_dir, url)
        self.url = url
        self.catalogue = catalogue
        self.shards: list[FileInfo] = info.shards("items")
        self.cache: ShardCache | None = None
        """Whole shards of a remote data set on this node; None for a local data set."""
        if not storage.is_local(url):
            self.cache = ShardCache(url, cache_dir / SHARDS_FOLDER, cache_bytes)
        self._reader: ShardReader = (
            LocalReader(url) if self.cache is None else RemoteReader(url, self.cache)
        )
        self.bytes_read = 0
        """Bytes of members delivered so far by this process."""
        self.local_bytes = 0
        """Part of `bytes_read` that was on this node when it was requested."""

    def room(self) -> str:
        """Return how much of a remote data set fits on this node, as the end of a sentence.

        Returns:
            "" for a local data set.
        """
        if self.cache is None:
            return ""
        shard_bytes = sum(shard.size for shard in self.shards)
        budget_bytes = self.cache.budget_bytes
        megabytes = f"{shard_bytes / 1e6:,.1f} MB of shards"
        if budget_bytes >= shard_bytes:
            return f"; {megabytes} are kept in {self.cache.folder} as they are read"
        return (
            f"; data.cache_bytes holds {budget_bytes / shard_bytes:.0%} of {megabytes}, "
            "the rest is read again at each use"
        )

    def take_remote_bytes(self) -> int:
        """Return the bytes that this process asked of the network since the last call."""
        return self._reader.take_remote_bytes()

    def shard_url(self, shard: FileInfo) -> str:
        """Return the URL to stream a whole shard from, downloaded first if remote."""
        return self._reader.stream_url(shard)

    def read_many(self, items: Iterable[int], names: Sequence[str]) -> Iterator[Sample]:
        """Yield the members `names` of each item, checked by crc32, in the order of `items`."""
        ranges = self._ranges(list(items), names)
        steps = list(ranges.reads())
        results = self._reader.read_all([step for step in steps if isinstance(step, ShardRead)])
        remote_shards: list[FileInfo] = []
        for step in steps:
            if isinstance(step, int):
                yield self._unread_sample(ranges, step, names)
                continue
            result = next(results)
            if not result.is_local:
                remote_shards.append(step.shard)
            for row in step.rows:
                yield self._sample(step, ranges, row, names, result)
        # Only now, because the first step needs the whole network for its own items.
        self._reader.prefetch(dict.fromkeys(remote_shards))

    def _ranges(self, items: Sequence[int], names: Sequence[str]) -> SampleRanges:
        return SampleRanges(self.catalogue, self.shards, items, names)

    def _unread_sample(self, ranges: SampleRanges, row: int, names: Sequence[str]) -> Sample:
        """Return the sample of an item that needs no reading or cannot be read."""
        item = ranges.items[row]
        fault = ranges.fault_of_row.get(row)
        return Sample(item, self.with_title(item, {}, names) if fault is None else fault)

    def _sample(
        self,
        read: ShardRead,
        ranges: SampleRanges,
        row: int,
        names: Sequence[str],
        result: ReadResult,
    ) -> Sample:
        """Return an item's sample from a read, or read the item alone if that is damaged."""
        item = ranges.items[row]
        if result.error is not None:
            return Sample(item, _storage_fault(read.shard, result.error))
        bytes_before = self.bytes_read
        members: Mapping[str, bytes] | str | None = None
        if result.content is not None:
            with suppress(BadItemError):
                cut_members = ranges.cut(row, result.content, read.start)
                members = self._deliver(item, cut_members, names)
        if members is None:
            members = self.try_read(item, names)
        if result.is_local:
            self.local_bytes += self.bytes_read - bytes_before
        return Sample(item, members)

    def try_read(self, item: int, names: Sequence[str]) -> Mapping[str, bytes] | str:
        """Return the item's members, or the reason why they cannot be read."""
        try:
            return self.read(item, names)
        except BadItemError as error:
            return str(error)

    def read(self, item: int, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return the item's members of the given names, each checked against its crc32.

        Raises:
            BadItemError: a member that is not optional is missing, a member is damaged at its
                origin, or the storage gave up.
        """
        ranges = self._ranges([item], names)
        if ranges.fault_of_row:
            raise BadItemError(ranges.fault_of_row[0])
        (step,) = ranges.reads()
        if isinstance(step, int):
            return self.with_title(item, {}, names)
        attempt = _Attempt(None)
        for _ in range(MAX_CRC_TRIES):
            attempt = self._attempt(step, ranges)
            if attempt.members is not None:
                return self._deliver(item, attempt.members, names)
            # The cached shard is damaged or unreadable: the next try must read the origin.
            was_cached = self._reader.discard(step.shard)
            # The storage already retried the origin, so another try would only wait longer.
            if attempt.is_storage_fault and not was_cached:
                break
        raise BadItemError(attempt.fault)

    def _attempt(self, read: ShardRead, ranges: SampleRanges) -> _Attempt:
        """Try to read the only item of `ranges`."""
        try:
            content = self._reader.read(read.shard, read.start, read.size)
        except (OSError, RuntimeError) as error:
            return _Attempt(None, _storage_fault(read.shard, error), is_storage_fault=True)
        try:
            return _Attempt(ranges.cut(0, content, read.start))
        except BadItemError as error:
            return _Attempt(None, str(error))

    def _deliver(
        self, item: int, members: Mapping[str, bytes], names: Sequence[str]
    ) -> Mapping[str, bytes]:
        self.bytes_read += sum(map(len, members.values()))
        return self.with_title(item, members, names)

    def with_title(
        self, item: int, members: Mapping[str, bytes], names: Sequence[str]
    ) -> Mapping[str, bytes]:
        """Return the item's stored members, with its title if that is among the names."""
        if TITLE not in names:
            return members
        return {**members, TITLE: self.catalogue.title(item).encode()}


def _storage_fault(shard: FileInfo, error: Exception) -> str:
    return f"{shard.path} cannot be read: {scrub(str(error))}"
