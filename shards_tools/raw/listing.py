"""Names, sizes and versions of files on any storage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from mlrec import storage

WORK_FOLDER = "_work"
"""Folder in which every data set has the settings and the state of its packing."""
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


class File(NamedTuple):
    """A file below the folder that was listed."""

    path: str
    """Path relative to that folder."""
    size: int | None
    """Bytes; None where the storage does not report them."""
    version: str
    """Modification time, or entity tag of an object, which changes when the file is rewritten.

    "" where the storage reports none.
    """

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path of the folder; "" for the folder that was listed."""
        return self.path.rpartition("/")[0]


class Listing(NamedTuple):
    """The content of a folder."""

    files: list[File]
    """Files sorted by path."""
    folders: list[str]
    """Names of the folders in it, sorted."""


def list_folder(url: str) -> Listing:
    """Return what is directly in the folder `url`.

    Both lists are empty if there is no such folder.
    """
    listing = Listing([], [])
    if storage.is_local(url):
        _list_local(storage.local_path(url), "", listing)
    else:
        _list_remote(url, listing)
    listing.files.sort()
    listing.folders.sort()
    return listing


def list_tree(url: str, max_depth: int) -> list[File]:
    """Return all files below the folder `url`, sorted by path.

    Local folders are listed down to `max_depth` levels below `url`, because links may lead back up.
    """
    if not storage.is_local(url):
        return _find_remote(url)
    files: list[File] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        listing = Listing([], [])
        _list_local(storage.local_path(url), folder, listing)
        files += listing.files
        if folder.count("/") < max_depth - 1:
            pending += [_joined(folder, name) for name in listing.folders]
    return sorted(files)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _list_local(root: Path, folder: str, listing: Listing) -> None:
    """Add what is in `folder`, a path relative to `root`."""
    path = root / folder
    if not path.is_dir():
        return
    # scandir, because fsspec rounds the nanoseconds of times and asks more than once per file
    with os.scandir(path) as entries:
        for entry in entries:
            if _is_broken_link(entry):
                continue
            if entry.is_dir():
                listing.folders.append(entry.name)
                continue
            status = entry.stat()
            version = str(status.st_mtime_ns)
            listing.files.append(File(_joined(folder, entry.name), status.st_size, version))


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _list_remote(url: str, listing: Listing) -> None:
    for info in storage.list_folder(url):
        path = str(info["name"]).strip("/")
        name = path.rpartition("/")[2]
        # some storages keep an empty object that stands for the folder itself
        if url.rstrip("/").endswith(path):
            continue
        if info["type"] == "directory":
            listing.folders.append(name)
        else:
            listing.files.append(_remote_file(name, info))


def _find_remote(url: str) -> list[File]:
    """Return all files below `url`, by one request where the storage has such a request."""
    files = []
    for path, info in storage.find_files(url).items():
        # an empty object may stand for a folder
        if not path.endswith("/"):
            files.append(_remote_file(path, info))
    return sorted(files)


def _remote_file(path: str, info: dict[str, Any]) -> File:
    return File(path, info["size"], _version_of(info))


def _version_of(info: dict[str, Any]) -> str:
    for key in VERSION_KEYS:
        if info.get(key):
            return str(info[key])
    return ""
