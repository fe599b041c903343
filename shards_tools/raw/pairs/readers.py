"""Files with interactions in a raw folder.

To add a layout:

1. Write a reader in a file of its own: a function that takes the URL of a file and returns its
   Interactions, in which each user's items run from the oldest to the newest. rows.py collects
   interactions of one row each, lists.py lists of items per user; parquet.py uses both.
   Malformed input is a ValueError with the name of the file and the line.
2. Add a row to READERS: the name of such files as a shell pattern, and the reader.

Nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from mlrec import storage
from mlrec.runtime.printable import printable
from shards_tools.raw.media.listing import RawFiles
from shards_tools.raw.missing_pairs import hint_of
from shards_tools.raw.pairs.inter import MAPPINGS, read_inter
from shards_tools.raw.pairs.interactions import Interactions
from shards_tools.raw.pairs.parquet import read_parquet
from shards_tools.raw.pairs.text import is_table_of_numbers, read_text

Reader = Callable[[str], Interactions]
"""Takes the URL of a file."""

READERS: dict[str, Reader] = {
    "*pairs.csv": read_text,
    "*pairs.parquet": read_parquet,
    "*.inter": read_inter,
    "*interactions.csv": read_text,
    "*interactions.parquet": read_parquet,
    "*pairs.tsv": read_text,
    "*pairs.txt": read_text,
    "*interactions.tsv": read_text,
    "*interactions.txt": read_text,
    "item_seq.parquet": read_parquet,
    "train.parquet": read_parquet,
    "*.txt": read_text,
}
"""Reader by the pattern of a file's name, in any case. The first that a folder matches is used.

Files that usually have times stand first. A text file's content decides whether it has rows or
lists. Any other .txt counts only if it begins with nothing but numbers.
"""
ANY_TEXT = "*.txt"
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".gz", ".xlsx", ".pkl")
MAX_NAMED_TABLES = 3
"""Number of tables that the error about a folder without interactions names."""
OTHER_TABLES = ("like", "view", "title", "tag")
"""Parts of names of text files that have no interactions."""


class PairsFile(NamedTuple):
    """A file with interactions."""

    url: str
    read: Reader
    mappings: list[str]
    """URLs of further files that the reader looks for: mappings of ids."""
    remarks: list[str]
    """Which other files with interactions are not used."""


def find_pairs(root: str, files: RawFiles) -> PairsFile:
    """Return the file with the interactions among the files of the raw folder `root`.

    Raises:
        ValueError: there is none, or several match the same pattern.
    """
    matches: dict[str, list[str]] = {}
    mappings = []
    for name in sorted(file.path for file in files.in_root):
        pattern = _pattern_of(root, name)
        if pattern is not None:
            matches.setdefault(pattern, []).append(name)
        if name in MAPPINGS.values():
            mappings.append(storage.join(root, name))
    for pattern, same in matches.items():
        # taking the first would silently pack half of the data
        if len(same) > 1:
            raise ValueError(
                f"{root} holds {len(same)} of {pattern}: {', '.join(same)}. "
                "Leave one of them in the folder"
            )
    for pattern, reader in READERS.items():
        if pattern in matches:
            used = matches.pop(pattern)[0]
            others = [same[0] for same in matches.values()]
            remarks = _unused_remarks(used, others)
            return PairsFile(storage.join(root, used), reader, mappings, remarks)
    # names of any other text tell nothing
    hint = hint_of(root, files, [pattern for pattern in READERS if pattern != ANY_TEXT])
    if not hint:
        rejected = _describe_rejected(file.path for file in files.in_root)
        hint = f"{rejected}Expected {' or '.join(READERS)}"
    raise ValueError(f"{root} holds no interactions. {hint}")


def _describe_rejected(names: Iterable[str]) -> str:
    """Return the sentences on tables of a folder that are no files with interactions."""
    tables = [name for name in sorted(names) if name.lower().endswith(TABLE_SUFFIXES)]
    sentences = []
    for name in tables[:MAX_NAMED_TABLES]:
        reason = "has another name"
        if fnmatchcase(name.lower(), ANY_TEXT):
            reason = "does not begin with lines of numbers only"
        sentences.append(f"{printable(name, 60)} {reason}. ")
    if len(tables) > MAX_NAMED_TABLES:
        sentences.append(f"{len(tables) - MAX_NAMED_TABLES:,} other tables have other names. ")
    return "".join(sentences)


def _pattern_of(root: str, name: str) -> str | None:
    """Return the first pattern that a file's name matches; None if it has no interactions."""
    for pattern in READERS:
        if fnmatchcase(name.lower(), pattern):
            if pattern != ANY_TEXT:
                return pattern
            is_other = any(word in name.lower() for word in OTHER_TABLES)
            has_numbers = not is_other and is_table_of_numbers(storage.join(root, name))
            return pattern if has_numbers else None
    return None


def _unused_remarks(used: str, others: list[str]) -> list[str]:
    if not others:
        return []
    return [f"{used}: its interactions are used, those of {', '.join(others)} are not"]
