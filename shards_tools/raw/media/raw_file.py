"""A raw media file: a file of its own, or a member of a zip archive."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from shards_tools.raw.media.names import Kind
from shards_tools.raw.media.zips import ZipMember


class RawFile(NamedTuple):
    """A raw media file."""

    url: str
    """URL of the file, or of the archive that it is in."""
    size: int | None
    """Bytes; None if the listing lacks them. With it remote files are read in parallel."""
    version: str = ""
    """Version of the file or archive, which changes when it is rewritten."""
    member: ZipMember | None = None
    """Its place in the archive; None for a file of its own."""

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells the file from others, wherever its folder is: name, size and version."""
        return (PurePosixPath(self.url).name, *self[1:])


class Candidate(NamedTuple):
    """A file that may be media of an item."""

    path: str
    """Path relative to the raw folder, through the archive that it is in."""
    source: str
    """The archive, or else the first folder of the path; "" for the raw folder itself."""
    kind: Kind
    file: RawFile


class Numbered(NamedTuple):
    """A file and its number among the frames of its item."""

    number: int
    path: str
    """Path relative to the raw folder, through the archive that it is in."""
    file: RawFile


def number_and_path(numbered: Numbered) -> tuple[int, str]:
    """Return the key that puts the frames of an item in order."""
    return numbered.number, numbered.path
