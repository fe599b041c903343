"""All users' sequences as memory-mapped arrays, made once per node and shared by its processes."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from mlrec import storage
from mlrec.data.format import (
    DatasetInfo,
    FileInfo,
    SplitInfo,
    id_fault,
    raw_user_array,
    read_blocks,
)
from mlrec.data.format.sequence_shards import HashedStream, check_items, check_runs
from mlrec.data.sequence_cache import TableWriter, read_arrays
from mlrec.runtime.progress import task
from mlrec.runtime.units import megabytes

Split = Literal["validation", "test"]

_HELD_OUT: dict[Split, int] = {"validation": 2, "test": 1}
"""Distance of the target from the end of a user's sequence, in items."""

CHECK_HINT = "mlrec-shards check lists the faults of a data set"

_ITEMS_AT_A_TIME = 1 << 24
"""Interactions that are compared with the catalogue at once."""

log = logging.getLogger(__name__)


class SequenceTable:
    """Items of all users, one run per user, oldest first.

    Items are int32 on disk, so a billion interactions take 4 GB. Users are numbered from 0 in the
    order of the shards.
    """

    def __init__(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        users: np.ndarray,
        split: SplitInfo,
        raw_users: pa.LargeStringArray | None = None,
    ) -> None:
        """Hold the arrays of a table without copying them.

        Args:
            items: int32 [interactions], item ids.
            offsets: int64 [users + 1], starts of the runs.
            users: int64 [users], ids of the raw data, or 1, 2, ... with `raw_users`.
            raw_users: [users], the raw data's ids where these are not the numbers in `users`.
        """
        self.items = items
        self.offsets = offsets
        self.users = users
        self.raw_users = raw_users
        self.split = split

    def raw_user(self, user: int) -> str:
        """Return the raw data's id of a user."""
        return str(self.users[user] if self.raw_users is None else self.raw_users[user].as_py())

    def number_of(self, raw_user: str) -> int:
        """Return the number of the user with this raw id; surrounding spaces are ignored.

        Raises:
            ValueError: there is no such user.
        """
        # Packing strips the ids too.
        raw_user = raw_user.strip()
        if self.raw_users is not None:
            # Arrow compares types strictly: a plain string scalar would not match.
            number = pc.index(self.raw_users, pa.scalar(raw_user, pa.large_string())).as_py()
        else:
            number = self._number_of_integer(raw_user)
        if number < 0:
            first = ", ".join(map(self.raw_user, range(min(3, self.num_users))))
            raise ValueError(f"the data set has no user {raw_user!r}; its first ones are {first}")
        return int(number)

    def _number_of_integer(self, raw_user: str) -> int:
        """Return the number of the user whose id is a whole number, -1 if there is none."""
        # 18 digits fit int64. isdecimal alone would accept the digits of other scripts.
        if not (raw_user.isascii() and raw_user.isdecimal() and len(raw_user) < 19):
            return -1
        # 007 is not 7.
        if str(int(raw_user)) != raw_user:
            return -1
        places = np.flatnonzero(self.users == int(raw_user))
        return int(places[0]) if len(places) else -1

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.users)

    def train(self, users_B: np.ndarray) -> np.ndarray:
        """Return training sequences, int64 [B, keep_last - 2], right-aligned, 0 for padding."""
        # The last two items are held out, for validation and test.
        return self._window(users_B, skip_last=2, width=self.split.keep_last - 2)

    def history(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """Return the last L items before the held-out one, the input of the model.

        Returns:
            int64 [B, L], right-aligned, 0 for padding.
        """
        return self._window(users_B, skip_last=_HELD_OUT[split], width=self.split.history_length)

    def seen(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """Return the items of the window before the held-out one, which ranking excludes.

        Returns:
            int64 [B, keep_last - 1 or - 2], 0 for padding.
        """
        skip = _HELD_OUT[split]
        return self._window(users_B, skip_last=skip, width=self.split.keep_last - skip)

    def target(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """Return the held-out item of each user, int64 [B]."""
        return np.asarray(self.items[self.offsets[users_B + 1] - _HELD_OUT[split]], dtype=np.int64)

    def items_of(self, user: int) -> np.ndarray:
        """Return all items of a user, held-out ones included, oldest first, int64."""
        return np.asarray(self.items[self.offsets[user] : self.offsets[user + 1]], dtype=np.int64)

    def _window(self, users_B: np.ndarray, skip_last: int, width: int) -> np.ndarray:
        # Invariant: user u's items are items[offsets[u] : offsets[u + 1]], of which the split uses
        # the last keep_last. A window ends skip_last items before the end of the run.
        ends = self.offsets[users_B + 1]
        starts = np.maximum(self.offsets[users_B], ends - self.split.keep_last)
        positions = (ends - skip_last)[:, None] + np.arange(-width, 0)
        inside = positions >= starts[:, None]
        # Positions before the start belong to another user, or are negative: read item 0 instead.
        return np.where(inside, self.items[np.where(inside, positions, 0)], 0).astype(np.int64)


def open_sequences(
    url: str, info: DatasetInfo, ok_N1: np.ndarray, cache_dir: Path
) -> SequenceTable:
    """Return the sequence table of the data set at `url`.

    The first process of the node makes it, and the others wait.

    Args:
        ok_N1: bool by item number, the items that sequences may hold; row 0 is padding.

    Raises:
        ValueError: a shard contradicts itself or the catalogue.
        RuntimeError: the cache folder cannot be written or has no room for the table, or a shard is
            not the one that dataset.json names.
    """
    folder = cache_dir.expanduser() / "sequences" / info.fingerprint[:32]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        table = _open_table(folder, info, ok_N1)
        if table is None:
            # Another process may have made it while this one waited for the lock: look again.
            with FileLock(f"{folder}.lock"):
                table = _open_table(folder, info, ok_N1) or _make_table(url, info, ok_N1, folder)
    except OSError as error:
        size = 4 * info.counts["interactions"] + 16 * info.counts["users"]
        raise RuntimeError(
            f"data.cache_dir: {folder.parent} cannot take the sequence table of "
            f"{size / 1e6:,.1f} MB: {error}; free space, or choose another folder"
        ) from error
    return table


def _open_table(folder: Path, info: DatasetInfo, ok_N1: np.ndarray) -> SequenceTable | None:
    """Return the table in the folder, verified by sha256; None if missing or damaged."""
    try:
        return _table_of(read_arrays(folder), info, ok_N1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # Not fatal: the table is only a copy, which the shards can replace.
        log.warning("%s is damaged and is made again: %s", folder, error)
        return None


def _table_of(arrays: dict[str, np.ndarray], info: DatasetInfo, ok_N1: np.ndarray) -> SequenceTable:
    """Return the table of some arrays after checking them.

    Raises:
        ValueError: the arrays do not fit each other, dataset.json or the catalogue.
    """
    users = arrays["users"]
    offsets = arrays["offsets"]
    items = arrays["items"]
    expected_users = info.counts["users"]
    expected_interactions = info.counts["interactions"]
    has_counts = len(users) == expected_users and len(items) == expected_interactions
    if not has_counts or len(offsets) != len(users) + 1:
        raise ValueError(
            f"the sequence shards hold {len(users)} users and {len(items)} interactions, "
            f"dataset.json says {expected_users} and {expected_interactions}"
        )
    check_runs(offsets, len(users), len(items), "offsets", "items", info.split.min_interactions)
    # In parts, because a lookup of a billion items would take gigabytes of memory.
    for start in range(0, len(items), _ITEMS_AT_A_TIME):
        check_items(items[start : start + _ITEMS_AT_A_TIME], ok_N1)
    raw_users = None
    if "raw_users" in arrays:
        raw_users = raw_user_array(arrays["raw_users"], arrays["raw_user_offsets"])
    return SequenceTable(items, offsets, users, info.split, raw_users)


def _make_table(url: str, info: DatasetInfo, ok_N1: np.ndarray, folder: Path) -> SequenceTable:
    partial = Path(f"{folder}.partial")
    # A partial folder is of a killed process; a folder under the final name is damaged.
    for stray in (partial, folder):
        shutil.rmtree(stray, ignore_errors=True)
    partial.mkdir()
    shards = info.shards("sequences")
    shard_bytes = sum(shard.size for shard in shards)
    with ExitStack() as stack:
        writer = TableWriter(partial, stack)
        under_way = stack.enter_context(task("reading sequences", shard_bytes, megabytes))
        for shard in shards:
            _add_shard(url, shard, info.split, ok_N1, writer)
            under_way.advance(shard.size)
        writer.finish()
    try:
        table = _table_of(read_arrays(partial), info, ok_N1)
        # Ids must be unique over all shards, which a check of single blocks cannot tell.
        fault = id_fault(table.users, table.raw_users)
        if fault:
            raise ValueError(f"the sequence shards: {fault}")
    except ValueError as error:
        raise ValueError(f"{url}: {error}; {CHECK_HINT}") from error
    # Renamed only when complete and checked: other processes open the folder without the lock.
    os.replace(partial, folder)
    # Mapped again, because the maps of `table` are of files under the old name.
    return _table_of(read_arrays(folder), info, ok_N1)


def _add_shard(
    url: str, shard: FileInfo, split: SplitInfo, ok_N1: np.ndarray, writer: TableWriter
) -> None:
    """Append a shard's users to the table.

    Raises:
        ValueError: its content contradicts itself or the catalogue.
        RuntimeError: it is not the file that dataset.json names; discard the whole table then.
    """
    where = storage.join(url, shard.path)
    fault: ValueError | None = None
    with _open(where, shard.size) as stream:
        hashed = HashedStream(stream)
        try:
            for block in read_blocks(cast("IO[bytes]", hashed), split, ok_N1):
                writer.add(block)
        except ValueError as error:
            fault = error
        # Read to the end, because the sha256 is of the whole file.
        while hashed.read(storage.READ_BYTES):
            pass
    # Checked before the fault: a damaged or changed file is the cause of any other fault.
    if hashed.digest.hexdigest() != shard.sha256:
        raise RuntimeError(
            f"{where} does not have the sha256 that dataset.json names; {CHECK_HINT}"
        )
    if fault is not None:
        raise ValueError(f"{where}: {fault}; {CHECK_HINT}") from fault


def _open(url: str, size: int) -> IO[bytes]:
    try:
        return storage.open_stream(url, size)
    except FileNotFoundError as error:
        raise RuntimeError(f"{url} is missing; {CHECK_HINT}") from error
