"""The item store: the members of any item's sample, from a local data set, the node's cache, or ranged reads."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlrec import storage
from mlrec.data.cache import FOLDER, ShardCache, checked_cache_dir
from mlrec.data.format import Catalogue, DatasetInfo, FileInfo, Member, item_shard
from mlrec.runtime.redact import scrub
from mlrec.storage.transfer import CutShortError

CRC_TRIES = 2
"""A member whose bytes do not have its crc32 is read this often; the second time from the origin."""
READS_IN_FLIGHT = 32
BYTES_IN_FLIGHT = 512 << 20
"""Ranged reads hold at most so much at once."""
MAX_SAMPLE_BYTES = 256 << 20
"""An item whose members take more, or lie further apart, is a bad item: no sample of mlrec's comes near."""
WASTE = 0.05
"""Neighbouring items are read at once while what lies between them is at most this share of what is wanted."""

TITLE = "txt"
"""The member that is never read: the catalogue holds all titles in memory."""
OPTIONAL = frozenset({"flac", "cover.jpg"})
"""Members that a sample may lack: an item without a sound track is silent, one without a cover has a black one."""

Sample = tuple[int, Mapping[str, bytes] | str]
"""An item with its members, or with the reason why they cannot be had."""


_NO_SHARD = FileInfo(item_shard(0), 0, "0" * 64)


class BadItemError(Exception):
    """An item that could not be read or decoded; the message is the reason."""


@dataclass
class _Read:
    """One range of a shard that holds all that is wanted of neighbouring items."""

    shard: FileInfo
    start: int
    end: int
    wanted: int
    """Bytes of the items' own ranges, without what lies between them."""
    items: dict[int, list[Member]] = field(default_factory=dict)

    def add(self, shard: FileInfo, item: int, members: list[Member]) -> bool:
        """Takes in another item of the shard, unless that would read too much, or too much in vain."""
        start, end = _range_of(members)
        wanted = self.wanted + end - start
        length = end - self.start
        if (
            shard is not self.shard
            or start < self.end
            or length > min((1 + WASTE) * wanted, storage.READ_BYTES)
        ):
            return False
        self.end, self.wanted, self.items[item] = end, wanted, members
        return True


def _range_of(members: Sequence[Member]) -> tuple[int, int]:
    # members of one sample stand side by side: one read covers them
    return min(member.offset for member in members), max(
        member.offset + member.size for member in members
    )


def _check_range(shard: FileInfo, start: int, end: int) -> None:
    if not 0 <= start <= end <= shard.size:
        raise BadItemError(
            f"its sample is said to lie at bytes {start:,} to {end:,} of {shard.path}, which has {shard.size:,}"
        )
    if end - start > MAX_SAMPLE_BYTES:
        raise BadItemError(
            f"its sample takes {end - start:,} bytes, more than the {MAX_SAMPLE_BYTES:,} that are read"
        )


