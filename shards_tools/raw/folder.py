"""Raw folders in MicroLens' layout, on this machine or on any storage that fsspec lists.

MicroLens-50K, 100K, 1M and the full set differ in their names and sizes only:

    <name>_pairs.tsv        user<TAB>item item ...        or <name>_pairs.csv   user,item,timestamp
    <name>_titles.csv       item,title                    with or without a header
    <name>_likes_and_views.txt  item<TAB>likes<TAB>views
    <name>_videos/ <name>_covers/ <name>_audios/          one file per item, named by its id
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from mlrec import storage
from mlrec.data.format import ORACLE_FILE
from shards_tools.raw.listing import Entry, list_folder, media_files
from shards_tools.raw.readers import Reader, find_pairs
from shards_tools.raw.tables import open_table


@dataclass(frozen=True)
class RawFolder:
    """URLs of the parts of a raw folder; None for a part that it lacks."""

    root: str
    pairs: str
    """The file with the interactions."""
    read_pairs: Reader
    """The reader of `pairs`."""
    titles: str | None
    likes_and_views: str | None
    videos: str | None
    covers: str | None
    audio: str | None
    oracle: str | None
    """Reference results that come with a synthetic folder."""
    mappings: list[str]
    """Files with the original ids of numbers in `pairs`."""
    remarks: list[str]
    """What was chosen or left out, a sentence each without its full stop."""

    @property
    def name(self) -> str:
        """The name of the data set, derived from the name of the file with the interactions."""
        prefix = PurePosixPath(self.pairs).stem.removesuffix("pairs").rstrip("_-")
        return prefix or PurePosixPath(self.root).name


def open_raw(root: str) -> RawFolder:
    """Return the parts of the raw folder at the URL `root`.

    Raises:
        ValueError: it is no folder, has no interactions, or has a part more than once.
    """
    entries = list_folder(root)
    # object stores have no empty folders: nothing there means nothing at all
    if not entries and not (storage.is_local(root) and storage.local_path(root).is_dir()):
        raise ValueError(f"{root} is not a folder. Give the folder with MicroLens' raw files")
    # a file named like a folder of media, such as videos.zip, is no part
    files = [entry for entry in entries if not entry.is_folder]
    folders = [entry for entry in entries if entry.is_folder]
    pairs = find_pairs(root, [entry.name for entry in files])
    return RawFolder(
        root,
        pairs.url,
        pairs.read,
        mappings=pairs.mappings,
        remarks=pairs.remarks,
        titles=_find(root, files, "*title*.csv"),
        likes_and_views=_find(root, files, "*likes_and_views*.txt"),
        videos=_find(root, folders, "*video*"),
        covers=_find(root, folders, "*cover*"),
        audio=_find(root, folders, "*audio*"),
        oracle=_find(root, files, ORACLE_FILE),
    )


def _find(root: str, entries: Iterable[Entry], pattern: str) -> str | None:
    """Return the URL of the only entry whose name matches; None if no name does.

    Raises:
        ValueError: several match.
    """
    matches = [entry for entry in entries if fnmatchcase(entry.name, pattern)]
    # taking the first would silently pack half of the data
    if len(matches) > 1:
        names = ", ".join(entry.name for entry in matches)
        raise ValueError(
            f"{root} holds {len(matches)} of {pattern}: {names}. Leave one of them in the folder"
        )
    return matches[0].url if matches else None


def fingerprint(raw: RawFolder) -> str:
    """Return the SHA-256 over the tables' content and each media file's name, size and version.

    The media files are not read: that would take as long as packing them.
    """
    digest = hashlib.sha256()
    for url in (raw.pairs, *raw.mappings, raw.titles, raw.likes_and_views, raw.oracle):
        digest.update(_sha256(url).encode() if url else b"none")
    for folder in (raw.videos, raw.covers, raw.audio):
        for name, file in sorted(media_files(folder).items()):
            digest.update(f"{name} {file.size} {file.version}\n".encode())
        # without a mark, a file that moves from one folder to the next would change nothing
        digest.update(b"end")
    return digest.hexdigest()


def _sha256(url: str) -> str:
    with open_table(url, "hashing") as table:
        return hashlib.file_digest(table, "sha256").hexdigest()
