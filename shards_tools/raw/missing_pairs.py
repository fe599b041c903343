"""The message about a raw folder without interactions: what looks like them, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from mlrec import storage
from mlrec.runtime.printable import printable
from shards_tools.raw.listing import File
from shards_tools.raw.media.listing import RawFiles
from shards_tools.raw.media.zips import list_zip

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".z")
"""Suffixes of single files that are compressed, and that are not read."""
MAX_ZIPS = 20
"""Number of zip archives that are looked into."""


def hint_of(root: str, files: RawFiles, patterns: Iterable[str]) -> str:
    """Return which file may hold the interactions, and what to do with it; "" if none may.

    Args:
        root: URL of the raw folder.
        patterns: Patterns of the names of files with interactions.
    """
    names = tuple(patterns)
    hints = (
        _compressed(files.others, names),
        _in_a_folder(root, files.others, names),
        _in_a_zip(root, files.zips, names),
        _in_another_archive(files.unread_archives),
    )
    return next(filter(None, hints), "")


def _compressed(files: list[File], patterns: tuple[str, ...]) -> str:
    for file in files:
        path = PurePosixPath(file.path)
        if path.suffix.lower() in COMPRESSED and _is_match(path.stem, patterns):
            return f"{file.path} looks like them, but is compressed. Decompress it"
    return ""


def _in_a_folder(root: str, files: list[File], patterns: tuple[str, ...]) -> str:
    for file in files:
        if file.folder and _is_match(file.name, patterns):
            return (
                f"{file.path} looks like them, but is in a folder. Move the tables directly into "
                f"{root}, or give {storage.join(root, file.folder)} if the media are there as well"
            )
    return ""


def _in_a_zip(root: str, zips: list[File], patterns: tuple[str, ...]) -> str:
    for file in zips[:MAX_ZIPS]:
        try:
            members = list_zip(storage.join(root, file.path))
        except (ValueError, OSError):
            # an archive that cannot be read tells nothing
            continue
        for member in members:
            if _is_match(PurePosixPath(member.path).name, patterns):
                return (
                    f"{printable(member.path)} in {file.path} looks like them, but "
                    f"only media are read from archives. Unpack the tables into {root}"
                )
    return ""


def _in_another_archive(archives: list[File]) -> str:
    if not archives:
        return ""
    return f"{archives[0].path} may hold them, but is not read. Unpack it"


def _is_match(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
