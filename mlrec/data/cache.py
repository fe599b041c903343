"""Cache of remote shards on this node's disk.

Each byte is fetched once per node, and each shard is verified when it is complete. Ranges that were
read for a batch are kept in a sparse file (sparse_shards.py). A download fetches what it lacks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from filelock import FileLock, Timeout

from mlrec import storage
from mlrec.data.cache_room import SHA256, CacheRoom
from mlrec.data.format import FileInfo
from mlrec.data.sparse_shards import NotSparseError, SparseShard
from mlrec.runtime.redact import scrub

LOCKED_WAIT_S = 0.2
"""Seconds between two looks at a shard that another process downloads."""
DOWNLOADS_PER_SHARD = 2
"""After this many failed downloads, stop fetching the shard and read its items individually."""

GAPS_IN_FLIGHT = 32
"""Ranged reads of a download that run at once, unless they exceed GAP_BYTES_IN_FLIGHT."""
GAP_BYTES_IN_FLIGHT = 48 << 20
KEPT_BYTES_IN_FLIGHT = 256 << 20
"""Bytes that may wait to be written to sparse files. More are not kept."""

Outcome = Literal["there", "elsewhere", "absent"]
"""State of a shard after an attempt to download it; "elsewhere": in another process."""

log = logging.getLogger(__name__)


class ShardCache:
    """Folder of whole shards that all processes and jobs of the node share.

    A shard appears under its final name by rename, complete and verified. File locks keep two
    processes from downloading the same shard. They are released when their process exits. The
    ranges that a killed process has fetched stay, and the next download fetches the others.

    A range is fetched twice only if two processes request it at the same time.
    """

    def __init__(self, url: str, folder: Path, budget_bytes: int) -> None:
        """Create the folder and stamp the time at which this cache was opened.

        Raises:
            ValueError: the folder cannot be written, or is a link to another place.
        """
        if folder.resolve() != folder.parent.resolve() / folder.name:
            raise ValueError(
                f"data.cache_dir: {folder} is a link to {folder.resolve()}. A cache deletes "
                "files, so its folder must not lead elsewhere. Remove the link, or set "
                "data.cache_dir to where it leads"
            )
        self.url = url
        self.folder = folder
        self.budget_bytes = budget_bytes
        # State of this process alone. What processes share is in the folder.
        self._bytes = 0
        self._asked: set[str] = set()
        self._refused: set[str] = set()
        self._failures: Counter[str] = Counter()
        # False after the folder could not be written once: a full disk would fail for each shard.
        self._usable = True
        self._queue: SimpleQueue[FileInfo] = SimpleQueue()
        self._filler: threading.Thread | None = None
        self._kept: SimpleQueue[tuple[FileInfo, int, bytes]] = SimpleQueue()
        self._keeper: threading.Thread | None = None
        # Each is changed by one thread only: the difference waits to be written.
        self._kept_bytes = 0
        self._written_bytes = 0
        try:
            self._room = CacheRoom(folder, budget_bytes)
        except OSError as error:
            raise ValueError(
                f"data.cache_dir: {folder} cannot be written: {error}; choose another folder"
            ) from error

    def path(self, shard: FileInfo) -> Path | None:
        """Return the shard's file, or None if it is not cached. Remove a file that is not whole."""
        path = self._final(shard)
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != shard.size:
                log.warning("%s is not the shard that was downloaded: it is fetched again", path)
                path.unlink()
                return None
            # Eviction goes by this time of last use.
            os.utime(path, follow_symlinks=False)
        except OSError:  # missing, or not a regular file
            return None
        return path

    def ask(self, shard: FileInfo) -> None:
        """Download the shard in the background, after those requested before."""
        if shard.path in self._asked or shard.path in self._refused:
            return
        # A thread does not survive a fork, so each loader worker starts its own.
        if self._filler is None or not self._filler.is_alive():
            self._queue = SimpleQueue()
            self._filler = threading.Thread(
                target=self._fill_all, args=[self._queue], daemon=True, name="shard-cache"
            )
            self._filler.start()
        self._asked.add(shard.path)
        self._queue.put(shard)

    def read_sparse(self, shard: FileInfo, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Return each (start, size) of a shard that is not complete, None where it is absent."""
        try:
            with SparseShard(self._sparse(shard), shard.size) as sparse:
                return [sparse.read(start, size) for start, size in ranges]
        except (OSError, NotSparseError):  # there is none yet, or it was completed a moment ago
            return [None] * len(ranges)

    def keep(self, shard: FileInfo, start: int, data: bytes) -> None:
        """Write a range that was read from the origin to the shard's sparse file, later."""
        if shard.path in self._refused or not self._usable:
            return
        if self._keeper is None or not self._keeper.is_alive():
            self._kept = SimpleQueue()
            self._kept_bytes = self._written_bytes = 0
            self._keeper = threading.Thread(
                target=self._keep_all, args=[self._kept], daemon=True, name="shard-ranges"
            )
            self._keeper.start()
        # The disk is slower than the network. The download fetches these again.
        if self._kept_bytes - self._written_bytes > KEPT_BYTES_IN_FLIGHT:
            return
        self._kept_bytes += len(data)
        self._kept.put((shard, start, data))

    def _keep_all(self, queue: SimpleQueue[tuple[FileInfo, int, bytes]]) -> None:
        while True:
            shard, start, data = queue.get()
            try:
                self._keep(shard, start, data)
            except (FileExistsError, FileNotFoundError, NotSparseError):
                pass  # another process created, completed or evicted it a moment ago
            except OSError as error:
                self._stop_writing(shard, error)
            self._written_bytes += len(data)

    def _keep(self, shard: FileInfo, start: int, data: bytes) -> None:
        sparse = self._sparse(shard)
        if self.path(shard) is not None:
            return
        if not sparse.exists() and not self._room.reserve(self._sparse(shard), shard.size):
            self._refused.add(shard.path)
            return
        with SparseShard(sparse, shard.size) as ranges:
            if ranges.read(start, len(data)) is None:
                ranges.write(start, data)

    def drop(self, shard: FileInfo) -> bool:
        """Delete a damaged shard, so that it can be requested again.

        Returns:
            Whether it was cached.
        """
        self._asked.discard(shard.path)
        was_cached = False
        for path in (self._final(shard), self._sparse(shard)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                was_cached = True
        return was_cached

    def wait_for(self, shard: FileInfo) -> Path | None:
        """Return the shard's file, downloaded now if necessary; None if it cannot be downloaded."""
        while self._fill(shard) == "elsewhere":
            time.sleep(LOCKED_WAIT_S)
        return self.path(shard)

    def take_bytes(self) -> int:
        """Return the bytes of shards that this process downloaded since the last call."""
        taken = self._bytes
        # Not reset to 0: the download thread may have added bytes in the meantime.
        self._bytes -= taken
        return taken

    def _final(self, shard: FileInfo) -> Path:
        # Named by content, so that two data sets, or two versions of one, never mix.
        if not SHA256.fullmatch(shard.sha256):
            raise ValueError(
                f"{shard.path}: its sha256 {shard.sha256[:80]!r} is not 64 hexadecimal digits"
            )
        return self.folder / f"{shard.sha256}.tar"

    def _sparse(self, shard: FileInfo) -> Path:
        return self._final(shard).with_suffix(".sparse")

    def _fill_all(self, queue: SimpleQueue[FileInfo]) -> None:
        while True:
            shard = queue.get()
            if self._fill(shard) == "elsewhere":
                queue.put(shard)  # if the other process dies, this one takes over
                time.sleep(LOCKED_WAIT_S)
            else:
                # Another job may evict it later. Then it can be requested again.
                self._asked.discard(shard.path)

    def _fill(self, shard: FileInfo) -> Outcome:
        """Download the shard, unless it is cached or another process downloads it."""
        if self.path(shard) is not None:
            return "there"
        if shard.path in self._refused or not self._usable:
            return "absent"
        try:
            with FileLock(self._room.lock_of(shard.sha256), timeout=0):
                # Another process may have finished it before this one got the lock.
                is_cached = self.path(shard) is not None or self._download(shard)
                return "there" if is_cached else "absent"
        except Timeout:
            return "elsewhere"
        except OSError as error:
            self._stop_writing(shard, error)
            return "absent"

    def _stop_writing(self, shard: FileInfo, error: OSError) -> None:
        """Give up writing to the cache, and free what the shard takes on a full disk."""
        self._sparse(shard).unlink(missing_ok=True)
        if not self._usable:
            return
        self._usable = False
        log.warning(
            "%s cannot be written: %s. Shards that are not cached are read item by item, which "
            "is slower. Free space, or set data.cache_dir to another folder",
            self.folder,
            error.strerror or error,
        )

    def _download(self, shard: FileInfo) -> bool:
        """Fetch what the shard's sparse file lacks, while holding the shard's lock."""
        try:
            sparse = self._open_sparse(shard)
            if sparse is None:
                self._refused.add(shard.path)
                return False
            with sparse:
                self._fetch_gaps(sparse, shard)
                if not sparse.finish(shard.sha256, self._final(shard)):
                    raise RuntimeError(
                        f"{storage.join(self.url, shard.path)} does not have the sha256 that "
                        "dataset.json names; mlrec-shards check lists the faults"
                    )
        except NotSparseError:
            # Another process is creating the file or has just deleted it. Not a failure: the
            # shard is requested again by the next step that needs it.
            return False
        except (RuntimeError, FileNotFoundError, PermissionError, ValueError) as error:
            self._failures[shard.path] += 1
            if self._failures[shard.path] == DOWNLOADS_PER_SHARD:
                self._refused.add(shard.path)
                log.warning(
                    "%s cannot be downloaded whole, so its items are read one by one: %s",
                    shard.path,
                    scrub(str(error)),
                )
            return False
        return True

    def _open_sparse(self, shard: FileInfo) -> SparseShard | None:
        """Open the shard's sparse file, created if necessary; None if the budget has no room."""
        path = self._sparse(shard)
        try:
            return SparseShard(path, shard.size)
        except FileNotFoundError:
            pass
        except NotSparseError:
            # Left by a process that was killed as it created or completed the file.
            path.unlink(missing_ok=True)
        # Left by a killed process of an earlier version. This one holds the shard's lock.
        self._final(shard).with_suffix(".partial").unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):  # the keeper of another process was faster
            if not self._room.reserve(self._sparse(shard), shard.size):
                return None
        return SparseShard(path, shard.size)

    def _fetch_gaps(self, sparse: SparseShard, shard: FileInfo) -> None:
        """Fetch all missing ranges of a shard.

        Raises:
            RuntimeError: the storage gave up, or the shard is shorter than it should be.
        """
        url = storage.join(self.url, shard.path)
        # Asked again after each few: workers add ranges in the meantime.
        while gaps := sparse.gaps()[:GAPS_IN_FLIGHT]:
            in_flight = max(1, GAP_BYTES_IN_FLIGHT // max(size for _, size in gaps))
            outcomes = storage.read_ranges([(url, *gap) for gap in gaps], in_flight)
            for (start, size), outcome in zip(gaps, outcomes, strict=True):
                # Counted if it failed too, because that also used the network.
                self._bytes += size
                if isinstance(outcome, Exception):
                    raise outcome
                sparse.write(start, outcome)
