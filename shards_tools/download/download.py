"""Download a plan with several connections, and record what is complete."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock

from mlrec.runtime.progress import task
from mlrec.runtime.units import megabytes
from shards_tools.download.fetch import StoppedError, fetch
from shards_tools.download.http import RefusedError
from shards_tools.download.manifest import Manifest, Record, write_manifest
from shards_tools.download.plan import Plan, RemoteFile
from shards_tools.download.published import archive_of
from shards_tools.download.verify import check_content, missing_parts

LOCK_FILE = ".download.lock"
SAVE_EVERY_S = 10.0
"""Seconds between two writings of download.json, which is large for a folder of small files."""
LOOK_EVERY_S = 0.5
"""Seconds between two looks at the progress."""


class _Counter:
    """Bytes that have arrived, counted by all connections."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = Lock()

    def add(self, count: int) -> None:
        """Add a number of bytes, which is negative for bytes that were taken back."""
        with self._lock:
            self.count += count


def download(plan: Plan, manifest: Manifest, workers: int, stopping: Event) -> dict[str, str]:
    """Download what is missing; return the reasons of the files that failed, by path.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    pending = [file for file in plan.files if plan.states[file.path] != "complete"]
    counter = _Counter(plan.num_bytes - plan.missing_bytes)
    failures = dict(plan.failures)
    with (
        task("downloading", plan.num_bytes, megabytes) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        files = {
            pool.submit(_complete, plan, file, manifest, counter.add, stopping): file
            for file in pending
        }
        futures: set[Future[Record]] = set(files)
        saved_at = time.monotonic()
        try:
            while futures:
                done, futures = wait(futures, LOOK_EVERY_S, FIRST_COMPLETED)
                for future in done:
                    path = files[future].path
                    try:
                        manifest.files[path] = future.result()
                    except RefusedError as error:
                        failures[path] = str(error)
                        manifest.files.pop(path, None)
                complete = (
                    len(plan.files) - len(futures) - len(failures.keys() - plan.failures.keys())
                )
                progress.reach(counter.count, f"{complete:,} of {len(plan.files):,} files")
                if time.monotonic() - saved_at > SAVE_EVERY_S:
                    write_manifest(plan.folder, manifest)
                    saved_at = time.monotonic()
        except BaseException:
            # the connections end after their next block
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            write_manifest(plan.folder, manifest)
    for last_part in plan.split_archives:
        if last_part.path not in failures:
            for name in missing_parts(plan.folder / last_part.path):
                failures.setdefault(name, f"{last_part.path} needs this part")
    return failures


def _complete(
    plan: Plan,
    file: RemoteFile,
    manifest: Manifest,
    advance: Callable[[int], None],
    stopping: Event,
) -> Record:
    """Make a file complete, and return its record.

    Raises:
        RefusedError: the server does not deliver it, or its content is damaged.
        StoppedError: `stopping` was set.
    """
    if stopping.is_set():
        raise StoppedError
    local = plan.folder / file.path
    record = manifest.files.get(file.path)
    if plan.states[file.path] == "unverified":
        try:
            verified = _verify(plan, file, local)
            if record is None or verified.sha256 == record.sha256:
                return verified
        except RefusedError:
            # damaged on this disk, so the server's may be intact
            pass
        advance(-local.stat().st_size)
    fetch(file.url, local, advance, stopping)
    try:
        return _verify(plan, file, local)
    except RefusedError:
        # what is damaged must not pass as complete, and is not resumed
        advance(-local.stat().st_size)
        local.unlink()
        raise


def _verify(plan: Plan, file: RemoteFile, local: Path) -> Record:
    """Check the content of a local file, and return its record."""
    status = local.stat()
    archive = archive_of(file.path)
    is_split = archive is not None and archive.stem in plan.split_stems
    sha256 = check_content(local, plan.checksums.get(file.path), is_split)
    return Record(file.url, status.st_size, sha256, status.st_mtime_ns)
