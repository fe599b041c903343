"""Folders that exist only once something is written into them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def check_writable(folder: Path, name: str) -> None:
    """Check that files can be written into a folder, which need not exist yet.

    Args:
        name: what names the folder, such as run_dir.

    Raises:
        ValueError: it or a folder above it is a file, or read-only.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"{name} is {folder}, but {existing} is not a folder. Name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(
            f"Cannot write into {existing}: it is read-only for this user. Change its permissions, "
            f"or name another folder as {name}"
        )


@contextmanager
def new_folder(path: Path) -> Iterator[bool]:
    """Create a local folder with its parents, and yield whether it is new.

    Those that are new are removed again if the block leaves them empty.
    """
    new_folders = _missing_folders(path)
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield bool(new_folders)
    finally:
        _remove_empty(new_folders)


@contextmanager
def folder_lock(folder: Path, file_name: str, busy: str) -> Iterator[None]:
    """Hold the lock of a local folder, which is also released when the process dies.

    The folder and its parents are removed again if they are new and stay empty.

    Args:
        file_name: name of the lock in the folder.
        busy: message if another process holds the lock.

    Raises:
        RuntimeError: another process holds it.
    """
    with new_folder(folder):
        # no waiting: two runs on one place are a mistake, and the second should say so
        lock = FileLock(folder / file_name, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RuntimeError(busy) from None
        try:
            yield
        finally:
            # removed before it is released: a process that waits for it sees that the file is gone
            (folder / file_name).unlink(missing_ok=True)
            lock.release()


def _missing_folders(path: Path) -> list[Path]:
    """Return the path and its parents as far as they do not exist, the deepest first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the deepest first, up to one that has content."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