class ItemStore:
    """Access to the item samples of a data set."""

    def __init__(
        self, url: str, info: DatasetInfo, catalogue: Catalogue, cache_dir: Path, cache_bytes: int
    ) -> None:
        """
        Raises:
            ValueError: the cache folder cannot be written, or belongs to a data set or a run.
        """
        cache_dir = checked_cache_dir(cache_dir, url)
        self.url, self.catalogue = url, catalogue
        self.shards: list[FileInfo] = info.shards("items")
        local = storage.is_local(url)
        self.cache = None if local else ShardCache(url, cache_dir / FOLDER, cache_bytes)
        self.bytes_read = 0
        """Bytes of members delivered so far by this process."""
        self.local_bytes = 0
        """Of these, what was on this node when it was asked for."""
        self._bytes_ranged = 0

    def room(self) -> str:
        """What of a remote data set fits on this node, in words behind a comma; empty for a local one."""
        if self.cache is None:
            return ""
        size, room = sum(shard.size for shard in self.shards), self.cache.budget_bytes
        if room >= size:
            return (
                f"; {size / 1e6:,.1f} MB of shards are kept in {self.cache.folder} as they are read"
            )
        return f"; data.cache_bytes holds {room / size:.0%} of {size / 1e6:,.1f} MB of shards, the rest is read again at each use"

    def take_remote_bytes(self) -> int:
        """Bytes that this process asked of the network since the last call: ranged reads and shards."""
        taken = self._bytes_ranged
        self._bytes_ranged = 0
        return taken + (self.cache.take_bytes() if self.cache else 0)

    def read_many(self, items: Iterable[int], names: Sequence[str]) -> Iterator[Sample]:
        """The members of the given names of each item, checked against their crc32, in the order of `items`.

        Shards that are not on this node are asked for when all items are there: the first step has the network to itself.
        """
        plan = self._plan(items, names)
        paths = {id(read): self._local_path(read.shard) for read in plan if isinstance(read, _Read)}
        remote = [read for read in plan if isinstance(read, _Read) and paths[id(read)] is None]
        largest = max((read.end - read.start for read in remote), default=1)
        in_flight = max(1, min(READS_IN_FLIGHT, BYTES_IN_FLIGHT // largest))
        ranged = storage.read_ranges([self._range(read) for read in remote], in_flight)
        for read in plan:
            if not isinstance(read, _Read):
                yield read
                continue
            path, size = paths[id(read)], read.end - read.start
            found = next(ranged) if path is None else _whole(path, read.start, size)
            self._bytes_ranged += size if path is None else 0
            for item, members in read.items.items():
                before, sample = self.bytes_read, self._cut(read, item, members, names, found)
                self.local_bytes += self.bytes_read - before if path is not None else 0
                yield item, sample
        if self.cache is not None:
            for shard in dict.fromkeys(read.shard for read in remote):
                self.cache.ask(shard)

    def _plan(self, items: Iterable[int], names: Sequence[str]) -> list[_Read | Sample]:
        """What to read, and samples of items that need no reading or cannot be read."""
        plan: list[_Read | Sample] = []
        for item in items:
            try:
                shard, members = self._wanted(item, names)
            except BadItemError as error:
                plan.append((item, str(error)))
                continue
            if not members:
                plan.append((item, self.with_title(item, {}, names)))
            elif not (
                plan and isinstance(last := plan[-1], _Read) and last.add(shard, item, members)
            ):
                start, end = _range_of(members)
                plan.append(_Read(shard, start, end, end - start, {item: members}))
        return plan

    def _wanted(self, item: int, names: Sequence[str]) -> tuple[FileInfo, list[Member]]:
        present = {member.name: member for member in self.catalogue.members(item)}
        if absent := [
            name for name in stored(names) if name not in present and name not in OPTIONAL
        ]:
            raise BadItemError(
                f"its sample has no {absent[0]}; it holds {', '.join(present) or 'nothing'}"
            )
        members = [present[name] for name in stored(names) if name in present]
        if not members:
            return _NO_SHARD, []
        number = int(self.catalogue.shard_N1[item])
        if not 0 <= number < len(self.shards):
            raise BadItemError(f"the data set has no item shard {number}")
        _check_range(self.shards[number], *_range_of(members))
        return self.shards[number], members

    def _cut(
        self,
        read: _Read,
        item: int,
        members: list[Member],
        names: Sequence[str],
        found: bytes | Exception | None,
    ) -> Mapping[str, bytes] | str:
        """The item's members out of what was read, or from a read of its own where that has them not."""
        if isinstance(found, Exception) and not isinstance(found, CutShortError):
            return f"{read.shard.path} cannot be read: {scrub(str(found))}"
        if isinstance(found, bytes):
            cut = {
                m.name: found[m.offset - read.start : m.offset - read.start + m.size]
                for m in members
            }
            if all(zlib.crc32(cut[m.name]) == m.crc32 for m in members):
                self.bytes_read += sum(map(len, cut.values()))
                return self.with_title(item, cut, names)
        return self.try_read(item, names)

    def try_read(self, item: int, names: Sequence[str]) -> Mapping[str, bytes] | str:
        """The item's members, or the reason why they cannot be had."""
        try:
            return self.read(item, names)
        except BadItemError as error:
            return str(error)

    def with_title(
        self, item: int, members: Mapping[str, bytes], names: Sequence[str]
    ) -> Mapping[str, bytes]:
        """The item's stored members, and its title where that is among the names."""
        return (
            {**members, TITLE: self.catalogue.title(item).encode()} if TITLE in names else members
        )

    def read(self, item: int, names: Sequence[str]) -> Mapping[str, bytes]:
        """The item's members of the given names, each checked against its crc32.

        Raises:
            BadItemError: a member that is not OPTIONAL is missing, or one is damaged at its origin, or the storage gave up.
        """
        shard, members = self._wanted(item, names)
        if not members:
            return self.with_title(item, {}, names)
        start, end = _range_of(members)
        for _ in range(CRC_TRIES):
            reason = ""
            try:
                span = self._read_span(shard, start, end - start)
            except (OSError, RuntimeError) as error:
                reason = f"{shard.path} cannot be read: {scrub(str(error))}"
            else:
                found = {
                    m.name: span[m.offset - start : m.offset - start + m.size] for m in members
                }
                damaged = [m.name for m in members if zlib.crc32(found[m.name]) != m.crc32]
                if not damaged:
                    self.bytes_read += sum(map(len, found.values()))
                    return self.with_title(item, found, names)
            was_cached = self.cache is not None and self.cache.drop(shard)
            if reason and not was_cached:  # the storage was asked often enough
                raise BadItemError(reason)
        raise BadItemError(reason or f"{damaged[0]} in {shard.path} does not have its crc32")

    def shard_url(self, shard: FileInfo) -> str:
        """Where to stream a whole shard from: its file on this node, downloaded now if need be, else its origin."""
        if self.cache is None:
            return self._url(shard)
        if (path := self.cache.wait_for(shard)) is not None:
            return str(path)
        self._bytes_ranged += shard.size
        return self._url(shard)

    def _local_path(self, shard: FileInfo) -> Path | None:
        if self.cache is not None:
            return self.cache.path(shard)
        return storage.local_path(self._url(shard))

    def _url(self, shard: FileInfo) -> str:
        return storage.join(self.url, shard.path)

    def _range(self, read: _Read) -> tuple[str, int, int]:
        return self._url(read.shard), read.start, read.end - read.start

    def _read_span(self, shard: FileInfo, start: int, size: int) -> bytes:
        path = self._local_path(shard)
        if path is not None:
            try:
                return storage.read_range(str(path), start, size)
            except FileNotFoundError:
                if self.cache is None:
                    raise  # else another job evicted it a moment ago
        self._bytes_ranged += size
        return storage.read_range(self._url(shard), start, size)


def stored(names: Iterable[str]) -> list[str]:
    """The names of members that are read from shards."""
    return [name for name in names if name != TITLE]


def _whole(path: Path, start: int, size: int) -> bytes | None:
    """A part of a local file, None where it cannot be read."""
    try:
        return storage.read_range(str(path), start, size)
    except (OSError, RuntimeError):
        return None
