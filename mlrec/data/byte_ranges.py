"""Byte ranges of shards: where an item's members are, and which items one read covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from zlib import crc32

import numpy as np

from mlrec import storage
from mlrec.data.format import Catalogue, FileInfo
from mlrec.data.samples import BadItemError, is_optional, stored

MAX_SAMPLE_BYTES = 256 << 20
"""Longest byte range of one item. Longer items are bad items; packed samples are far smaller."""
MAX_GAP_SHARE = 0.05
"""Largest ratio of unwanted to wanted bytes in a read that covers several items."""
_FAR = 1 << 62
"""A byte beyond any shard."""


@dataclass(slots=True)
class ShardRead:
    """One read of a shard that covers the wanted members of neighbouring items."""

    shard: FileInfo
    start: int
    end: int
    wanted_bytes: int
    """Bytes of the items' own ranges, without the gaps between them."""
    rows: range
    """Rows of the items in their SampleRanges."""

    @property
    def size(self) -> int:
        """Number of bytes to read."""
        return self.end - self.start

    def try_add(self, row: int, shard: FileInfo, start: int, end: int) -> bool:
        """Add the item of the next row, unless the read would become too long or too sparse.

        Returns:
            Whether the item was added.
        """
        # Ranges are only extended forward: `end` stays the end of the last item.
        if row != self.rows.stop or shard is not self.shard or start < self.end:
            return False
        wanted_bytes = self.wanted_bytes + end - start
        if end - self.start > min((1 + MAX_GAP_SHARE) * wanted_bytes, storage.READ_BYTES):
            return False
        self.end = end
        self.wanted_bytes = wanted_bytes
        self.rows = range(self.rows.start, row + 1)
        return True


class SampleRanges:
    """Byte ranges of n items' samples, each of which covers the K wanted members.

    The ranges are plain lists of numbers, by row. An object for each member, or even for each item,
    would take longer than reading it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        shards: Sequence[FileInfo],
        items: Sequence[int],
        names: Sequence[str],
    ) -> None:
        """Look up the members of `names` that are read from shards."""
        self.items = items
        self._names = stored(names)
        self._shards = shards
        items_n = np.array(items, dtype=np.int64)
        present_nK, offset_nK, size_nK, crc_nK = catalogue.places(items_n, self._names)
        # The members of one sample are adjacent in the shard, so one range covers them.
        start_n = offset_nK.min(axis=1, where=present_nK, initial=_FAR)
        end_n = (offset_nK + size_nK).max(axis=1, where=present_nK, initial=-_FAR)
        shard_n = catalogue.shard_N1[items_n]
        is_fault_n = self._find_faults(present_nK, shard_n, start_n, end_n)
        self._start_n: list[int] = start_n.tolist()
        self._end_n: list[int] = end_n.tolist()
        self._shard_n: list[int] = shard_n.tolist()
        self.fault_of_row: dict[int, str] = {}
        """Why items cannot be read, by row."""
        for row in np.flatnonzero(is_fault_n).tolist():
            self.fault_of_row[row] = self._fault(catalogue, row)
        self._is_read_n: list[bool] = (present_nK.any(axis=1) & ~is_fault_n).tolist()
        self._is_complete_n: list[bool] = np.asarray(present_nK.all(axis=1)).tolist()
        # Row r has the entries K r to K (r + 1) of the lists below.
        self._present: list[bool] = present_nK.ravel().tolist()
        self._offsets: list[int] = offset_nK.ravel().tolist()
        self._sizes: list[int] = size_nK.ravel().tolist()
        self._crcs: list[int] = crc_nK.ravel().tolist()

    def reads(self) -> Iterator[ShardRead | int]:
        """Yield the reads in the order of the rows, and the rows of items that have none."""
        read: ShardRead | None = None
        rows = zip(self._is_read_n, self._shard_n, self._start_n, self._end_n, strict=True)
        for row, (is_read, number, start, end) in enumerate(rows):
            # Only neighbouring rows are joined: samples must come out in the order of the items.
            if is_read and read and read.try_add(row, self._shards[number], start, end):
                continue
            if read:
                yield read
                read = None
            if is_read:
                rows_of_read = range(row, row + 1)
                read = ShardRead(self._shards[number], start, end, end - start, rows_of_read)
            else:
                yield row
        if read:
            yield read

    def cut(self, row: int, content: bytes, content_start: int) -> dict[str, bytes]:
        """Return an item's members by name from a part of its shard.

        Args:
            content_start: place of the first byte of `content` in the shard.

        Raises:
            BadItemError: a member does not have its crc32.
        """
        first = row * len(self._names)
        run = slice(first, first + len(self._names))
        places = zip(
            self._names, self._offsets[run], self._sizes[run], self._crcs[run], strict=True
        )
        members: dict[str, bytes] = {}
        # Most items have all members, and this runs for each of them.
        wanted = places if self._is_complete_n[row] else compress(places, self._present[run])
        for name, offset, size, expected_crc32 in wanted:
            member_start = offset - content_start
            member = content[member_start : member_start + size]
            if crc32(member) != expected_crc32:
                path = self._shards[self._shard_n[row]].path
                raise BadItemError(f"{name} in {path} does not have its crc32")
            members[name] = member
        return members

    def _find_faults(
        self, present_nK: np.ndarray, shard_n: np.ndarray, start_n: np.ndarray, end_n: np.ndarray
    ) -> np.ndarray:
        """Return which items lack a member or have an impossible range, bool [n]."""
        is_required_K = np.array([not is_optional(name) for name in self._names], dtype=bool)
        lacks_member_n = (~present_nK & is_required_K).any(axis=1)
        # The catalogue comes from storage: an impossible range must not become a huge read.
        is_shard_n = (shard_n >= 0) & (shard_n < len(self._shards))
        shard_bytes_n = np.zeros(len(shard_n), dtype=np.int64)
        shard_bytes = np.array([shard.size for shard in self._shards], dtype=np.int64)
        shard_bytes_n[is_shard_n] = shard_bytes[shard_n[is_shard_n]]
        is_inside_n = (start_n >= 0) & (start_n <= end_n) & (end_n <= shard_bytes_n)
        is_range_n = is_shard_n & is_inside_n & (end_n - start_n <= MAX_SAMPLE_BYTES)
        # An item without any wanted member has no range.
        return np.asarray(lacks_member_n | (present_nK.any(axis=1) & ~is_range_n))

    def _fault(self, catalogue: Catalogue, row: int) -> str:
        """Return why an item for which _find_faults is true cannot be read."""
        held_names = [member.name for member in catalogue.members(self.items[row])]
        for name in self._names:
            if name not in held_names and not is_optional(name):
                return f"its sample has no {name}; it holds {', '.join(held_names) or 'nothing'}"
        number = self._shard_n[row]
        start = self._start_n[row]
        end = self._end_n[row]
        if not 0 <= number < len(self._shards):
            return f"the data set has no item shard {number}"
        shard = self._shards[number]
        if not 0 <= start <= end <= shard.size:
            return (
                f"the catalogue places its sample at bytes {start:,} to {end:,} of {shard.path}, "
                f"which has {shard.size:,}"
            )
        return (
            f"its sample takes {end - start:,} bytes, "
            f"more than the {MAX_SAMPLE_BYTES:,} that are read"
        )
