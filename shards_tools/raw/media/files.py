"""Media files of the items, recognized by their names in folders and zip archives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mlrec import storage
from mlrec.data.raw_ids import IdMatcher
from shards_tools.raw.listing import File
from shards_tools.raw.media.archives import (
    PARTS_OF_PLACE,
    ArchiveFiles,
    is_extracted,
    list_archive,
    may_hold,
    without_suffix,
)
from shards_tools.raw.media.layout import (
    LabeledFile,
    Layout,
    choose_layout,
    is_conflict,
    place_of_layout,
)
from shards_tools.raw.media.listing import RawFiles
from shards_tools.raw.media.names import (
    KIND_OF_PART,
    Kind,
    MediaName,
    Part,
    Readings,
    kind_of,
    place_of,
    read_name,
)
from shards_tools.raw.media.raw_file import Candidate, Numbered, RawFile, number_and_path
from shards_tools.raw.media.report import (
    FileGroups,
    MediaReport,
    RecognizedPart,
    Repeats,
    no_match,
    shown,
)

ZIPPED_RANK = 16
"""Added to the rank of zipped files: of a file and its zipped copy, the file is packed."""


@dataclass(frozen=True)
class Media:
    """Media files by part and raw item id. The frames of an item are in their order."""

    files: dict[Part, dict[str, list[RawFile]]]
    report: MediaReport

    def file(self, part: Part, raw_id: str) -> RawFile | None:
        """Return the file of an item that has at most one."""
        files = self.files[part].get(raw_id)
        return files[0] if files else None


@dataclass
class _LabeledFiles:
    """Candidates of a place whose folders and names may tell different items."""

    candidates: list[Candidate] = field(default_factory=list)
    has_conflicts: bool = False
    """Whether they do for one of them."""


class _Choice(NamedTuple):
    """The files of an item that are packed, of those seen so far."""

    order: tuple[int, str]
    """Rank, and place of the files; the lowest is packed."""
    numbered: list[Numbered]
    source: str
    """As in Candidate."""


def find_media(root: str, files: RawFiles, raw_ids: list[str], parts: frozenset[Part]) -> Media:
    """Return the media files of the items.

    Args:
        root: URL of the raw folder.
        raw_ids: Raw ids of the items.
        parts: Parts to look for.

    Raises:
        ValueError: an archive cannot be read, or files of a kind are there and match no item.
    """
    finder = _Finder(IdMatcher(raw_ids), parts)
    for file in files.media:
        kind = kind_of(file.path)
        if kind is not None:
            raw_file = RawFile(storage.join(root, file.path), file.size, file.version)
            finder.add(Candidate(file.path, _first_folder(file.path), kind, raw_file))
    unused = _add_archives(root, files, parts, finder)
    finder.decide_layouts()
    finder.check_kinds(raw_ids)
    for folder in files.empty:
        finder.report.notes.append(f"the folder {folder} is empty")
    for archive, reason in unused:
        finder.note_unused(root, archive, reason)
    return finder.media()


def _first_folder(path: str) -> str:
    folder, slash, _ = path.partition("/")
    return folder if slash else ""


def _add_archives(
    root: str, files: RawFiles, parts: frozenset[Part], finder: _Finder
) -> list[tuple[File, str]]:
    """Add the media in archives, and return the archives without any, with the reason.

    Raises:
        ValueError: an archive cannot be read.
    """
    unused = []
    for archive in sorted(files.zips + files.unread_archives):
        if not may_hold(archive, parts):
            continue
        if is_extracted(archive, files):
            finder.report.notes.append(
                f"{shown(archive.path)} was not read, because the folder "
                f"{shown(without_suffix(archive.path))} beside it holds its files"
            )
            continue
        if not archive.path.lower().endswith(".zip"):
            unused.append((archive, "it is no zip archive"))
            continue
        content = list_archive(root, archive, files)
        finder.add_archive(root, archive, content)
        if not content.media:
            unused.append((archive, content.why_unused()))
    return unused


class _Finder:
    """The files of each item, chosen from candidates one by one."""

    def __init__(self, matcher: IdMatcher, parts: frozenset[Part]) -> None:
        self._matcher = matcher
        self._parts = parts
        self._kinds = {KIND_OF_PART[part] for part in parts}
        self._choices: dict[Part, dict[str, _Choice]] = {part: {} for part in KIND_OF_PART}
        self._unmatched: dict[Kind, FileGroups] = {kind: FileGroups() for kind in self._kinds}
        self._matched_kinds: set[Kind] = set()
        self._labeled: dict[tuple[Kind, str], _LabeledFiles] = {}
        """Files whose folder and name may tell different items, by kind and place."""
        self.report = MediaReport()

    def add(self, candidate: Candidate) -> None:
        """Take a candidate. They should come in the order of paths."""
        if candidate.kind not in self._kinds:
            return
        readings = self._read(candidate)
        if readings.label is None:
            self._take(readings.by_folder or readings.by_name, candidate)
            return
        place = (candidate.kind, place_of_layout(candidate.path))
        labeled = self._labeled.setdefault(place, _LabeledFiles())
        labeled.candidates.append(candidate)
        labeled.has_conflicts |= is_conflict(readings)

    def decide_layouts(self) -> None:
        """Take the files whose folder and name may tell different items.

        Raises:
            ValueError: the files of a place do not tell which is right.
        """
        for labeled in self._labeled.values():
            layout: Layout = "folder"
            if labeled.has_conflicts:
                layout = choose_layout(map(self._labeled_file, labeled.candidates))
            for candidate in labeled.candidates:
                by_folder, by_name, _ = self._read(candidate)
                self._take(by_folder if layout == "folder" else by_name, candidate)
        self._labeled.clear()

    def _read(self, candidate: Candidate) -> Readings:
        # read again where it is needed: the readings of millions of frames take gigabytes
        return read_name(candidate.path, candidate.kind, self._matcher)

    def _labeled_file(self, candidate: Candidate) -> LabeledFile:
        return LabeledFile(candidate.path, self._read(candidate))

    def _take(self, name: MediaName | None, candidate: Candidate) -> None:
        if name is None:
            for groups in (self._unmatched[candidate.kind], self.report.unmatched):
                groups.add(candidate.source, candidate.path, candidate.file.size)
            return
        self._matched_kinds.add(candidate.kind)
        if name.part in self._parts:
            self._choose(name, candidate)

    def _choose(self, name: MediaName, candidate: Candidate) -> None:
        """Keep the candidate if it comes before the files of its item so far."""
        choices = self._choices[name.part]
        rank = name.rank + (ZIPPED_RANK if candidate.file.member else 0)
        # the frames of an item come from one place: those of two would be mixed
        order = (rank, name.set_folder if name.part == "frames" else candidate.path)
        numbered = Numbered(name.number, candidate.path, candidate.file)
        before = choices.get(name.raw_id)
        if before is None:
            choices[name.raw_id] = _Choice(order, [numbered], candidate.source)
        elif order == before.order:
            before.numbered.append(numbered)
        else:
            repeats = self.report.repeats.setdefault(name.part, Repeats())
            if order < before.order:
                choices[name.raw_id] = _Choice(order, [numbered], candidate.source)
                repeats.add(name.raw_id, before.numbered[0].path)
            else:
                repeats.add(name.raw_id, candidate.path)

    def check_kinds(self, raw_ids: list[str]) -> None:
        """Check that of each kind of media some file belongs to an item.

        Raises:
            ValueError: files of a kind are there, and none does.
        """
        for kind, groups in self._unmatched.items():
            if groups.files and kind not in self._matched_kinds:
                raise no_match(kind, groups, raw_ids)

    def add_archive(self, root: str, archive: File, content: ArchiveFiles) -> None:
        """Take the media files in an archive, and report its other files."""
        url = storage.join(root, archive.path)
        for path, member in content.media.values():
            full_path = f"{archive.path}/{path}"
            kind = kind_of(full_path)
            assert kind is not None
            file = RawFile(url, member.size, archive.version, member)
            self.add(Candidate(full_path, archive.path, kind, file))
        for path, member in content.others:
            self.report.unused.add(archive.path, path, member.size)
        self.report.notes += content.notes(shown(archive.path))

    def note_unused(self, root: str, archive: File, reason: str) -> None:
        """Note an archive of which nothing is used.

        Raises:
            ValueError: it seems to be the only place of a part that is wanted.
        """
        place = place_of(archive.path)
        parts = self._parts & (PARTS_OF_PLACE[place] if place else frozenset())
        if parts and not any(self._choices[part] for part in parts):
            raise ValueError(
                f"{storage.join(root, archive.path)} cannot be used, because {reason}. "
                f"Extract it to the folder {shown(without_suffix(archive.path))} beside it, "
                f"or pack without its files: --without {','.join(sorted(parts))}"
            )
        self.report.notes.append(f"{shown(archive.path)} was not used, because {reason}")

    def media(self) -> Media:
        """Return the files of all items."""
        files: dict[Part, dict[str, list[RawFile]]] = {}
        for part, choices in self._choices.items():
            if choices:
                self.report.parts.append(_recognized(part, choices))
            files[part] = {}
            for raw_id, choice in choices.items():
                files[part][raw_id] = self._in_order(part, raw_id, choice)
            if part in self.report.repeats:
                repeats = self.report.repeats[part]
                repeats.packed = repeats.packed or choices[repeats.example].numbered[0].path
            # the choices of a million items take hundreds of megabytes
            choices.clear()
        return Media(files, self.report)

    def _in_order(self, part: Part, raw_id: str, choice: _Choice) -> list[RawFile]:
        """Return the files by number; of files with the same number, the first by path."""
        # of a million videos each has one file
        if len(choice.numbered) == 1:
            return [choice.numbered[0].file]
        first_of_number: dict[int, Numbered] = {}
        for numbered in sorted(choice.numbered, key=number_and_path):
            first = first_of_number.setdefault(numbered.number, numbered)
            if first is not numbered:
                repeats = self.report.repeats.setdefault(part, Repeats())
                repeats.add(raw_id, numbered.path, packed=first.path)
        return [numbered.file for numbered in first_of_number.values()]


def _recognized(part: Part, choices: dict[str, _Choice]) -> RecognizedPart:
    num_files = 0
    sources = set()
    for choice in choices.values():
        num_files += len(choice.numbered)
        sources.add(choice.source)
    return RecognizedPart(part, len(choices), num_files, sorted(sources))
