"""Sequence shards: users' whole interaction sequences, in blocks of .npy members.

A block is one WebDataset sample <first user>.<name>.npy with these members, in this order:

    users               int64 [n]        user ids of the raw data if whole numbers, else 1, 2, ...
    offsets             int64 [n + 1]    starts of the users' runs in `items`
    items               int32 [e]        items of all users, oldest first
    times               int64 [e]        optional: times of the interactions. A split by time needs
                                         them, ascending within each user
    raw_users           uint8 [bytes]    optional: the raw data's user ids in UTF-8, concatenated;
                                         stored if `users` does not have them
    raw_user_offsets    int64 [n + 1]    with raw_users: starts of the ids
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format.splits import SplitInfo
from mlrec.runtime.printable import brief
from mlrec.storage.npy import read_npy

SEQUENCE_MEMBERS: dict[str, type[np.generic]] = {
    "users": np.int64,
    "offsets": np.int64,
    "items": np.int32,
    "times": np.int64,
    "raw_users": np.uint8,
    "raw_user_offsets": np.int64,
}
"""Name and type of a block's members, in their order."""
_REQUIRED = ("users", "offsets", "items")
MAX_BLOCK_BYTES = 512 << 20
"""A block of 8,192 users reaches this with 5,000 timed interactions each."""
MAX_RAW_USER_BYTES = 1024
_MEMBER_NAME = re.compile(r"(\d{9,18})\.(\w+)\.npy", re.ASCII)


@dataclass(frozen=True)
class Block:
    """Neighbouring users of a sequence shard; runs and item numbers are safe to index with."""

    users: np.ndarray
    """int64 [n]."""
    offsets: np.ndarray
    """int64 [n + 1]."""
    items: np.ndarray
    """int32 [e]: numbers of items that have a sample."""
    times: np.ndarray | None = None
    """int64 [e]."""
    raw_users: np.ndarray | None = None
    """uint8 [bytes]: UTF-8."""
    raw_user_offsets: np.ndarray | None = None
    """int64 [n + 1]."""


class HashedStream(io.RawIOBase):
    """A stream that hashes what passes through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.digest.update(data)
        return data


def read_blocks(stream: IO[bytes], split: SplitInfo, ok_N1: np.ndarray) -> Iterator[Block]:
    """Yield the blocks of a sequence shard, each checked.

    Args:
        ok_N1: bool by item number: the items that sequences may hold; row 0 is padding.

    Raises:
        ValueError: the shard is not a tar file of such blocks, or a block contradicts itself or
            the catalogue.
    """
    try:
        for key, arrays in _samples(stream):
            try:
                yield _block(arrays, split, ok_N1)
            except ValueError as error:
                raise ValueError(f"block {key}: {error}") from error
    # Damaged headers make tarfile raise Python's errors besides its own.
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as error:
        raise ValueError(f"the tar file is damaged ({brief(error)})") from error


def _samples(stream: IO[bytes]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the key and the arrays of each sample."""
    current, arrays, num_bytes = "", dict[str, np.ndarray](), 0
    # "r|" never seeks, so a remote shard is read and hashed in a single pass.
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            key, name = _parsed_name(member)
            # WebDataset keeps the members of a sample adjacent, so a new key ends the sample.
            if key != current:
                if arrays:
                    yield current, arrays
                current, arrays, num_bytes = key, {}, 0
            if name in arrays:
                raise ValueError(f"{member.name[:80]!r} occurs twice")
            num_bytes += member.size
            if num_bytes > MAX_BLOCK_BYTES:
                raise ValueError(
                    f"block {key} is longer than {MAX_BLOCK_BYTES:,} bytes, "
                    "of which no more are read"
                )
            raw = cast("IO[bytes]", tar.extractfile(member)).read()
            try:
                arrays[name] = read_npy(raw, SEQUENCE_MEMBERS[name], ndim=1)
            except ValueError as error:
                raise ValueError(f"{member.name}: {error}") from error
    if arrays:
        yield current, arrays


def _parsed_name(member: tarfile.TarInfo) -> tuple[str, str]:
    """Return key and array name of a member."""
    match = _MEMBER_NAME.fullmatch(member.name)
    if match is None or match[2] not in SEQUENCE_MEMBERS or not member.isreg():
        raise ValueError(f"{member.name[:80]!r} is not a member of a sequence shard")
    if member.issparse():
        raise ValueError(f"{member.name} is a sparse file, which may be of any length in memory")
    return match[1], match[2]


