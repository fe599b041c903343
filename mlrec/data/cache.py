"""Remote shards on this node's disk: each downloaded once per node and checked while it streams in."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from filelock import FileLock, Timeout

from mlrec import storage
from mlrec.data.format import FileInfo
from mlrec.scrub import scrub

LOCKED_WAIT_S = 0.2
DOWNLOADS_PER_SHARD = 2
"""A shard that arrived damaged so often stays where it is: its items are read, and judged, one by one."""

CLOCK_SLACK_NS = 60 * 10**9

Outcome = Literal["there", "elsewhere", "absent"]
"""Of an attempt to get a shard; "elsewhere": another process is at it."""

log = logging.getLogger(__name__)


class ShardCache:
    """A folder of whole shards that all processes and jobs of the node share.

    A shard appears under its final name by rename, complete and verified. File locks, which die with their process, keep two
    processes from downloading the same one and tell a live half file from a dead one, without regard to any clock.

    The least recently used shards leave first, but none that was used since this cache was opened: a job that reads more than
    fits would only push out what it needs next.
    """

    def __init__(self, url: str, folder: Path, budget_bytes: int) -> None:
        """
        Raises:
            ValueError: the folder cannot be written.
        """
        self.url, self.folder, self.budget_bytes = url, folder, budget_bytes
        self._bytes = 0
        self._asked: set[str] = set()
        self._refused: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._usable = True
        self._queue: SimpleQueue[FileInfo] = SimpleQueue()
        self._filler: threading.Thread | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock("budget")) as lock:
                os.utime(lock.lock_file)
                self._opened_ns = os.stat(lock.lock_file).st_mtime_ns  # by the clock that stamps the shards
        except OSError as error:
            raise ValueError(f"data.cache_dir: {folder} cannot be written: {error}; choose another folder") from error

    def path(self, shard: FileInfo) -> Path | None:
        """The shard's file, or None while it is not there."""
        path = self._final(shard)
        try:
            os.utime(path)  # its time of last use, for the eviction
        except FileNotFoundError:
            return None
        return path

    def ask(self, shard: FileInfo) -> None:
        """Has the shard downloaded in the background, after those that were asked for before."""
        if shard.path in self._asked or shard.path in self._refused:
            return
        if self._filler is None or not self._filler.is_alive():  # a fork leaves the thread behind
            self._queue = SimpleQueue()
            self._filler = threading.Thread(target=self._fill_all, args=[self._queue], daemon=True, name="shard-cache")
            self._filler.start()
        self._asked.add(shard.path)
        self._queue.put(shard)

    def drop(self, shard: FileInfo) -> bool:
        """Removes a shard that turned out damaged, to be asked for again; whether it was there."""
        self._asked.discard(shard.path)
        try:
            self._final(shard).unlink()
        except FileNotFoundError:
            return False
        return True

    def wait_for(self, shard: FileInfo) -> Path | None:
        """The shard's file, downloaded now if need be; None where it cannot be had whole."""
        while self._fill(shard) == "elsewhere":
            time.sleep(LOCKED_WAIT_S)
        return self.path(shard)

    def take_bytes(self) -> int:
        """Bytes of shards that this process downloaded since the last call."""
        taken = self._bytes
        self._bytes -= taken  # the filler may have added some meanwhile
        return taken

    def _final(self, shard: FileInfo) -> Path:
        # named by content: two data sets, or two versions of one, never mix
        return self.folder / f"{shard.sha256}.tar"

    def _lock(self, name: str) -> str:
        return str(self.folder / f"{name}.lock")

    def _fill_all(self, queue: SimpleQueue[FileInfo]) -> None:
        while True:
            shard = queue.get()
            if self._fill(shard) == "elsewhere":
                queue.put(shard)  # should the other process die, this one goes on
                time.sleep(LOCKED_WAIT_S)
            else:
                self._asked.discard(shard.path)  # another job may evict it: then it is asked for again

    def _fill(self, shard: FileInfo) -> Outcome:
        """Downloads the shard, unless it is there or another process is at it."""
        if self.path(shard) is not None:
            return "there"
        if shard.path in self._refused or not self._usable:
            return "absent"
        try:
            with FileLock(self._lock(shard.sha256), timeout=0):
                return "there" if self.path(shard) is not None or self._download(shard) else "absent"
        except Timeout:
            return "elsewhere"
        except OSError as error:
            self._usable = False
            log.warning(
                "%s cannot be written: %s; shards that are not there are read item by item, which is slower: free space, or "
                "point data.cache_dir elsewhere", self.folder, error.strerror or error,
            )  # fmt: skip
            return "absent"

    def _download(self, shard: FileInfo) -> bool:
        partial = self._final(shard).with_suffix(".partial")
        if not self._reserve(partial, shard.size):
            self._refused.add(shard.path)
            return False
        try:
            self._bytes += shard.size
            storage.download(storage.join(self.url, shard.path), partial, shard.sha256, shard.size)
            os.replace(partial, self._final(shard))
        except (RuntimeError, FileNotFoundError, PermissionError, ValueError) as error:
            self._failures[shard.path] += 1
            if self._failures[shard.path] == DOWNLOADS_PER_SHARD:
                self._refused.add(shard.path)
                log.warning("%s cannot be had whole, so its items are read one by one: %s", shard.path, scrub(str(error)))
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _reserve(self, partial: Path, size: int) -> bool:
        """Makes room for `size` bytes and takes it by a sparse half file; False where the budget has none."""
        with FileLock(self._lock("budget")):
            partial.unlink(missing_ok=True)  # of a killed process, like those that are swept; this one's lock is ours
            self._sweep()
            entries = []
            for path in (*self.folder.glob("*.tar"), *self.folder.glob("*.partial")):
                with contextlib.suppress(FileNotFoundError):  # evicted, or finished a moment ago
                    status = path.stat()
                    entries.append((status.st_mtime_ns, status.st_size, path))
            excess = sum(held for _, held, _ in entries) + size - self.budget_bytes
            # a time ahead of the clock was stamped before the clock was put back
            recent = range(self._opened_ns, time.time_ns() + CLOCK_SLACK_NS)
            idle = [entry for entry in sorted(entries) if entry[0] not in recent and entry[2].suffix == ".tar"]
            if excess > sum(held for _, held, _ in idle):
                return False
            for _, held, path in idle:
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= held
            with open(partial, "wb") as file:
                file.truncate(size)
            return True

    def _sweep(self) -> None:
        """Removes what killed processes left half done: nobody holds its lock."""
        for stray in self.folder.glob("*.partial"):
            with contextlib.suppress(Timeout), FileLock(self._lock(stray.stem), timeout=0):
                stray.unlink(missing_ok=True)
