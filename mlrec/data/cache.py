"""Remote shards on this node's disk: each downloaded once per node and checked while it streams in.

The folder may hold other files. The cache counts, evicts and deletes only regular files that are called as it calls its own:
64 hexadecimal digits and .tar or .partial. So it recognises the files of earlier versions too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from filelock import FileLock, Timeout

from mlrec import storage
from mlrec.config.run_files import CHECKPOINTS, CONFIG_FILE, RECORD_FILE
from mlrec.data.format import CATALOGUE_FILE, DATASET_FILE, FileInfo
from mlrec.runtime.redact import scrub

LOCKED_WAIT_S = 0.2
DOWNLOADS_PER_SHARD = 2
"""A shard that arrived damaged so often stays where it is: its items are read, and judged, one by one."""

CLOCK_SLACK_NS = 60 * 10**9

Outcome = Literal["there", "elsewhere", "absent"]
"""Of an attempt to get a shard; "elsewhere": another process is at it."""

SHA256 = re.compile("[0-9a-f]{64}")
FOLDER = "items"
"""Subfolder of data.cache_dir that holds the shards."""

log = logging.getLogger(__name__)


def checked_cache_dir(folder: Path, url: str) -> Path:
    """Return the folder that caches data of the data set at `url`, with links resolved.

    Raises:
        ValueError: it is, holds or lies in a data set or a run's folder, whose files it might take for its own.
    """
    folder = folder.expanduser().resolve()
    data = [storage.local_path(url).resolve()] if storage.is_local(url) else []
    for path in (*data, folder, *folder.parents, *_subfolders(folder)):
        is_related = path == folder or path in folder.parents or folder in path.parents
        if is_related and (kind := "the data set" if path in data else _owner(path)):
            relation = "is" if path == folder else "holds" if folder in path.parents else "lies in"
            raise ValueError(
                f"data.cache_dir: {folder} {relation} {kind} {path}. A cache needs a folder of its own. "
                "Choose another folder, for example ~/.cache/mlrec"
            )
    return folder


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [
            Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)
        ]
    except OSError:  # it is not there yet
        return []


def _owner(folder: Path) -> str:
    """Return what the folder is, in words, if that is a data set or a run; else ""."""
    with contextlib.suppress(OSError):
        if (folder / DATASET_FILE).exists() and (
            (folder / CATALOGUE_FILE).exists() or (folder / FOLDER).exists()
        ):
            return "the data set"
        if (folder / CONFIG_FILE).exists() and (
            (folder / RECORD_FILE).exists() or (folder / CHECKPOINTS).exists()
        ):
            return "the run"
    return ""


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
            ValueError: the folder cannot be written, or is a link to another place.
        """
        if folder.resolve() != folder.parent.resolve() / folder.name:
            raise ValueError(
                f"data.cache_dir: {folder} is a link to {folder.resolve()}. A cache deletes files, so its folder must not lead "
                "elsewhere. Remove the link, or set data.cache_dir to where it leads"
            )
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
                self._opened_ns = os.stat(
                    lock.lock_file
                ).st_mtime_ns  # by the clock that stamps the shards
        except OSError as error:
            raise ValueError(
                f"data.cache_dir: {folder} cannot be written: {error}; choose another folder"
            ) from error

    def path(self, shard: FileInfo) -> Path | None:
        """Return the shard's file, or None while it is not there; a file that is not whole is removed."""
        path = self._final(shard)
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != shard.size:
                log.warning("%s is not the shard that was downloaded: it is fetched again", path)
                path.unlink()
                return None
            os.utime(path, follow_symlinks=False)  # its time of last use, for the eviction
        except OSError:  # not there, or no file at all
            return None
        return path

    def ask(self, shard: FileInfo) -> None:
        """Has the shard downloaded in the background, after those that were asked for before."""
        if shard.path in self._asked or shard.path in self._refused:
            return
        if self._filler is None or not self._filler.is_alive():  # a fork leaves the thread behind
            self._queue = SimpleQueue()
            self._filler = threading.Thread(
                target=self._fill_all, args=[self._queue], daemon=True, name="shard-cache"
            )
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
        if not SHA256.fullmatch(shard.sha256):
            raise ValueError(
                f"{shard.path}: its sha256 {shard.sha256[:80]!r} is not 64 hexadecimal digits"
            )
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
                self._asked.discard(
                    shard.path
                )  # another job may evict it: then it is asked for again

    def _fill(self, shard: FileInfo) -> Outcome:
        """Downloads the shard, unless it is there or another process is at it."""
        if self.path(shard) is not None:
            return "there"
        if shard.path in self._refused or not self._usable:
            return "absent"
        try:
            with FileLock(self._lock(shard.sha256), timeout=0):
                return (
                    "there" if self.path(shard) is not None or self._download(shard) else "absent"
                )
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
                log.warning(
                    "%s cannot be had whole, so its items are read one by one: %s",
                    shard.path,
                    scrub(str(error)),
                )
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _reserve(self, partial: Path, size: int) -> bool:
        """Makes room for `size` bytes and takes it by a sparse half file; False where the budget has none."""
        with FileLock(self._lock("budget")):
            partial.unlink(
                missing_ok=True
            )  # of a killed process, like those that are swept; this one's lock is ours
            self._sweep()
            entries = [
                (status.st_mtime_ns, status.st_size, path) for path, status in self._own_files()
            ]
            excess = sum(held for _, held, _ in entries) + size - self.budget_bytes
            # a time ahead of the clock was stamped before the clock was put back
            recent = range(self._opened_ns, time.time_ns() + CLOCK_SLACK_NS)
            idle = [
                entry
                for entry in sorted(entries)
                if entry[0] not in recent and entry[2].suffix == ".tar"
            ]
            if excess > sum(held for _, held, _ in idle):
                return False
            for _, held, path in idle:
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= held
            with open(partial, "xb") as file:  # new: what stands there by now is not ours
                file.truncate(size)
            return True

    def _own_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the shards and partial files of this folder, and nothing that somebody else put there."""
        for path in (*self.folder.glob("*.tar"), *self.folder.glob("*.partial")):
            if SHA256.fullmatch(path.stem):
                with contextlib.suppress(FileNotFoundError):  # evicted, or finished a moment ago
                    if stat.S_ISREG((status := path.lstat()).st_mode):
                        yield path, status

    def _sweep(self) -> None:
        """Removes what killed processes left half done: nobody holds its lock."""
        for stray in [path for path, _ in self._own_files() if path.suffix == ".partial"]:
            with contextlib.suppress(Timeout), FileLock(self._lock(stray.stem), timeout=0):
                stray.unlink(missing_ok=True)
