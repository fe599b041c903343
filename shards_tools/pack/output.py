"""The place where a data set is packed, and its work folder, from which a stopped run continues."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from mlrec.storage.folders import folder_lock
from mlrec.storage.typed_json import parse_json
from shards_tools.raw.listing import WORK_FOLDER

SETTINGS_FILE = "settings.json"
"""File in the work folder with the settings. It stays when the data set is complete."""
LOCK_FILE = "lock"
"""File in the work folder that exists while a process writes the data set."""
STAGING_FOLDER = "staging"
"""Folder in the work folder with files that are not complete yet."""
TABLE_FILES = (CATALOGUE_FILE, FAILURES_FILE, ORACLE_FILE)
"""Files of a data set besides dataset.json and the shards."""
SHARD_FOLDERS = ("items", "sequences")
RAW_KEY = "raw"
"""Key of the raw folder's fingerprint in the settings file."""
MAX_NAMED_KEYS = 5
"""Number of changed settings that an error names."""


class Output:
    """A data set's URL and a local staging folder.

    Files are written to the staging folder, and published to the URL when they are complete.
    """

    def __init__(self, url: str, staging: Path) -> None:
        self.url = url
        self.staging = staging

    def publish(self, staged: Path, path: str) -> None:
        """Move a file of the staging folder to `path` within the data set.

        Raises:
            ValueError: the place does not exist or may not be written, such as a missing bucket.
        """
        target = storage.join(self.url, path)
        try:
            storage.publish(staged, target)
        except (FileNotFoundError, PermissionError) as error:
            raise ValueError(
                f"{target} cannot be written: {error}. Choose a place that exists and is yours"
            ) from error

    def write(self, path: str, data: bytes) -> None:
        """Write `data` to `path` within the data set."""
        # one name for all: a file is published before the next one is written
        staged = self.staging / "file"
        with storage.writing(storage.join(self.url, path)):
            staged.write_bytes(data)
        self.publish(staged, path)

    def put(self, path: str, data: bytes) -> FileInfo:
        """Write a file of the data set, and return its entry in dataset.json."""
        self.write(path, data)
        return FileInfo(path, len(data), hashlib.sha256(data).hexdigest())

    def put_record(self, name: str, data: bytes) -> None:
        """Write `data` to the work folder."""
        self.write(f"{WORK_FOLDER}/{name}", data)

    def read_records(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the work folder's files that start with `prefix`, by name."""
        folder = storage.join(self.url, WORK_FOLDER)
        for name in storage.list_files(folder):
            if name.startswith(prefix):
                yield name, storage.read_bytes(storage.join(folder, name))

    def read_record(self, name: str) -> bytes | None:
        """Return the content of a file of the work folder; None if it does not exist."""
        return dict(self.read_records(name)).get(name)

    def read_settings(self) -> dict[str, Any] | None:
        """Return the settings that the data set was started with; None if they are unknown.

        Raises:
            ValueError: the file is damaged.
        """
        recorded = self.read_record(SETTINGS_FILE)
        if recorded is None:
            return None
        where = storage.join(self.url, WORK_FOLDER, SETTINGS_FILE)
        remedy = f"Remove {self.url} to pack it again"
        return parse_json(recorded, dict[str, str | int], where, remedy)

    def is_complete(self, settings: Mapping[str, Any]) -> bool:
        """Return whether the data set with these settings is complete.

        Raises:
            ValueError: the place holds something else.
        """
        is_complete = storage.exists(storage.join(self.url, DATASET_FILE))
        recorded = self.read_settings()
        if recorded is not None:
            if not is_complete and _changed_keys(recorded, settings) == [RAW_KEY]:
                # Files were fixed or added since. Shards that are made of them are packed again.
                return False
            _check_same(self.url, recorded, settings)
            # With the same settings, an unreadable dataset.json is damaged, and packing rewrites
            # it.
            return is_complete and self._is_readable()
        if is_complete:
            raise ValueError(
                f"{self.url} holds a data set that was not packed here. "
                "Choose another place for the new one"
            )
        self.check_free()
        return False

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Record the settings, before the first other write: they make the place look like ours."""
        if self.read_settings() != settings:
            self.put_record(SETTINGS_FILE, json.dumps(settings, indent=1, sort_keys=True).encode())

    def check_free(self) -> None:
        """Check that packing would replace no file of somebody else.

        Raises:
            ValueError: it would.
        """
        existing = [path for path in TABLE_FILES if storage.exists(storage.join(self.url, path))]
        for folder in SHARD_FOLDERS:
            for path in storage.list_files(storage.join(self.url, folder)):
                existing.append(f"{folder}/{path}")
        if existing:
            raise ValueError(
                f"{self.url} holds {counted(len(existing), 'file')} that a data set would replace, "
                f"such as {printable(existing[0], 80)}, and no packing has begun there. "
                "Choose another place, or remove them"
            )

    def _is_readable(self) -> bool:
        """Return whether dataset.json can be read."""
        try:
            read_dataset_info(self.url)
            return True
        except ValueError:
            return False

    def remove(self, path: str) -> None:
        """Remove a file of the data set, or of its work folder."""
        storage.remove(storage.join(self.url, path))

    def clean(self) -> None:
        """Remove the work folder's records except the settings."""
        # settings stay, because repair needs them; the lock is still held
        folder = storage.join(self.url, WORK_FOLDER)
        for name in storage.list_files(folder):
            if name not in (SETTINGS_FILE, LOCK_FILE):
                storage.remove(storage.join(folder, name))


def _check_same(url: str, recorded: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Check that a data set is continued with the settings that it was started with.

    Raises:
        ValueError: a setting, or the raw folder, has changed.
    """
    changed = _changed_keys(recorded, settings)
    # the usual case has its own message: somebody added or touched a file
    if changed == [RAW_KEY]:
        raise ValueError(
            f"the raw folder has changed since {url} was packed: "
            "a table, or the name, size or time of a media file. "
            "Restore what it held, or choose another place, or remove that one to start over"
        )
    if changed:
        words = []
        for key in [key for key in changed if key != RAW_KEY][:MAX_NAMED_KEYS]:
            before = _quoted(recorded.get(key))
            now = _quoted(settings.get(key))
            words.append(f"{printable(key, 40)} {before} (now {now})")
        if RAW_KEY in changed:
            words.append("another raw folder")
        raise ValueError(
            f"{url} was begun with {', '.join(words)}. "
            "Choose another place, or remove it to start over"
        )


def _changed_keys(recorded: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return the sorted names of the settings that differ."""
    names = sorted({*recorded, *settings})
    return [name for name in names if recorded.get(name) != settings.get(name)]


def _quoted(value: object) -> str:
    return printable(repr(value), 60)


@contextmanager
def open_output(url: str) -> Iterator[Output]:
    """Open the output at `url` with an empty staging folder.

    A local output has one writer at a time.

    Raises:
        RuntimeError: another process writes to it.
    """
    # object stores have no locks; uploads are complete or absent there, and equal runs write equal
    # bytes
    if not storage.is_local(url):
        with tempfile.TemporaryDirectory(prefix="mlrec-shards-") as folder:
            yield Output(url, Path(folder))
        return
    work = storage.local_path(url) / WORK_FOLDER
    # within the output, so that publishing is a rename
    staging = work / STAGING_FOLDER
    busy = f"{url} is being written by another process. Wait for its end, or choose another place"
    with folder_lock(work, LOCK_FILE, busy):
        # a killed run may have left files there
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            yield Output(url, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def join_output(url: str) -> Iterator[Output]:
    """Join the output at `url`, which another process has opened, with a staging folder of its own.

    The other process may run on another machine.
    """
    parent = None
    if storage.is_local(url):
        # the process that opened the output removes it
        parent = storage.local_path(url) / WORK_FOLDER / STAGING_FOLDER
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlrec-shards-", dir=parent) as folder:
        yield Output(url, Path(folder))
