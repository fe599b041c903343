"""The item store: the members of any item's sample, from a local data set, the node's cache, or a ranged read."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from mlrec import storage
from mlrec.data.cache import ShardCache
from mlrec.data.format import Catalogue, DatasetInfo, FileInfo, Member

CRC_TRIES = 2
"""A member whose bytes do not have its crc32 is read this often; the second time from the origin."""


class BadItemError(Exception):
    """An item that could not be read or decoded; the message is the reason."""


class ItemStore:
    """Random access to the item samples of a data set."""

    def __init__(self, url: str, info: DatasetInfo, catalogue: Catalogue, cache_dir: Path, cache_bytes: int) -> None:
        self.url, self.catalogue = url, catalogue
        self.shards: list[FileInfo] = info.shards("items")
        local = storage.is_local(url)
        self.cache = None if local else ShardCache(url, cache_dir.expanduser() / "items", cache_bytes)
        self.bytes_read = 0
        """Bytes of members delivered so far by this process."""

    def read(self, item: int, names: Iterable[str]) -> dict[str, bytes]:
        """The item's members of the given names, each checked against its crc32.

        Raises:
            BadItemError: a member is missing, or damaged at its origin, or the storage gave up.
        """
        present = {member.name: member for member in self.catalogue.members(item)}
        wanted = list(names)
        if absent := [name for name in wanted if name not in present]:
            raise BadItemError(f"its sample has no {absent[0]}; it holds {', '.join(present) or 'nothing'}")
        members = [present[name] for name in wanted]
        if not members:
            return {}
        shard = self.shards[int(self.catalogue.shard_N1[item])]
        for _ in range(CRC_TRIES):
            found = self._read_members(shard, members)
            damaged = [m.name for m in members if zlib.crc32(found[m.name]) != m.crc32]
            if not damaged:
                self.bytes_read += sum(map(len, found.values()))
                return found
            if self.cache is not None:
                self.cache.drop(shard)
        raise BadItemError(f"{damaged[0]} in {shard.path} does not have its crc32")

    def try_read(self, item: int, names: Iterable[str]) -> dict[str, bytes] | str:
        """The item's members, or the reason why they cannot be had."""
        try:
            return self.read(item, names)
        except BadItemError as error:
            return str(error)

    def _read_members(self, shard: FileInfo, members: list[Member]) -> dict[str, bytes]:
        # members of one sample stand side by side: one read covers them
        start = min(member.offset for member in members)
        end = max(member.offset + member.size for member in members)
        try:
            span = self._read_span(shard, start, end - start)
        except (OSError, RuntimeError) as error:
            raise BadItemError(f"{shard.path} cannot be read: {error}") from error
        return {m.name: span[m.offset - start : m.offset - start + m.size] for m in members}

    def _read_span(self, shard: FileInfo, start: int, size: int) -> bytes:
        url = storage.join(self.url, shard.path)
        if self.cache is None:
            return _read_file(storage.local_path(url), start, size)
        if (path := self.cache.path(shard)) is not None:
            try:
                return _read_file(path, start, size)
            except FileNotFoundError:  # evicted a moment ago
                pass
        self.cache.ask(shard)
        return storage.read_range(url, start, size)


def _read_file(path: Path, start: int, size: int) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(handle, size, start)
    finally:
        os.close(handle)
    if len(data) != size:
        raise RuntimeError(f"{path} ends before byte {start + size}")
    return data