def _block(arrays: dict[str, Any], split: SplitInfo, ok_N1: np.ndarray) -> Block:
    if absent := [name for name in _REQUIRED if name not in arrays]:
        raise ValueError(f"it has no {absent[0]}.npy")
    if ("raw_users" in arrays) != ("raw_user_offsets" in arrays):
        raise ValueError("it has one of raw_users.npy and raw_user_offsets.npy without the other")
    block = Block(**arrays)
    check_runs(
        block.offsets,
        len(block.users),
        len(block.items),
        "offsets.npy",
        "items",
        split.min_interactions,
    )
    check_items(block.items, ok_N1)
    if block.times is not None and len(block.times) != len(block.items):
        raise ValueError(f"it has {len(block.times)} times for {len(block.items)} items")
    if split.kind == "time":
        _check_times(block)
    if block.raw_users is not None and block.raw_user_offsets is not None:
        _check_raw_users(block.raw_users, block.raw_user_offsets, len(block.users))
    return block


def _check_times(block: Block) -> None:
    """Check that a split by time can cut the block's runs.

    Raises:
        ValueError: it has no times, or a user's times do not ascend.
    """
    if block.times is None:
        raise ValueError("it has no times.npy, by which the data set is split")
    descends = block.times[1:] < block.times[:-1]
    # Between two users the times may descend.
    starts = block.offsets[1:-1]
    descends[starts - 1] = False
    if descends.any():
        raise ValueError("times.npy does not ascend within each user")


def check_runs(
    offsets: np.ndarray,
    runs: int,
    values: int,
    name: str,
    of: str,
    shortest: int,
    longest: int = 1 << 62,
) -> None:
    """Check that offsets cut values into runs.

    Args:
        runs: expected number of runs.
        values: expected number of values.
        shortest: least length of a run.
        longest: greatest length of a run.

    Raises:
        ValueError: they do not.
    """
    if len(offsets) != runs + 1:
        raise ValueError(f"{name} holds {len(offsets)} numbers for {runs} users")
    if offsets[0] != 0 or offsets[-1] != values:
        raise ValueError(f"{name} goes from {offsets[0]} to {offsets[-1]}, expected 0 to {values}")
    # Compared, not subtracted: differences of hostile int64 values could overflow.
    if np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(f"{name} does not ascend")
    lengths = np.diff(offsets)
    if len(lengths) and (lengths.min() < shortest or lengths.max() > longest):
        wrong_length = lengths.min() if lengths.min() < shortest else lengths.max()
        limit = f"{shortest} or more" if lengths.min() < shortest else f"at most {longest}"
        raise ValueError(f"a user has {wrong_length} {of}, expected {limit}")


def check_items(items: np.ndarray, ok_N1: np.ndarray) -> None:
    """Check that the catalogue has all items, and a sample of each.

    Raises:
        ValueError: it does not.
    """
    if not len(items):
        return
    if items.min() < 1 or items.max() >= len(ok_N1):
        wrong = items.min() if items.min() < 1 else items.max()
        raise ValueError(
            f"items.npy holds item number {wrong}, the catalogue has 1 to {len(ok_N1) - 1}"
        )
    if not ok_N1[items].all():
        raise ValueError(
            f"items.npy holds item {items[~ok_N1[items]][0]}, "
            "whose status in the catalogue is failed"
        )


def _check_raw_users(raw_users: np.ndarray, offsets: np.ndarray, users: int) -> None:
    check_runs(
        offsets,
        users,
        len(raw_users),
        "raw_user_offsets.npy",
        "bytes of its id",
        1,
        MAX_RAW_USER_BYTES,
    )
    try:
        # Arrow takes the buffers as they are; only a full validation checks the UTF-8.
        raw_user_array(raw_users, offsets).validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError("raw_users.npy is not UTF-8") from error


def raw_user_array(raw_users: np.ndarray, offsets: np.ndarray) -> pa.LargeStringArray:
    """Return the raw data's user ids [n] as arrow keeps them, without a copy."""
    # LargeString has int64 offsets like raw_user_offsets.npy, so both buffers fit unchanged.
    buffers = (pa.py_buffer(np.ascontiguousarray(array)) for array in (offsets, raw_users))
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers)


def id_fault(users: np.ndarray, raw_users: pa.LargeStringArray | pa.ChunkedArray | None) -> str:
    """Return what is wrong with the ids of all users together, "" if nothing.

    Args:
        raw_users: of all users, or of none.
    """
    if len(np.unique(users)) != len(users):
        return f"{len(users)} users have {len(np.unique(users))} different ids"
    if raw_users is None or not len(raw_users):
        return ""
    if len(raw_users) != len(users):
        return "some blocks have raw_users.npy and others have none"
    distinct = pc.count_distinct(raw_users).as_py()
    return "" if distinct == len(users) else f"{len(users)} users have {distinct} different raw ids"
