"""All users' sequences as memory-mapped arrays, made once per node from the sequence shards and shared by its processes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
from filelock import FileLock

from mlrec import storage
from mlrec.data.format import DatasetInfo, FileInfo, SplitInfo, read_npy
from mlrec.progress import megabytes, task

Split = Literal["validation", "test"]

_HELD_OUT: dict[Split, int] = {"validation": 2, "test": 1}
"""How far from the end of a user's sequence the target stands."""


class SequenceTable:
    """Items of all users, one run per user, oldest first; int32 on disk, so a billion interactions are 4 GB.

    Users are numbered from 0 in the order of the shards.
    """

    def __init__(self, items: np.ndarray, offsets: np.ndarray, users: np.ndarray, split: SplitInfo) -> None:
        self.items, self.offsets, self.users = items, offsets, users
        """int32 [interactions], int64 [users + 1], int64 [users]: item ids, starts of the runs, ids of the raw data."""
        self.split = split

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.users)

    def train(self, users_B: np.ndarray) -> np.ndarray:
        """Training sequences, int64 [B, keep_last - 2], right-aligned, 0 for padding."""
        return self._window(users_B, skip_last=2, width=self.split.keep_last - 2)

    def history(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """What the model may see before the held-out item: the last L items, int64 [B, L], right-aligned, 0 for padding."""
        return self._window(users_B, skip_last=_HELD_OUT[split], width=self.split.history_length)

    def seen(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """The kept items before the held-out one, which ranking excludes: int64 [B, keep_last - 1], 0 for padding."""
        skip = _HELD_OUT[split]
        return self._window(users_B, skip_last=skip, width=self.split.keep_last - skip)

    def target(self, users_B: np.ndarray, split: Split) -> np.ndarray:
        """The held-out item of each user, int64 [B]."""
        return np.asarray(self.items[self.offsets[users_B + 1] - _HELD_OUT[split]], dtype=np.int64)

    def items_of(self, user: int) -> np.ndarray:
        """All items of a user, oldest first, held-out ones included: int64."""
        return np.asarray(self.items[self.offsets[user] : self.offsets[user + 1]], dtype=np.int64)

    def _window(self, users_B: np.ndarray, skip_last: int, width: int) -> np.ndarray:
        ends = self.offsets[users_B + 1]
        starts = np.maximum(self.offsets[users_B], ends - self.split.keep_last)
        positions = (ends - skip_last)[:, None] + np.arange(-width, 0)
        inside = positions >= starts[:, None]
        return np.where(inside, self.items[np.where(inside, positions, 0)], 0).astype(np.int64)


def open_sequences(url: str, info: DatasetInfo, cache_dir: Path) -> SequenceTable:
    """The sequence table of the data set at `url`; the first process of the node to ask makes it, the others wait.

    Raises:
        ValueError: the cache folder cannot be written, or has no room for the table.
        RuntimeError: a shard is not the one that dataset.json names.
    """
    folder = cache_dir.expanduser() / "sequences" / info.fingerprint[:32]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not _is_whole(folder, info):
            with FileLock(f"{folder}.lock"):
                if not _is_whole(folder, info):
                    _make_table(url, info, folder)
    except OSError as error:
        size = sum(length * dtype().itemsize for dtype, length in _shapes(info).values())
        raise ValueError(
            f"data.cache_dir: {folder.parent} cannot take the sequence table of {size / 1e6:,.1f} MB: {error}; free space, or "
            "choose another folder"
        ) from error
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _shapes(info)}
    return SequenceTable(**arrays, split=info.split)


def _shapes(info: DatasetInfo) -> dict[str, tuple[type[np.number], int]]:
    """Type and length of the table's arrays."""
    num_users = info.counts["users"]
    return {
        "items": (np.int32, info.counts["interactions"]),
        "offsets": (np.int64, num_users + 1),
        "users": (np.int64, num_users),
    }


def _is_whole(folder: Path, info: DatasetInfo) -> bool:
    """Whether the table is there, and as long as it should be."""
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _shapes(info)}
    except (FileNotFoundError, ValueError, EOFError):
        return False
    return all(len(arrays[name]) == length for name, (_, length) in _shapes(info).items())


def _make_table(url: str, info: DatasetInfo, folder: Path) -> None:
    partial = Path(f"{folder}.partial")
    for stray in (partial, folder):  # of a killed process; damaged
        shutil.rmtree(stray, ignore_errors=True)
    partial.mkdir()
    counts = {"users": 0, "items": 0}
    with ExitStack() as stack:
        # written front to back: a full disk is an error then, where a write to a memory map would kill the process
        files = {name: stack.enter_context(open(partial / f"{name}.npy", "wb")) for name in _shapes(info)}
        for name, (dtype, length) in _shapes(info).items():
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (length,)}
            np.lib.format.write_array_header_1_0(files[name], header)
        shards = info.shards("sequences")
        under_way = stack.enter_context(task("reading sequences", sum(shard.size for shard in shards), megabytes))
        for shard in shards:
            for block in _read_blocks(storage.join(url, shard.path), shard):
                files["users"].write(block["users"].astype(np.int64).tobytes())
                files["offsets"].write((counts["items"] + block["offsets"][:-1]).astype(np.int64).tobytes())
                files["items"].write(block["items"].astype(np.int32).tobytes())
                counts = {name: count + len(block[name]) for name, count in counts.items()}
            under_way.advance(shard.size)
        files["offsets"].write(np.int64(counts["items"]).tobytes())
    if counts != {"users": info.counts["users"], "items": info.counts["interactions"]}:
        raise RuntimeError(
            f"{url}: its sequence shards hold {counts['users']} users and {counts['items']} interactions, dataset.json says "
            f"{info.counts['users']} and {info.counts['interactions']}"
        )
    os.replace(partial, folder)


class _Hashed(io.RawIOBase):
    """A stream that hashes what passes through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.digest.update(data)
        return data


def _open(url: str, size: int) -> IO[bytes]:
    try:
        return storage.open_stream(url, size)
    except FileNotFoundError as error:
        raise RuntimeError(f"{url} is missing; mlrec-shards check lists the faults of a data set") from error


def _read_blocks(url: str, shard: FileInfo) -> Iterator[dict[str, np.ndarray]]:
    with _open(url, shard.size) as stream:
        hashed = _Hashed(stream)
        block: dict[str, np.ndarray] = {}
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", hashed), mode="r|") as tar:
                for member in tar:
                    name = member.name.split(".", 1)[1].removesuffix(".npy")
                    if name in block:
                        yield block
                        block = {}
                    block[name] = read_npy(cast("IO[bytes]", tar.extractfile(member)).read())
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise RuntimeError(f"{url} is damaged: {error}; mlrec-shards check lists the faults of a data set") from error
        while hashed.read(storage.READ_BYTES):
            pass
    if hashed.digest.hexdigest() != shard.sha256:
        raise RuntimeError(f"{url} does not have the sha256 that dataset.json names; mlrec-shards check lists the faults")
    if block:
        yield block
