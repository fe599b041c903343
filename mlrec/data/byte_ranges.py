"""Byte ranges of shards: where an item's members are, and which items one read covers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from mlrec import storage
from mlrec.data.format import Catalogue, FileInfo, Member
from mlrec.data.samples import BadItemError, is_optional, stored

MAX_SAMPLE_BYTES = 256 << 20
"""Longest byte range of one item. Longer items are bad items; packed samples are far smaller."""
MAX_GAP_SHARE = 0.05
"""Largest ratio of unwanted to wanted bytes in a read that covers several items."""


@dataclass(frozen=True)
class SampleRange:
    """The bytes of a shard that cover the wanted members of one item."""

    item: int
    shard: FileInfo
    members: Sequence[Member]
    start: int
    end: int

    def cut(self, content: bytes, content_start: int) -> dict[str, bytes]:
        """Return the members by name from a part of the shard that begins at `content_start`."""
        members = {}
        for member in self.members:
            first = member.offset - content_start
            members[member.name] = content[first : first + member.size]
        return members

    def find_damaged(self, members: dict[str, bytes]) -> str | None:
        """Return the name of the first member whose bytes do not have its crc32, or None."""
        for member in self.members:
            if zlib.crc32(members[member.name]) != member.crc32:
                return member.name
        return None


@dataclass
class ShardRead:
    """One read of a shard that covers the wanted members of neighbouring items."""

    shard: FileInfo
    start: int
    end: int
    wanted_bytes: int
    """Bytes of the items' own ranges, without the gaps between them."""
    samples: list[SampleRange]

    @property
    def size(self) -> int:
        """Number of bytes to read."""
        return self.end - self.start

    def try_add(self, sample: SampleRange) -> bool:
        """Add another item of the same shard, unless the read would become too long or too sparse.

        Returns:
            Whether the item was added.
        """
        # Ranges are only extended forward: `end` stays the end of the last item.
        if sample.shard is not self.shard or sample.start < self.end:
            return False
        size = sample.end - self.start
        wanted_bytes = self.wanted_bytes + sample.end - sample.start
        if size > min((1 + MAX_GAP_SHARE) * wanted_bytes, storage.READ_BYTES):
            return False
        self.end = sample.end
        self.wanted_bytes = wanted_bytes
        self.samples.append(sample)
        return True


def read_of(sample: SampleRange) -> ShardRead:
    """Return a read of one item alone."""
    wanted_bytes = sample.end - sample.start
    return ShardRead(sample.shard, sample.start, sample.end, wanted_bytes, [sample])


class SampleIndex:
    """Places of the items' members in the shards of a data set."""

    def __init__(self, catalogue: Catalogue, shards: Sequence[FileInfo]) -> None:
        self.catalogue = catalogue
        self.shards = shards

    def locate(self, item: int, names: Sequence[str]) -> SampleRange | None:
        """Return the range of an item's members, None if none of `names` is read from a shard.

        Raises:
            BadItemError: a member that is not optional is missing, or the range is impossible.
        """
        members = self._members(item, stored(names))
        if not members:
            return None
        number = int(self.catalogue.shard_N1[item])
        if not 0 <= number < len(self.shards):
            raise BadItemError(f"the data set has no item shard {number}")
        shard = self.shards[number]
        # The members of one sample are adjacent in the shard, so one range covers them.
        start = min(member.offset for member in members)
        end = max(member.offset + member.size for member in members)
        _check_range(shard, start, end)
        return SampleRange(item, shard, members, start, end)

    def _members(self, item: int, names: Sequence[str]) -> list[Member]:
        present = {member.name: member for member in self.catalogue.members(item)}
        members = []
        for name in names:
            if name in present:
                members.append(present[name])
            elif not is_optional(name):
                held_names = ", ".join(present) or "nothing"
                raise BadItemError(f"its sample has no {name}; it holds {held_names}")
        return members


def _check_range(shard: FileInfo, start: int, end: int) -> None:
    # The catalogue comes from storage: an impossible range must not become a huge read.
    if not 0 <= start <= end <= shard.size:
        raise BadItemError(
            f"the catalogue places its sample at bytes {start:,} to {end:,} of {shard.path}, "
            f"which has {shard.size:,}"
        )
    if end - start > MAX_SAMPLE_BYTES:
        raise BadItemError(
            f"its sample takes {end - start:,} bytes, "
            f"more than the {MAX_SAMPLE_BYTES:,} that are read"
        )
