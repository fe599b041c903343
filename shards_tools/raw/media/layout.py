"""Layouts of media whose folders and names both have ids of items: a_frames/2/17-3.jpg.

Folders may be items, or parts into which the files were split. No single file tells which it is,
so all files of a place decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from mlrec.runtime.printable import printable
from shards_tools.raw.media.names import MediaName, Readings

Layout = Literal["folder", "name"]
"""What tells the item of a file."""

MAX_CONTRADICTIONS = 0.05
"""Share of files that may contradict a layout. Copies of a few files do not rule it out."""
PATH_WIDTH = 120
"""Characters at which a path in a sentence is cut."""


class LabeledFile(NamedTuple):
    """A media file in a folder that has the id of an item."""

    path: str
    """Path relative to the raw folder."""
    readings: Readings
    """With a label, and the reading by folder."""


def place_of_layout(path: str) -> str:
    """Return the folder or archive whose files have one layout; "" for the raw folder itself."""
    parent = path.rpartition("/")[0].rpartition("/")[0]
    return parent.partition("/")[0]


def is_conflict(readings: Readings) -> bool:
    """Return whether the folder and the name of a file tell different items."""
    by_folder, by_name, _ = readings
    return by_folder is not None and by_name is not None and by_folder.raw_id != by_name.raw_id


def choose_layout(files: Iterable[LabeledFile]) -> Layout:
    """Return what tells the items of the files of a place, some of which are conflicts.

    In folders of items, numbers repeat from folder to folder but not within one. In folders of
    parts, each name occurs once, and a folder holds many items.

    Raises:
        ValueError: both layouts are possible, or neither, and they differ.
    """
    item_of_label: dict[tuple[str, int], str] = {}
    text_of_number: dict[tuple[str, int], str] = {}
    contradictions: dict[Layout, int] = {"folder": 0, "name": 0}
    num_files = 0
    conflict: LabeledFile | None = None
    for file in files:
        by_folder, _, label = file.readings
        assert by_folder is not None and label is not None
        text, number = label
        item = by_folder.raw_id
        contradictions["name"] += item_of_label.setdefault(label, item) != item
        contradictions["folder"] += text_of_number.setdefault((item, number), text) != text
        num_files += 1
        if conflict is None and is_conflict(file.readings):
            conflict = file
    assert conflict is not None
    most = MAX_CONTRADICTIONS * num_files
    is_by_folder = contradictions["folder"] <= most
    is_by_name = contradictions["name"] <= most
    if is_by_folder == is_by_name:
        raise _undecided(conflict)
    return "folder" if is_by_folder else "name"


def _undecided(file: LabeledFile) -> ValueError:
    """Return the error about files that may belong to two items each."""
    by_folder, by_name, _ = file.readings
    assert by_folder is not None and by_name is not None
    folder, _, name = file.path.rpartition("/")
    place = folder.rpartition("/")[0]
    prefix = f"{place}/" if place else ""
    return ValueError(
        f"{_shown(file.path)} may belong to item {_shown(by_name.raw_id)} by its name, or to item "
        f"{_shown(by_folder.raw_id)} by its folder, and the other files do not tell which. "
        f"Rename it to {_shown(prefix + name)} if its name is right, or to "
        f"{_shown(prefix + _file_name(by_folder, name))} if its folder is right, and all files "
        f"beside it in the same way. Or pack without them: --without {by_folder.part}"
    )


def _file_name(media: MediaName, name: str) -> str:
    """Return the name of a file that tells its item without a folder."""
    _, dot, suffix = name.rpartition(".")
    number = f"-{media.number}" if media.part == "frames" else ""
    return f"{media.raw_id}{number}{dot}{suffix if dot else ''}"


def _shown(text: str) -> str:
    return printable(text, PATH_WIDTH)
