"""What was recognized in a raw folder and what was not, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlrec.runtime.printable import counted, printable
from mlrec.runtime.units import megabytes_or_gigabytes
from shards_tools.raw.media.listing import RawFiles
from shards_tools.raw.media.names import Kind, Part

MAX_NAMED = 3
"""Groups of files, and folders, that a sentence names."""
NAME_WIDTH = 80
"""Characters at which a name in a sentence is cut."""

WITHOUT: dict[Kind, str] = {"video": "videos", "image": "covers,frames", "audio": "audio"}
"""Value of --without that leaves out all files of a kind."""


@dataclass
class FileGroup:
    """Files of one suffix in one place."""

    where: str
    """A folder or archive; "" for the raw folder itself."""
    suffix: str
    """Suffix with its dot; "" for files without."""
    files: int = 0
    bytes: int = 0
    example: str = ""
    """Name of the first file."""

    def __str__(self) -> str:
        kind = self.suffix or "without suffix"
        where = f" in {shown(self.where)}" if self.where else ""
        return f"{self.files:,} {shown(kind)}{where} such as {shown(self.example)}"


class FileGroups:
    """Files that were not used, by place and suffix."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], FileGroup] = {}

    def add(self, where: str, path: str, size: int | None) -> None:
        """Count a file in a folder or archive."""
        name = path.rpartition("/")[2]
        stem, dot, suffix = name.rpartition(".")
        key = (where, f".{suffix.lower()}" if dot and stem else "")
        group = self._groups.setdefault(key, FileGroup(*key, example=name))
        group.files += 1
        group.bytes += size or 0

    @property
    def groups(self) -> list[FileGroup]:
        """The groups, the largest first."""
        return sorted(self._groups.values(), key=lambda group: (-group.bytes, group.where))

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(group.files for group in self._groups.values())

    def size(self) -> str:
        """Return the number of files and their size in words."""
        num_bytes = sum(group.bytes for group in self._groups.values())
        return f"{counted(self.files, 'file')} ({megabytes_or_gigabytes(num_bytes)})"

    def describe(self) -> str:
        """Return the largest groups in words."""
        return _listed(map(str, self.groups), len(self._groups))


@dataclass
class Repeats:
    """Items with more files of a part than are packed."""

    raw_ids: set[str] = field(default_factory=set)
    example: str = ""
    """Raw id of the first of them."""
    left_out: str = ""
    """Path of a file of that item that is not packed."""
    packed: str = ""
    """Path of its file that is packed."""

    def add(self, raw_id: str, left_out: str, packed: str = "") -> None:
        """Count an item, one of whose files is left out.

        Args:
            packed: Path of the file that is packed instead, if it is known already.
        """
        if not self.raw_ids:
            self.example = raw_id
            self.left_out = left_out
            self.packed = packed
        self.raw_ids.add(raw_id)


@dataclass(frozen=True)
class RecognizedPart:
    """The files of one part."""

    part: Part
    items: int
    """Number of items with such files."""
    files: int
    sources: list[str]
    """Folders and archives that the files are in; "" for the raw folder itself."""

    def __str__(self) -> str:
        names = [shown(source) if source else "the raw folder itself" for source in self.sources]
        where = _listed(names, len(names))
        return (
            f"{self.part}: {counted(self.items, 'item')}, {counted(self.files, 'file')} in {where}"
        )


@dataclass
class MediaReport:
    """What was recognized in a raw folder and what was not."""

    parts: list[RecognizedPart] = field(default_factory=list)
    unmatched: FileGroups = field(default_factory=FileGroups)
    """Media files whose names match no item."""
    unused: FileGroups = field(default_factory=FileGroups)
    """Files that are neither media nor a table that is read."""
    unlisted: list[str] = field(default_factory=list)
    """Folders that were not looked into."""
    repeats: dict[Part, Repeats] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Sentences about archives that were not read."""

    def add_unused(self, files: RawFiles, tables: set[str]) -> None:
        """Add the files and folders that are neither media nor tables.

        Args:
            tables: Paths of the files that are read besides media.
        """
        for file in files.others:
            if file.path not in tables:
                self.unused.add(file.folder, file.path, file.size)
        self.unlisted += files.unlisted

    def sources(self) -> list[str]:
        """Return the lines about what was recognized, and about files that are no media."""
        lines = [str(part) for part in self.parts]
        if self.unused.files:
            lines.append(f"not used: {self.unused.size()}: {self.unused.describe()}")
        if self.unlisted:
            folders = _listed(map(shown, self.unlisted), len(self.unlisted))
            lines.append(f"not looked into: {counted(len(self.unlisted), 'folder')}: {folders}")
        return lines

    def remarks(self) -> list[str]:
        """Return the sentences about media that are not packed."""
        remarks = list(self.notes)
        for part, repeats in sorted(self.repeats.items()):
            # several frames are the rule
            what = "sets of frames" if part == "frames" else part
            remarks.append(
                f"{counted(len(repeats.raw_ids), 'item')} with several {what}: the exact id, or "
                f"else the first by name, is packed, such as {shown(repeats.packed)} "
                f"and not {shown(repeats.left_out)}"
            )
        if self.unmatched.files:
            remarks.append(
                f"{self.unmatched.size()} of media match no item: {self.unmatched.describe()}"
            )
        return remarks


def _listed(words: Iterable[str], count: int) -> str:
    """Return the first of `count` words as a list."""
    named = list(words)[:MAX_NAMED]
    more = ", ..." if count > MAX_NAMED else ""
    return ", ".join(named) + more


def shown(text: str) -> str:
    """Return a path as part of a sentence. Names of files are text from outside."""
    return printable(text, NAME_WIDTH)


def no_match(kind: Kind, unmatched: FileGroups, raw_ids: list[str]) -> ValueError:
    """Return the error about media of which no file belongs to an item."""
    examples = " and ".join(repr(shown(group.example)) for group in unmatched.groups[:2])
    ids = " and ".join(repr(shown(raw_id)) for raw_id in raw_ids[:2])
    return ValueError(
        f"no {kind} file name matches an item id: {unmatched.size()} such as {examples}, "
        f"while ids are like {ids}. Rename the files to ID.SUFFIX, "
        f"or pack without them: --without {WITHOUT[kind]}"
    )
