"""One process at a time writes a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlrec.config.run_files import LOCK_FILE

WAIT_S = 10.0
"""The rank of a stopped run may take so long to end after its launcher did."""


@contextmanager
def run_lock(run_path: Path, is_main: bool) -> Iterator[None]:
    """Holds the run's folder from `with` to its end, on rank 0 alone; the lock dies with its process.

    Raises:
        RuntimeError: another process holds it, which two runs of one command or two runs of one name do.
    """
    if not is_main:
        yield
        return
    run_path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_path / LOCK_FILE, timeout=WAIT_S)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(
            f"{run_path} is being written by another process; wait for the end of that run, or give this one another name=..."
        ) from None
    try:
        yield
    finally:
        lock.release()
