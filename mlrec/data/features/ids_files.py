"""Ids files: the raw ids of the rows of a file of vectors, in a file next to it.

image.npy has image.npy.ids.txt or image.ids.txt, with .txt, .json or .csv:

.ids.txt    one raw id per line, as it is
.ids.json   a list of raw ids
.ids.csv    one raw id per line, or a raw id and the number of its row, from 0; quoted as in CSV

MMRec's i_id_mapping.csv in the same folder is like an .ids.csv with row numbers.
"""

from __future__ import annotations

import csv
import io

import pyarrow.compute as pc

from mlrec import storage
from mlrec.data.features.join import ItemIds
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import parse_json

ENDINGS = (".ids.json", ".ids.txt", ".ids.csv")
"""Suffixes of an ids file, appended to the name of the vectors or replacing its suffix."""
MAPPING_FILE = "i_id_mapping.csv"
"""MMRec's table of raw item ids and row numbers, separated by tabs."""
IDS_REMEDY = "Write one raw id per row, in the order of the vectors"
_HEADERS = frozenset({"id", "ids", "rawid", "item", "items", "itemid", "itemids", "iid"})
_HEADERS |= {"video", "videoid", "vid", "movieid", "newsid", "productid", "asin", "parentasin"}
"""Names of a column of raw ids in lower case, without `_`."""
_MAX_ROW_DIGITS = 18
"""Largest number of digits of a row number."""


def default_ids_file(url: str) -> str:
    """Return where messages ask for the raw ids of a file of vectors."""
    return url.rsplit(".", 1)[0] + ".ids.txt"


def find_ids_file(url: str) -> str | None:
    """Return the URL of the ids file next to a file of vectors; None if there is none.

    Raises:
        ValueError: there are several, and they differ.
    """
    present = []
    for start in (url, url.rsplit(".", 1)[0]):
        for ending in ENDINGS:
            if storage.exists(start + ending):
                present.append(start + ending)
    if not present:
        folder, separator, _ = url.rpartition("/")
        mapping = folder + separator + MAPPING_FILE
        return mapping if storage.exists(mapping) else None
    for other in present[1:]:
        if storage.read_bytes(other) != storage.read_bytes(present[0]):
            raise ValueError(
                f"{url} has two ids files that differ, {present[0]} and {other}. Remove one"
            )
    return present[0]


def read_ids(url: str, num_rows: int, items: ItemIds | None) -> list[str]:
    """Return the raw ids in an ids file, in the order of the rows.

    Args:
        items: the data set's items, whose raw ids are no headers; None if there is no data set.

    Raises:
        ValueError: it is damaged, or has ids for another number of rows.
    """
    content = storage.read_bytes(url)
    if url.endswith(".json"):
        ids = [str(raw_id) for raw_id in parse_json(content, list[str | int], url, IDS_REMEDY)]
    elif url.endswith(".txt"):
        ids = _without_header(_lines_of(_decoded(content, url)), items)
    else:
        ids = _ids_of_csv(_decoded(content, url), url, items)
    if len(ids) != num_rows:
        raise ValueError(f"{url} has {len(ids):,} ids for {num_rows:,} rows. {IDS_REMEDY}.")
    return ids


def _decoded(content: bytes, url: str) -> str:
    """Return the text of an ids file.

    Raises:
        ValueError: it is not in UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{url} is no text in UTF-8 ({error}). {IDS_REMEDY}.") from error


def _lines_of(text: str) -> list[str]:
    """Return the lines that are not empty. Commas, quotes and spaces belong to the ids."""
    # not splitlines, which ends lines at characters that an id may have
    lines = [line.rstrip("\n") for line in io.StringIO(text, newline=None)]
    return [line for line in lines if line]


def _ids_of_csv(text: str, url: str, items: ItemIds | None) -> list[str]:
    """Return the raw ids of CSV: one per line, or with the number of its row after it.

    Raises:
        ValueError: it is no such CSV.
    """
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"{url} is no CSV ({error}). {IDS_REMEDY}.") from error
    lines = [[cell.strip() for cell in row] for row in rows if row]
    if all(len(line) == 1 for line in lines):
        return _without_header([line[0] for line in lines], items)
    # a header has no row number; without one, no later row can move
    has_header = not lines[0][-1].isdecimal()
    return _in_order(lines[1:] if has_header else lines, url)


def _without_header(ids: list[str], items: ItemIds | None) -> list[str]:
    """Return ids without a first line that names their column."""
    if not ids or ids[0].strip().casefold().replace("_", "") not in _HEADERS:
        return ids
    # a data set may have an item with this name
    is_id = items is not None and _has_item(items, ids[0])
    return ids if is_id else ids[1:]


def _has_item(items: ItemIds, raw_id: str) -> bool:
    for raw_ids in (items.raw_ids_N, items.left_out):
        if pc.index(raw_ids, raw_id).as_py() >= 0:
            return True
    return False


def _in_order(lines: list[list[str]], url: str) -> list[str]:
    """Return the raw ids of lines (raw id, row), in the order of the rows.

    Raises:
        ValueError: the rows are not the numbers from 0, each once.
    """
    id_of_row = {}
    for number, line in enumerate(lines, start=1):
        if len(line) != 2 or not _is_row(line[1]):
            raise ValueError(
                f"{url}: entry {number} is {printable(' '.join(line), 60)!r}, expected a raw id "
                "and the number of its row"
            )
        id_of_row[int(line[1])] = line[0]
    # fewer numbers than lines: one occurs twice
    if sorted(id_of_row) != list(range(len(lines))):
        raise ValueError(f"{url}: the numbers of the rows are not 0 to {len(lines) - 1}, each once")
    return [id_of_row[row] for row in range(len(lines))]


def _is_row(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MAX_ROW_DIGITS
