"""The place where a data set is packed: published files, and the work folder that lets a run go on where another stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    ORACLE_FILE,
    FileInfo,
    read_dataset_info,
)
from mlrec.runtime.printable import counted, printable
from mlrec.storage.typed_json import parse_json

WORK_FOLDER = "_work"
SETTINGS_FILE = "settings.json"
"""In the work folder: what the data set is made of and how. It stays when the data set is complete."""

LOCK_FILE = "lock"
"""In the work folder, while a process writes the data set."""
DATASET_FILES, SHARD_FOLDERS = (CATALOGUE_FILE, FAILURES_FILE, ORACLE_FILE), ("items", "sequences")
"""Beside dataset.json, which is written last."""
RAW_KEY = "raw"
"""Of the settings: the fingerprint of the raw folder."""


MAX_NAMED_KEYS = 5


def _quoted(value: object) -> str:
    return printable(repr(value), 60)


class Output:
    """A data set's URL and a local staging folder: files are written in the one and published to the other when whole."""

    def __init__(self, url: str, staging: Path) -> None:
        self.url, self.staging = url, staging

    def publish(self, staged: Path, path: str) -> None:
        """Moves a file of the staging folder to `path` within the data set.

        Raises:
            ValueError: the place does not exist or may not be written, such as a bucket that is not there.
        """
        target = storage.join(self.url, path)
        try:
            storage.publish(staged, target)
        except (FileNotFoundError, PermissionError) as error:
            raise ValueError(
                f"{target} cannot be written: {error}; choose a place that exists and is yours"
            ) from error

    def write(self, path: str, data: bytes) -> None:
        """Write `data` to `path` within the data set."""
        staged = self.staging / "file"
        with storage.writing(storage.join(self.url, path)):
            staged.write_bytes(data)
        self.publish(staged, path)

    def put(self, path: str, data: bytes) -> FileInfo:
        """Write a file of the data set and return how dataset.json names it."""
        self.write(path, data)
        return FileInfo(path, len(data), hashlib.sha256(data).hexdigest())

    def put_record(self, name: str, data: bytes) -> None:
        """Writes `data` to the work folder."""
        self.write(f"{WORK_FOLDER}/{name}", data)

    def read_records(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of the work folder's records whose names start with `prefix`, in the order of their names."""
        folder = storage.join(self.url, WORK_FOLDER)
        names = [name for name in storage.list_files(folder) if name.startswith(prefix)]
        return ((name, storage.read_bytes(storage.join(folder, name))) for name in names)

    def read_settings(self) -> dict[str, Any] | None:
        """Return what the data set was begun with; None if that is not known.

        Raises:
            ValueError: the file is damaged.
        """
        recorded = dict(self.read_records(SETTINGS_FILE)).get(SETTINGS_FILE)
        if recorded is None:
            return None
        where = storage.join(self.url, WORK_FOLDER, SETTINGS_FILE)
        return parse_json(
            recorded, dict[str, str | int], where, f"Remove {self.url} to pack it again"
        )

    def claim(self, settings: Mapping[str, Any]) -> bool:
        """Whether the data set of these settings is complete; where nothing is begun, they are recorded.

        Raises:
            ValueError: something else stands at the URL.
        """
        complete = storage.exists(storage.join(self.url, DATASET_FILE))
        begun = self.read_settings()
        if begun is None:
            if complete:
                raise ValueError(
                    f"{self.url} holds a data set that was not packed here; choose another place for the new one"
                )
            self.check_free()
            self.put_record(SETTINGS_FILE, json.dumps(settings, indent=1, sort_keys=True).encode())
            return False
        changed = [
            key for key in sorted({*begun, *settings}) if begun.get(key) != settings.get(key)
        ]
        if changed == [RAW_KEY]:
            raise ValueError(
                f"the raw folder has changed since {self.url} was begun: a table, or the name, size or time of a media file; "
                "put back what it held, or choose another place, or remove that one to start over"
            )
        if changed:
            is_other_raw = RAW_KEY in changed
            changed = [key for key in changed if key != RAW_KEY][:MAX_NAMED_KEYS]
            named = (
                f"{printable(key, 40)} {_quoted(begun.get(key))} (now {_quoted(settings.get(key))})"
                for key in changed
            )
            words = ", ".join([*named, *(["another raw folder"] if is_other_raw else [])])
            raise ValueError(
                f"{self.url} was begun with {words}; choose another place, or remove it to start over"
            )
        return complete and self._is_readable()

    def check_free(self) -> None:
        """Check that no file of somebody else is replaced.

        Raises:
            ValueError: a data set would replace existing files, and no packing has begun here.
        """
        existing = [path for path in DATASET_FILES if storage.exists(storage.join(self.url, path))]
        existing += [
            f"{folder}/{path}"
            for folder in SHARD_FOLDERS
            for path in storage.list_files(storage.join(self.url, folder))
        ]
        if existing:
            raise ValueError(
                f"{self.url} holds {counted(len(existing), 'file')} that a data set would replace, such as "
                f"{printable(existing[0], 80)}, and no packing has begun there; choose another place, or remove them"
            )

    def _is_readable(self) -> bool:
        """Whether dataset.json can be read; of the same settings, one that cannot is damaged, and packing writes it anew."""
        try:
            read_dataset_info(self.url)
            return True
        except ValueError:
            return False

    def clean(self) -> None:
        """Removes the work folder's records except the settings."""
        folder = storage.join(self.url, WORK_FOLDER)
        for name in storage.list_files(folder):
            if name not in (SETTINGS_FILE, LOCK_FILE):
                storage.remove(storage.join(folder, name))


@contextmanager
def open_output(url: str) -> Iterator[Output]:
    """The output at `url` with an empty staging folder, beside it where it is local, so that publishing is a rename.

    A local output has one writer at a time.

    Raises:
        RuntimeError: another process writes it.
    """
    if not storage.is_local(url):
        with tempfile.TemporaryDirectory(prefix="mlrec-shards-") as folder:
            yield Output(url, Path(folder))
        return
    work = storage.local_path(url) / WORK_FOLDER
    staging = work / "staging"
    with _only_writer(work, url):
        shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
        staging.mkdir(parents=True)
        try:
            yield Output(url, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _only_writer(work: Path, url: str) -> Iterator[None]:
    """Holds the lock of a work folder, which dies with its process; a data set that is done has no file of it."""
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(
            f"{url} is being written by another process; wait for its end, or choose another place"
        ) from None
    try:
        yield
    finally:
        (work / LOCK_FILE).unlink(
            missing_ok=True
        )  # while it is held: who waits for it sees that the file is gone
        lock.release()


@contextmanager
def join_output(url: str) -> Iterator[Output]:
    """The output at `url`, opened by another process (on another machine, it may be), with a staging folder of its own."""
    beside = None
    if storage.is_local(url):
        beside = (
            storage.local_path(url) / WORK_FOLDER / "staging"
        )  # is removed by who opened the output
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlrec-shards-", dir=beside) as folder:
        yield Output(url, Path(folder))
