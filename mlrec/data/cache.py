"""Remote shards on this node's disk: each downloaded once per node and checked while it streams in."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from queue import SimpleQueue

from filelock import FileLock, Timeout

from mlrec import storage
from mlrec.data.format import FileInfo

STALE_S = 3600.0
"""A half file that nobody wrote to for this long belongs to a process that is gone."""


class ShardCache:
    """A folder of whole shards that all processes and jobs of the node share.

    The least recently used shards leave first. A shard appears under its final name by rename, complete and verified; file
    locks, which die with their process, keep two processes from downloading the same one.
    """

    def __init__(self, url: str, folder: Path, budget_bytes: int) -> None:
        self.url, self.folder, self.budget_bytes = url, folder, budget_bytes
        self._queue: SimpleQueue[FileInfo] = SimpleQueue()
        self._asked: set[str] = set()
        self._filler: threading.Thread | None = None

    def path(self, shard: FileInfo) -> Path | None:
        """The shard's file, or None while it is not there."""
        path = self._final(shard)
        try:
            os.utime(path)  # its time of last use, for the eviction
        except FileNotFoundError:
            return None
        return path

    def ask(self, shard: FileInfo) -> None:
        """Has the shard downloaded in the background."""
        if shard.path in self._asked or shard.size > self.budget_bytes:
            return
        self._asked.add(shard.path)
        self._queue.put(shard)
        if self._filler is None:
            self._filler = threading.Thread(target=self._fill_all, daemon=True, name="shard-cache")
            self._filler.start()

    def drop(self, shard: FileInfo) -> None:
        """Removes a shard that turned out damaged; it may be asked for again."""
        self._final(shard).unlink(missing_ok=True)
        self._asked.discard(shard.path)

    def _final(self, shard: FileInfo) -> Path:
        # named by content: two data sets, or two versions of one, never mix
        return self.folder / f"{shard.sha256}.tar"

    def _fill_all(self) -> None:
        while True:
            shard = self._queue.get()
            try:
                self.fill(shard)
            except (RuntimeError, OSError):
                # the items are still there by ranged reads, which report what is wrong; the next reader may ask again
                self._asked.discard(shard.path)

    def fill(self, shard: FileInfo) -> None:
        """Downloads the shard, unless it is there or another process is at it.

        Raises:
            RuntimeError: what arrived does not have the sha256 of dataset.json.
        """
        final = self._final(shard)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{final}.lock", timeout=0):
                if final.exists():
                    return
                self._sweep()
                self._evict(self.budget_bytes - shard.size)
                partial = final.with_suffix(".partial")
                try:
                    storage.download(storage.join(self.url, shard.path), partial, shard.sha256)
                    os.replace(partial, final)
                finally:
                    partial.unlink(missing_ok=True)
        except Timeout:
            return

    def _sweep(self) -> None:
        """Removes what killed processes left half done; a live download touches its file all the time."""
        for stray in self.folder.glob("*.partial"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - stray.stat().st_mtime > STALE_S:
                    stray.unlink()

    def _evict(self, limit_bytes: int) -> None:
        entries = []
        for path in self.folder.glob("*.tar"):
            try:
                entries.append((path.stat().st_mtime, path.stat().st_size, path))
            except FileNotFoundError:  # another process was faster
                continue
        held = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if held <= limit_bytes:
                return
            path.unlink(missing_ok=True)
            held -= size
