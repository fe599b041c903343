"""What a folder holds, on any storage: names, sizes, and a mark that changes when a file is written anew."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from mlrec import storage

VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
"""What storages of fsspec tell of a file's version; the first here that one of them tells is used."""


@dataclass(frozen=True)
class Entry:
    """A file or folder within a folder."""

    name: str
    url: str
    is_folder: bool
    size: int | None
    """Bytes; 0 of a folder, None where the storage does not tell."""
    version: str
    """Changes when the file is written anew: its modification time, or the entity tag of an object; "" of a folder."""


def list_folder(url: str) -> list[Entry]:
    """The files and folders directly in the folder `url`, sorted by name; empty where there is no such folder."""
    entries = _list_local(url) if storage.is_local(url) else _list_remote(url)
    return sorted(entries, key=lambda entry: entry.name)


def _list_local(url: str) -> list[Entry]:
    folder = storage.local_path(url)
    if not folder.is_dir():
        return []
    with os.scandir(
        folder
    ) as found:  # keeps the nanoseconds that fsspec rounds, and asks once per file
        return [_local_entry(entry) for entry in found if not _leads_nowhere(entry)]


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    if entry.is_dir():
        return Entry(entry.name, entry.path, True, 0, "")
    status = entry.stat()
    return Entry(entry.name, entry.path, False, status.st_size, str(status.st_mtime_ns))


def _list_remote(url: str) -> list[Entry]:
    found = [(str(info["name"]).strip("/"), info) for info in storage.list_folder(url)]
    # some storages keep an empty object that stands for the folder itself
    inside = [(name, info) for name, info in found if not url.rstrip("/").endswith(name)]
    return [_remote_entry(url, name.rpartition("/")[2], info) for name, info in inside]


def _remote_entry(url: str, name: str, info: dict[str, Any]) -> Entry:
    if info["type"] == "directory":
        return Entry(name, storage.join(url, name), True, 0, "")
    version = next((str(info[key]) for key in VERSION_KEYS if info.get(key)), "")
    return Entry(name, storage.join(url, name), False, info["size"], version)
