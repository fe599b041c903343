"""Raw folders in MicroLens' layout, on this machine or on any storage that fsspec lists.

MicroLens-50K, 100K, 1M and the full set differ in their names and sizes only:

    <name>_pairs.tsv        user<TAB>item item ...        or <name>_pairs.csv   user,item,timestamp
    <name>_titles.csv       item,title                    or _title_en.csv, .txt, .item, ...
    <name>_likes_and_views.txt  item<TAB>likes<TAB>views
    media                   in folders, in zip archives, or beside these files: media/names.py
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mlrec import storage
from mlrec.data.format import ORACLE_FILE
from mlrec.runtime.printable import printable
from shards_tools.raw.items.files import TitlesFile, find_likes_and_views, find_titles
from shards_tools.raw.media.files import Media, find_media
from shards_tools.raw.media.listing import RawFiles, list_raw
from shards_tools.raw.media.names import KIND_OF_PART, Part, kind_of
from shards_tools.raw.pairs.readers import Reader, find_pairs
from shards_tools.raw.tables import open_table

REMEDY = "Name the folder with MicroLens' raw files"


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
    oracle: str | None
    """Reference results that come with a synthetic folder."""
    mappings: list[str]
    """Files with the original ids of numbers in `pairs`."""
    remarks: list[str]
    """What was chosen or left out, a sentence each without its full stop."""
    files: RawFiles = field(repr=False)
    """All files of the folder."""
    features: tuple[str, ...] = ()
    """Files and folders of features that are packed, in this folder or elsewhere."""

    @property
    def name(self) -> str:
        """The name of the data set, derived from the name of the file with the interactions."""
        prefix = PurePosixPath(self.pairs).stem.removesuffix("pairs").rstrip("_-")
        # dataset.json has the name, and names of files may have bytes that are no characters
        return printable(prefix or PurePosixPath(self.root).name)

    @property
    def tables(self) -> list[str]:
        """URLs of the files that are read besides media."""
        urls = (self.pairs, *self.mappings, self.titles, self.likes_and_views, self.oracle)
        return [url for url in urls if url is not None]

    def find_media(self, raw_ids: list[str], parts: frozenset[Part]) -> Media:
        """Return the media files of the items, and what was not recognized.

        Args:
            raw_ids: Raw ids of the items.
            parts: Parts to look for.

        Raises:
            ValueError: an archive cannot be read, or files of a kind are there and match no item.
        """
        media = find_media(self.root, self.files, raw_ids, parts)
        used = {PurePosixPath(url).name for url in self.tables}
        used |= {file.path for file in self.files.others if self._is_of_features(file.path)}
        media.report.add_unused(self.files, used)
        return media

    def _is_of_features(self, path: str) -> bool:
        url = storage.join(self.root, path)
        return any(url == source or url.startswith(source + "/") for source in self.features)


def check_local_folder(root: str) -> None:
    """Check that a raw folder on this machine exists; a folder at a URL is not looked for.

    Raises:
        ValueError: it does not.
    """
    if not storage.is_local(root) or storage.local_path(root).is_dir():
        return
    fault = "is not a folder" if storage.local_path(root).exists() else "is missing"
    raise ValueError(f"{root} {fault}. {REMEDY}")


def open_raw(root: str, titles_url: str | None = "") -> RawFolder:
    """Return the parts of the raw folder at the URL `root`.

    Args:
        titles_url: URL of the table of titles; "" to look for one in the folder, None for no
            titles.

    Raises:
        ValueError: it is no folder, has no interactions, or has several files for a table.
    """
    files = list_raw(root)
    is_empty = not files.in_root
    # object stores have no empty folders: nothing there means nothing at all
    if is_empty and not storage.is_local(root):
        raise ValueError(f"{root} is missing. {REMEDY}")
    check_local_folder(root)
    names = [file.path for file in files.in_root]
    pairs = find_pairs(root, files)
    titles = find_titles(root, names) if titles_url == "" else TitlesFile(titles_url, [])
    return RawFolder(
        root,
        pairs.url,
        pairs.read,
        mappings=pairs.mappings,
        remarks=pairs.remarks + titles.remarks,
        titles=titles.url,
        likes_and_views=find_likes_and_views(root, names),
        oracle=storage.join(root, ORACLE_FILE) if ORACLE_FILE in names else None,
        files=files,
    )


def fingerprint(raw: RawFolder, parts: frozenset[Part]) -> str:
    """Return the SHA-256 over the tables' content and each media file's name, size and version.

    The media files are not read: that would take as long as packing them.

    Args:
        parts: Parts that are packed. Files of other kinds do not count.
    """
    digest = hashlib.sha256()
    for url in (raw.pairs, *raw.mappings, raw.titles, raw.likes_and_views, raw.oracle):
        digest.update(_sha256(url).encode() if url else b"none")
    kinds = {KIND_OF_PART[part] for part in parts}
    media = [file for file in raw.files.media if kind_of(file.path) in kinds]
    # an archive by its own name, size and version: it holds any of the parts
    for file in [*media, *(raw.files.zips if parts else [])]:
        line = f"{file.path} {file.size} {file.version}\n"
        # names of other encodings than UTF-8 have bytes that are no characters
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _sha256(url: str) -> str:
    with open_table(url, "hashing") as table:
        return hashlib.file_digest(table, "sha256").hexdigest()
