"""Open the sequence table of a data set: the first process of a node makes it from the shards."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np
from filelock import FileLock

from mlrec import storage
from mlrec.data.format import (
    SPLITS,
    DatasetInfo,
    FileInfo,
    HeldOut,
    SplitInfo,
    id_fault,
    raw_user_array,
    read_blocks,
)
from mlrec.data.format.sequence_shards import HashedStream, check_items, check_runs
from mlrec.data.sequence_cache import TableWriter, read_arrays
from mlrec.data.sequences import SequenceTable
from mlrec.runtime.progress import task
from mlrec.runtime.units import megabytes

CHECK_HINT = "mlrec-shards check lists the faults of a data set"

_ITEMS_AT_A_TIME = 1 << 24
"""Interactions that are compared with the catalogue at once."""

log = logging.getLogger(__name__)


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
        # A split by time has two int32 and up to one int64 per user more.
        user_bytes = 16 if info.split.kind == "leave_one_out" else 32
        size = 4 * info.counts["interactions"] + user_bytes * info.counts["users"]
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
    if info.split.kind == "leave_one_out":
        return SequenceTable(items, offsets, users, info.split, raw_users)
    for name in ("validation_lengths", "test_lengths", "train_users"):
        if name not in arrays:
            raise ValueError(f"{name} is missing, which a split by time needs")
    lengths = HeldOut(arrays["validation_lengths"], arrays["test_lengths"])
    if any(len(array) != len(users) for array in lengths):
        raise ValueError(f"the lengths of the periods are not those of {len(users)} users")
    train_users = arrays["train_users"]
    return SequenceTable(items, offsets, users, info.split, raw_users, lengths, train_users)


def _check_split(table: SequenceTable, info: DatasetInfo) -> None:
    """Check that the table can be trained and ranked as dataset.json says.

    Raises:
        ValueError: it cannot.
    """
    if not table.num_train_users:
        raise ValueError("no user has two training interactions, so there is nothing to train on")
    for split in SPLITS:
        num_users = len(table.evaluated_users(split))
        if num_users != info.counts[split]:
            raise ValueError(
                f"the sequence shards hold {num_users} {split} targets, "
                f"dataset.json says {info.counts[split]}"
            )


def _make_table(url: str, info: DatasetInfo, ok_N1: np.ndarray, folder: Path) -> SequenceTable:
    partial = Path(f"{folder}.partial")
    # A partial folder is of a killed process; a folder under the final name is damaged.
    for stray in (partial, folder):
        shutil.rmtree(stray, ignore_errors=True)
    partial.mkdir()
    shards = info.shards("sequences")
    shard_bytes = sum(shard.size for shard in shards)
    with ExitStack() as stack:
        writer = TableWriter(partial, stack, info.split)
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
        _check_split(table, info)
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
