"""Contents of a folder on any storage: names, sizes and versions of files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
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
"""Keys under which fsspec's storages report a file's version; the first present one is used."""


@dataclass(frozen=True)
class Entry:
    """A file or folder within a folder."""

    name: str
    url: str
    is_folder: bool
    size: int | None
    """Bytes; 0 for a folder, None where the storage does not report them."""
    version: str
    """Modification time, or entity tag of an object, which changes when the file is rewritten.

    "" for a folder, or where the storage reports none.
    """


def list_folder(url: str) -> list[Entry]:
    """Return the files and folders directly in the folder `url`, sorted by name.

    The list is empty if there is no such folder.
    """
    entries = _list_local(url) if storage.is_local(url) else _list_remote(url)
    return sorted(entries, key=lambda entry: entry.name)


def media_files(folder: str | None) -> dict[str, Entry]:
    """Return the files of a media folder by raw item id, which is their name without suffix.

    Args:
        folder: URL; None for no files.
    """
    if folder is None:
        return {}
    files: dict[str, Entry] = {}
    for entry in list_folder(folder):
        is_hidden = entry.name.startswith(".")
        # of 1.mp4 and 1.webm the first by name stands for item 1
        if not entry.is_folder and not is_hidden:
            files.setdefault(PurePosixPath(entry.name).stem, entry)
    return files


def _list_local(url: str) -> list[Entry]:
    folder = storage.local_path(url)
    if not folder.is_dir():
        return []
    # scandir, because fsspec rounds the nanoseconds of times and asks more than once per file
    with os.scandir(folder) as entries:
        return [_local_entry(entry) for entry in entries if not _is_broken_link(entry)]


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    if entry.is_dir():
        return Entry(entry.name, entry.path, True, 0, "")
    status = entry.stat()
    return Entry(entry.name, entry.path, False, status.st_size, str(status.st_mtime_ns))


def _list_remote(url: str) -> list[Entry]:
    entries = []
    for info in storage.list_folder(url):
        path = str(info["name"]).strip("/")
        # some storages keep an empty object that stands for the folder itself
        if not url.rstrip("/").endswith(path):
            entries.append(_remote_entry(url, path.rpartition("/")[2], info))
    return entries


def _remote_entry(url: str, name: str, info: dict[str, Any]) -> Entry:
    # the name in the listing lacks the scheme, which reads need
    entry_url = storage.join(url, name)
    if info["type"] == "directory":
        return Entry(name, entry_url, True, 0, "")
    return Entry(name, entry_url, False, info["size"], _version_of(info))


def _version_of(info: dict[str, Any]) -> str:
    for key in VERSION_KEYS:
        if info.get(key):
            return str(info[key])
    return ""
