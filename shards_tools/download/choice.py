"""What a server has of a data set, and which of it to download."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from threading import Event

from shards_tools.download.http import RefusedError, UnreachableError
from shards_tools.download.listing import Entry, list_page, list_tree, probe
from shards_tools.download.published import (
    CHECKSUM_NAME,
    MEDIA_PARTS,
    PARTS,
    Dataset,
    Part,
    archive_of,
    part_of,
)


def published_entries(dataset: Dataset, base_url: str, stopping: Event) -> list[Entry]:
    """Return what the server has in the folder of the data set.

    Raises:
        ValueError: nothing that is known.
    """
    try:
        entries = list_page(base_url, stopping)
    except UnreachableError:
        raise
    except RefusedError:
        entries = []
    # Without an index page, or with a web page of another kind.
    if not any(part_of(entry.name) == "pairs" for entry in entries):
        entries = probe(base_url, dataset.prefix, stopping)
    if not entries:
        raise ValueError(
            f"{base_url} has no index page and no file named {dataset.prefix}_pairs.csv or .tsv. "
            "Pass the URL of the data set's folder with --base-url"
        )
    return entries


def choose(entries: Iterable[Entry], parts: Collection[Part]) -> tuple[list[Entry], list[str]]:
    """Return the entries to download, and why the others are left out."""
    by_part: dict[Part, list[Entry]] = {}
    chosen = []
    for entry in entries:
        if CHECKSUM_NAME.fullmatch(entry.name):
            chosen.append(entry)
        else:
            by_part.setdefault(part_of(entry.name), []).append(entry)
    left_out = []
    for part in PARTS:
        of_part = by_part.get(part, [])
        if of_part and part not in parts:
            names = ", ".join(_names(of_part))
            left_out.append(f"{names} (add {part} to --only to download)")
            continue
        used = _one_form(of_part) if part in MEDIA_PARTS else of_part
        chosen += used
        unused = [entry for entry in of_part if entry not in used]
        if unused:
            names = ", ".join(_names(unused))
            left_out.append(f"{names} (the same {part} are in {', '.join(_names(used))})")
    return chosen, left_out


def _one_form(entries: list[Entry]) -> list[Entry]:
    """Return the archives of a part, or its folders: servers publish media in several forms.

    A whole archive is one request. A folder needs no joining, as a split archive does.
    """
    folders = [entry for entry in entries if entry.is_folder]
    archives = {entry: archive_of(entry.name) for entry in entries if not entry.is_folder}
    split_stems = {archive.stem for archive in archives.values() if archive and archive.number}
    whole = []
    for entry, archive in archives.items():
        if archive is None or archive.stem not in split_stems:
            whole.append(entry)
    return whole or folders or list(archives)


def _names(entries: list[Entry]) -> list[str]:
    """Return the names of entries, with the parts of a split archive as one."""
    names: dict[str, None] = {}
    for entry in entries:
        archive = archive_of(entry.name)
        is_part = archive is not None and archive.number
        names[f"{archive.stem}.zNN" if archive and is_part else entry.name] = None
    return list(names)


def files_below(entry: Entry, stopping: Event) -> list[tuple[str, Entry]]:
    """Return a file, or the files below a folder, with their paths."""
    if not entry.is_folder:
        return [(entry.name, entry)]
    try:
        below = list_tree(entry, stopping)
    except UnreachableError:
        raise
    except RefusedError as error:
        raise ValueError(
            f"{entry.url} cannot be listed: {error}. Leave this part out with --only, or pass "
            "another server with --base-url"
        ) from error
    return [(f"{entry.name}/{path}", file) for path, file in below]
