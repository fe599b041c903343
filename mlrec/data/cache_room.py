"""Room for shards on this node's disk: a byte budget, locks, and eviction.

The folder may hold other files. Only regular files whose names are 64 hexadecimal digits with .tar,
.sparse or .partial are counted, evicted and deleted. Earlier versions wrote .partial files.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from mlrec.data.sparse_shards import SparseShard

CLOCK_SLACK_NS = 60 * 10**9
"""Largest time ahead of the clock (nanoseconds) at which a time of last use is believed."""

SUFFIXES = (".tar", ".sparse", ".partial")
"""Of shards, of shards with some ranges, and of the downloads of earlier versions."""
SHA256 = re.compile("[0-9a-f]{64}")


class _CachedFile(NamedTuple):
    """One file of the cache. Sorting files puts the least recently used one first."""

    used_ns: int
    """Time of last use."""
    size: int
    """Bytes."""
    path: Path


class CacheRoom:
    """Folder of shards that all processes and jobs of the node share, and its budget.

    The least recently used shards are evicted first, but none that was used since this room was
    opened: a job that reads more than fits would only evict what it needs next.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        """Create the folder and stamp the time at which this room was opened.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder = folder
        self.budget_bytes = budget_bytes
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.lock_of("budget")) as lock:
            os.utime(lock.lock_file)
            # By the clock that stamps the shards, which may be that of a file server.
            self._opened_ns = os.stat(lock.lock_file).st_mtime_ns

    def lock_of(self, name: str) -> str:
        """Return the path of the lock of a shard, by its SHA-256, or of the budget."""
        return str(self.folder / f"{name}.lock")

    def reserve(self, path: Path, shard_bytes: int) -> bool:
        """Reserve a shard's bytes with a sparse file at `path`, evicting shards if necessary.

        Returns:
            False if the budget has no room even after eviction.

        Raises:
            FileExistsError: it was reserved already.
        """
        # One process at a time counts, evicts and reserves: otherwise two could use the same room.
        with FileLock(self.lock_of("budget")):
            self._sweep()
            files = sorted(self._own_files())
            # Sparse files count with their full size.
            excess_bytes = sum(file.size for file in files) + shard_bytes - self.budget_bytes
            idle_files = list(filter(self._is_idle, files))
            # Evict nothing if that would not make enough room.
            if excess_bytes > sum(file.size for file in idle_files):
                return False
            for file in idle_files:
                if excess_bytes <= 0:
                    break
                file.path.unlink(missing_ok=True)
                excess_bytes -= file.size
            SparseShard.create(path, shard_bytes)
            return True

    def _is_idle(self, file: _CachedFile) -> bool:
        """Return whether the last use of a file was before this room was opened."""
        # A time far ahead of the clock was stamped before the clock was set back.
        recent_ns = range(self._opened_ns, time.time_ns() + CLOCK_SLACK_NS)
        return file.path.suffix != ".partial" and file.used_ns not in recent_ns

    def _own_files(self) -> Iterator[_CachedFile]:
        """Yield the shards in the folder, complete or not, and no file of anybody else."""
        for path in list(self.folder.iterdir()):
            if path.suffix not in SUFFIXES or not SHA256.fullmatch(path.stem):
                continue
            # Another process may have evicted or finished the file a moment ago.
            with contextlib.suppress(FileNotFoundError):
                # Not stat: a link could lead to a file that is not this cache's.
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield _CachedFile(status.st_mtime_ns, status.st_size, path)

    def _sweep(self) -> None:
        """Delete partial files of earlier versions' killed processes, whose locks are free."""
        # A list, because deleting files while the folder is being scanned may skip some.
        for file in list(self._own_files()):
            if file.path.suffix != ".partial":
                continue
            # If the lock is taken, another process is downloading the shard.
            with contextlib.suppress(Timeout), FileLock(self.lock_of(file.path.stem), timeout=0):
                file.path.unlink(missing_ok=True)
