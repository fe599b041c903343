"""Shards of which this node has only some ranges so far.

The file of such a shard has room for the whole shard, then one record per range that is present.
Data and records are one file, so that no record outlives its data. A record is written after its
data: a process that is killed in between leaves bytes that no record names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlrec.storage import READ_BYTES, writing

RECORD_BYTES = 16
"""Bytes of a record: first byte and end of a range, int64 each."""
MAX_RECORDS_BYTES = 64 << 20
"""Most bytes of records that are read; a range per item takes far fewer."""


class NotSparseError(Exception):
    """A file that holds no ranges: it is being created, was completed, or is damaged."""


class SparseShard:
    """An open file of a shard's ranges, which other processes may extend at the same time.

    Nothing here proves that the bytes are right. Readers compare each member with its crc32, and
    `finish` compares the whole shard with its sha256.
    """

    def __init__(self, path: Path, shard_bytes: int) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened.
            NotSparseError: it is not a file of ranges of a shard of this size.
        """
        self._path = path
        self._shard_bytes = shard_bytes
        self._handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        # Invariant: row k is the first byte and the end of a range; ranges ascend and do not touch.
        self._ranges_k2 = np.empty((0, 2), dtype=np.int64)
        try:
            self._refresh()
        except (OSError, NotSparseError):
            self.close()
            raise

    @staticmethod
    def create(path: Path, shard_bytes: int) -> None:
        """Create a file without ranges.

        Raises:
            FileExistsError: there is a file already.
        """
        with open(path, "xb") as file:
            # One empty range. So a file that is not longer than the shard is not a sparse one.
            file.truncate(shard_bytes + RECORD_BYTES)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def __enter__(self) -> SparseShard:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def read(self, start: int, size: int) -> bytes | None:
        """Return the bytes [start, start + size), or None if they are not all present."""
        row = int(np.searchsorted(self._ranges_k2[:, 0], start, side="right")) - 1
        if row < 0 or self._ranges_k2[row, 1] < start + size:
            return None
        data = os.pread(self._handle, size, start)
        return data if len(data) == size else None

    def gaps(self) -> list[tuple[int, int]]:
        """Return the (start, size) of what is missing, in pieces of at most READ_BYTES."""
        self._refresh()
        starts = [0, *self._ranges_k2[:, 1].tolist()]
        ends = [*self._ranges_k2[:, 0].tolist(), self._shard_bytes]
        pieces: list[tuple[int, int]] = []
        for gap_start, gap_end in zip(starts, ends, strict=True):
            for start in range(gap_start, gap_end, READ_BYTES):
                pieces.append((start, min(READ_BYTES, gap_end - start)))
        return pieces

    def write(self, start: int, data: bytes) -> None:
        """Add a range, unless the shard was completed in the meantime.

        Raises:
            OSError: the file cannot be written.
        """
        with self._locked(), writing(self._path):
            size = os.fstat(self._handle).st_size
            if size <= self._shard_bytes:
                return
            _write_all(self._handle, data, start)
            # Over the rest of a record that a full disk cut.
            record_start = size - (size - self._shard_bytes) % RECORD_BYTES
            record = np.array([start, start + len(data)], dtype="<i8").tobytes()
            _write_all(self._handle, record, record_start)

    def finish(self, sha256: str, target: Path) -> bool:
        """Move the complete shard to `target`, or delete it if it has another SHA-256.

        Returns:
            Whether it has the SHA-256 `sha256`.
        """
        # No other process may write between the comparison and the move.
        with self._locked():
            is_intact = self._digest() == sha256
            if not os.path.samestat(os.fstat(self._handle), os.lstat(self._path)):
                raise FileNotFoundError(f"{self._path} was deleted by another process")
            if not is_intact:
                self._path.unlink()
                return False
            # Without records it is complete, so that nobody adds a range any more.
            os.ftruncate(self._handle, self._shard_bytes)
            os.replace(self._path, target)
            return True

    def _refresh(self) -> None:
        """Read the records of all processes."""
        status = os.fstat(self._handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size <= self._shard_bytes:
            raise NotSparseError(f"{self._path} is not a file of a shard's ranges")
        records_bytes = min(status.st_size - self._shard_bytes, MAX_RECORDS_BYTES)
        raw = os.pread(self._handle, records_bytes, self._shard_bytes)
        whole = len(raw) - len(raw) % RECORD_BYTES
        records_m2 = np.frombuffer(raw[:whole], dtype="<i8").reshape(-1, 2)
        starts, ends = records_m2[:, 0], records_m2[:, 1]
        if not ((starts >= 0) & (starts <= ends) & (ends <= self._shard_bytes)).all():
            raise NotSparseError(f"{self._path} has a record of an impossible range")
        self._ranges_k2 = _merged(records_m2[starts < ends])

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for start in range(0, self._shard_bytes, READ_BYTES):
            size = min(READ_BYTES, self._shard_bytes - start)
            digest.update(os.pread(self._handle, size, start))
        return digest.hexdigest()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing. A process that ends releases its lock."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)


def _merged(ranges_m2: np.ndarray) -> np.ndarray:
    """Return the union of ranges as ascending ranges that do not touch."""
    if not len(ranges_m2):
        return np.empty((0, 2), dtype=np.int64)
    ranges_m2 = ranges_m2[np.argsort(ranges_m2[:, 0], kind="stable")]
    starts = ranges_m2[:, 0]
    reached = np.maximum.accumulate(ranges_m2[:, 1])
    # A new range begins where nothing before reaches.
    is_first = np.concatenate([[True], starts[1:] > reached[:-1]])
    is_last = np.concatenate([is_first[1:], [True]])
    return np.stack([starts[is_first], reached[is_last]], axis=1).astype(np.int64)


def _write_all(handle: int, data: bytes, start: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(handle, data[written:], start + written)
