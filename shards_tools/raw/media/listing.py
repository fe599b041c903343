"""The files of a raw folder: media, archives that may hold media, and all others."""

from __future__ import annotations

from typing import NamedTuple

from mlrec import storage
from shards_tools.raw.listing import WORK_FOLDER, File, list_folder, list_tree
from shards_tools.raw.media.names import is_hidden, kind_of, place_of

MAX_DEPTH = 4
"""Levels of folders within a folder of media that are listed."""
MAX_OTHER_DEPTH = 3
"""Levels of folders that are looked into although their names tell nothing."""
UNREAD_ARCHIVES = (".rar", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Suffixes of archives that are not read."""
FIRST_PART = ".z01"
"""Suffix of the first part of a split zip archive."""


class RawFiles(NamedTuple):
    """All files of a raw folder, each list sorted by path. Paths are relative to the folder."""

    in_root: list[File]
    """Files directly in the folder, such as the tables. They are in the other lists as well."""
    media: list[File]
    """Files that are media by their suffix or folder."""
    zips: list[File]
    """Zip archives, which may hold media."""
    unread_archives: list[File]
    """Archives of formats that are not read."""
    others: list[File]
    """All other files."""
    unlisted: list[str]
    """Folders that were not looked into."""
    split_parts: list[str]
    """Paths of files that are first parts of split archives. They are in `others` as well."""
    empty: list[str]
    """Folders that are named for media, with no files in them at all."""


def list_raw(root: str) -> RawFiles:
    """Return the files of the raw folder at the URL `root`.

    A folder that is named for media is listed with all that is below it. Other folders are looked
    into down to MAX_OTHER_DEPTH levels.
    """
    listing = list_folder(root)
    files = RawFiles(
        listing.files,
        media=[],
        zips=[],
        unread_archives=[],
        others=[],
        unlisted=[],
        split_parts=[],
        empty=[],
    )
    _sort_in(listing.files, files)
    for name in listing.folders:
        if place_of(name) is not None:
            _add_tree(root, name, files)
        elif not is_hidden(name):
            _add_folder(root, name, files, MAX_OTHER_DEPTH)
    for paths in files:
        paths.sort()
    return files


def _add_folder(root: str, name: str, files: RawFiles, depth: int) -> None:
    """Add the files of a folder whose name tells nothing, and its folders for media.

    A data set that is packed into the raw folder is passed over.

    Args:
        depth: Levels of folders that are looked into, this one included.
    """
    listing = list_folder(storage.join(root, name))
    if WORK_FOLDER in listing.folders:
        return
    _sort_in(_below(name, listing.files), files)
    for inner_name in listing.folders:
        if place_of(inner_name) is not None:
            _add_tree(root, f"{name}/{inner_name}", files)
        elif is_hidden(inner_name):
            continue
        elif depth > 1:
            _add_folder(root, f"{name}/{inner_name}", files, depth - 1)
        else:
            files.unlisted.append(f"{name}/{inner_name}")


def _add_tree(root: str, folder: str, files: RawFiles) -> None:
    tree = list_tree(storage.join(root, folder), MAX_DEPTH)
    if not tree:
        files.empty.append(folder)
    _sort_in(_below(folder, tree), files)


def _below(folder: str, files: list[File]) -> list[File]:
    return [file._replace(path=f"{folder}/{file.path}") for file in files]


def _sort_in(listed: list[File], files: RawFiles) -> None:
    """Add each file to the list that it belongs to."""
    for file in listed:
        name = file.name.lower()
        if is_hidden(file.path):
            continue
        if name.endswith(".zip"):
            files.zips.append(file)
        elif name.endswith(UNREAD_ARCHIVES):
            files.unread_archives.append(file)
        elif kind_of(file.path) is not None:
            files.media.append(file)
        else:
            files.others.append(file)
            if name.endswith(FIRST_PART):
                files.split_parts.append(file.path)
