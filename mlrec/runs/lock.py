"""Let one process at a time write the folder of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlrec.config.run_files import LOCK_FILE
from mlrec.storage.folders import new_folder

WAIT_S = 10.0
"""Seconds that the last rank of a stopped run may need to exit after its launcher."""


@contextmanager
def run_lock(run_path: Path, is_main: bool) -> Iterator[None]:
    """Lock the run's folder on rank 0; other ranks do nothing.

    The folder is created if it is missing, and removed again if the block has written nothing into
    it. The operating system releases the lock when its process exits.

    Raises:
        RuntimeError: another process holds the lock, because the same command or a run with the
            same name is still running.
    """
    # Rank 0 holds the lock for all ranks; another rank that asked for it would time out.
    if not is_main:
        yield
        return
    with new_folder(run_path) as is_new:
        lock = FileLock(run_path / LOCK_FILE, timeout=WAIT_S)
        try:
            lock.acquire()
        except Timeout:
            raise RuntimeError(
                f"{run_path} is being written by another process. "
                "Wait for the end of that run, or give this one another name=..."
            ) from None
        try:
            yield
        finally:
            # A refused run, for example, has written nothing. The file goes while the lock is held:
            # a process that waits for it then sees that the file has lost its name.
            if is_new and _names_in(run_path) == [LOCK_FILE]:
                (run_path / LOCK_FILE).unlink()
            lock.release()


def _names_in(folder: Path) -> list[str]:
    # somebody may have removed the folder of a run that is under way
    return os.listdir(folder) if folder.is_dir() else []
