"""Let one process at a time write the folder of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlrec.config.run_files import LOCK_FILE

WAIT_S = 10.0
"""Seconds that the last rank of a stopped run may need to exit after its launcher."""


@contextmanager
def run_lock(run_path: Path, is_main: bool) -> Iterator[None]:
    """Lock the run's folder on rank 0; other ranks do nothing.

    The operating system releases the lock when its process exits.

    Raises:
        RuntimeError: another process holds the lock, because the same command or a run with the
            same name is still running.
    """
    # Rank 0 holds the lock for all ranks; another rank that asked for it would time out.
    if not is_main:
        yield
        return
    run_path.mkdir(parents=True, exist_ok=True)
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
        lock.release()
