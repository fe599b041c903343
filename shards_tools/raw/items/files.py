"""The files of a raw folder with titles, and with likes and views."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from mlrec import storage

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
TITLES_SUFFIXES = (*TEXT_SUFFIXES, ".item", ".parquet")
UNREAD_SUFFIXES = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".pkl", ".feather", ".gz", ".zip")
"""Suffixes of tables that people have, and that are not read."""
ITEM_FILES = ("item_feature", "item_features")
"""Stems of tables with titles that are not named for them, as in MicroLens-1M."""


class TitlesFile(NamedTuple):
    """The file with titles that is used."""

    url: str | None
    """None if there is none."""
    remarks: list[str]
    """Which other files with titles are not used, a sentence each without its full stop."""


def find_titles(root: str, names: Iterable[str]) -> TitlesFile:
    """Return the file with titles among the files of the folder `root`.

    Of several, one that ends in titles or title is used, then one in _en, and one in _cn last.

    Args:
        names: Names of the files.

    Raises:
        ValueError: several are equally good.
    """
    ranked: dict[int, list[str]] = {}
    unread = []
    for name in sorted(names):
        rank = _rank(name)
        if rank is not None:
            ranked.setdefault(rank, []).append(name)
        elif _has_title(name) and name.lower().endswith(UNREAD_SUFFIXES):
            unread.append(name)
    remarks = [
        f"{name}: did not read titles from it; save it as CSV in UTF-8, and pass it with --titles"
        for name in unread
    ]
    if not ranked:
        return TitlesFile(None, remarks)
    best, *others = [ranked[rank] for rank in sorted(ranked)]
    if len(best) > 1:
        raise ValueError(
            f"{root} holds several files with titles: {', '.join(best)}. "
            "Choose one with --titles FILE"
        )
    unused = [name for same in others for name in same]
    if unused:
        remarks.append(f"{best[0]}: its titles are used, those of {', '.join(unused)} are not")
    return TitlesFile(storage.join(root, best[0]), remarks)


def _has_title(name: str) -> bool:
    return "title" in name.lower()


def _rank(name: str) -> int | None:
    """Return the rank of a file with titles, from 0 for the best; None for any other file."""
    path = PurePosixPath(name.lower())
    if path.suffix not in TITLES_SUFFIXES or name.startswith("."):
        return None
    if path.stem.endswith(("titles", "title")):
        return 0
    if _has_title(name):
        if path.stem.endswith(("_en", "-en")):
            return 1
        return 4 if path.stem.endswith(("_cn", "-cn", "_zh", "-zh")) else 2
    return 3 if may_lack_titles(name) else None


def may_lack_titles(url: str) -> bool:
    """Return whether a file is a table of items by its name, with or without titles."""
    path = PurePosixPath(url.lower())
    return path.suffix == ".item" or path.stem in ITEM_FILES


def find_likes_and_views(root: str, names: Iterable[str]) -> str | None:
    """Return the URL of the file with likes and views in the folder `root`; None if it has none.

    Raises:
        ValueError: there are several.
    """
    matches = []
    for name in sorted(names):
        is_table = name.lower().endswith(TEXT_SUFFIXES) and not name.startswith(".")
        if is_table and "likes_and_views" in name.lower():
            matches.append(name)
    if len(matches) > 1:
        raise ValueError(
            f"{root} holds several files with likes and views: {', '.join(matches)}. "
            "Leave one of them in the folder"
        )
    return storage.join(root, matches[0]) if matches else None
