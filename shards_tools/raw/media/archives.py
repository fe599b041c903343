"""Archives of a raw folder: what they may hold, and which of their files are media."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from mlrec import storage
from shards_tools.raw.listing import File
from shards_tools.raw.media.listing import UNREAD_ARCHIVES, RawFiles
from shards_tools.raw.media.names import Part, Place, is_hidden, kind_of, place_of
from shards_tools.raw.media.report import FileGroups, shown
from shards_tools.raw.media.zips import ZippedFile, list_zip, split_archive

PARTS_OF_PLACE: dict[Place, frozenset[Part]] = {
    "videos": frozenset({"videos"}),
    "frames": frozenset({"frames"}),
    "covers": frozenset({"covers"}),
    "images": frozenset({"frames", "covers"}),
    "audio": frozenset({"audio"}),
}
"""Parts that an archive may hold, by its name."""


@dataclass
class ArchiveFiles:
    """The files in an archive."""

    media: dict[str, ZippedFile] = field(default_factory=dict)
    """Media files by path in the archive."""
    others: list[ZippedFile] = field(default_factory=list)
    """Files that are no media."""
    outside: list[str] = field(default_factory=list)
    """Paths that lead out of the archive."""
    repeated: list[str] = field(default_factory=list)
    """Paths of media that several files have."""

    def notes(self, path: str) -> list[str]:
        """Return the sentences about files that are not packed.

        Args:
            path: Path of the archive.
        """
        notes = []
        if self.outside and self.media:
            notes.append(f"{path} was not used completely, because {self._outside()}")
        if self.repeated:
            notes.append(
                f"{path} has several files of the name {shown(self.repeated[0])}: the last is "
                "used, as when it is extracted"
            )
        return notes

    def why_unused(self) -> str:
        """Return why an archive without media is not used."""
        if self.outside:
            return self._outside()
        if not self.others:
            return "it holds no files"
        groups = FileGroups()
        for file in self.others:
            groups.add("", file.path, file.member.size)
        return f"it holds no media but {groups.describe()}"

    def _outside(self) -> str:
        return f"paths in it lead out of it, such as {shown(self.outside[0])}"


def may_hold(archive: File, parts: frozenset[Part]) -> bool:
    """Return whether an archive may hold one of the parts."""
    place = place_of(archive.path)
    return bool(parts & PARTS_OF_PLACE[place] if place else parts)


def without_suffix(path: str) -> str:
    """Return the path of an archive without its suffix."""
    for suffix in (".zip", *UNREAD_ARCHIVES):
        if path.lower().endswith(suffix):
            return path[: -len(suffix)]
    return path


def is_extracted(archive: File, files: RawFiles) -> bool:
    """Return whether media are in a folder that is named like the archive."""
    folder = without_suffix(archive.path) + "/"
    # there may be an archive for each item: no scan of all files
    place = bisect_left(files.media, folder, key=_path)
    return place < len(files.media) and files.media[place].path.startswith(folder)


def _path(file: File) -> str:
    return file.path


def list_archive(root: str, archive: File, files: RawFiles) -> ArchiveFiles:
    """Return the files in a zip archive, without those that systems add.

    Raises:
        ValueError: it cannot be read.
    """
    url = storage.join(root, archive.path)
    first_part = f"{without_suffix(archive.path)}.z01".lower()
    if any(path.lower() == first_part for path in files.split_parts):
        raise split_archive(url)
    sorted_in = ArchiveFiles()
    for file in list_zip(url):
        _sort_in(file, archive.path, sorted_in)
    return sorted_in


def _sort_in(file: ZippedFile, archive_path: str, sorted_in: ArchiveFiles) -> None:
    folders = file.path.split("/")
    if ".." in folders:
        sorted_in.outside.append(file.path)
    elif is_hidden(file.path):
        return
    elif kind_of(f"{archive_path}/{file.path}") is None:
        sorted_in.others.append(file)
    else:
        if file.path in sorted_in.media:
            sorted_in.repeated.append(file.path)
        # files of one name come in the order of the archive
        sorted_in.media[file.path] = file
