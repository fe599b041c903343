"""Raw ids for the rows of a file that holds vectors alone, such as an .npy file.

The first rule that applies gives the rows of NAME.npy their raw ids:

1. An ids file next to it, such as NAME.npy.ids.txt or NAME.ids.txt (ids_files.py).
2. MMRec's i_id_mapping.csv in the same folder: a raw id and its row, from 0, on each line.
3. As many rows as the data set has items, whose raw ids are whole numbers: ascending raw ids.
4. MicroLens' published files, MicroLens-*_features_*.npy: the first row is raw id 1.
5. Raw ids that are whole numbers and fit rows numbered from 0 only, or from 1 only.

Everything else is an error that names the choices: vectors of other items would train silently.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.features.ids_files import IDS_REMEDY, default_ids_file, find_ids_file, read_ids
from mlrec.data.features.join import ItemIds, quoted
from mlrec.runtime.printable import printable

MICROLENS_FILES = "MicroLens-*_features_*.npy"
"""Published features of MicroLens: the row of raw id i is i - 1."""
_WHOLE_NUMBER = "^(0|[1-9][0-9]{0,17})$"
"""Whole numbers as they are printed, below 10^18."""


class RowIds(NamedTuple):
    """Raw ids of rows."""

    raw_ids_n: pa.Array
    """Raw id of each row, strings."""
    rule: str
    """Rule that they follow, as a sentence without a full stop."""


def ids_of_rows(url: str, num_rows: int, items: ItemIds | None) -> RowIds:
    """Return the raw ids of the rows of a file without ids.

    Args:
        url: the file's URL.
        items: the data set's items; None if there is no data set.

    Raises:
        ValueError: the order of the rows is unknown, or an ids file does not fit.
    """
    ids_url = find_ids_file(url)
    if ids_url is not None:
        ids = pa.array(read_ids(ids_url, num_rows, items), pa.string())
        return RowIds(ids, f"the rows of {url} have the ids of {ids_url}")
    ids_file = default_ids_file(url)
    if items is None:
        raise ValueError(f"{url} has no raw ids. {IDS_REMEDY}, to {ids_file}.")
    return _numbered(url, num_rows, items, ids_file)


def _numbered(url: str, num_rows: int, items: ItemIds, ids_file: str) -> RowIds:
    """Return the raw ids of rows by rules 3 to 5.

    Raises:
        ValueError: none of them applies.
    """
    dataset = printable(items.dataset)
    # items that packing left out have rows as well
    raw_ids = pa.concat_arrays([items.raw_ids_N.drop_null(), items.left_out])
    is_number = pc.match_substring_regex(raw_ids, _WHOLE_NUMBER)
    if not pc.all(is_number).as_py():
        example = quoted(raw_ids.filter(pc.invert(is_number)).slice(0, 1).to_pylist())
        raise ValueError(
            f"{url} has no raw ids, and those of {dataset}, such as {example}, are no whole "
            f"numbers. {IDS_REMEDY}, to {ids_file}."
        )
    numbers = np.sort(raw_ids.cast(pa.int64()).to_numpy())
    if len(numbers) == num_rows:
        rule = f"{url} has a row for each item of the data set, taken in the order of raw ids"
        return RowIds(_strings(numbers), rule)
    first, last = int(numbers[0]), int(numbers[-1])
    may_start_at_1 = first >= 1 and last <= num_rows
    may_start_at_0 = last < num_rows
    is_published = fnmatchcase(PurePosixPath(url).name, MICROLENS_FILES)
    if may_start_at_1 and (is_published or not may_start_at_0):
        return _consecutive(url, num_rows, 1)
    if may_start_at_0 and not may_start_at_1:
        return _consecutive(url, num_rows, 0)
    rows = f"{url} has {num_rows:,} rows without raw ids, and {dataset} has {len(numbers):,} items"
    if may_start_at_0:
        raise ValueError(
            f"{rows} with raw ids {first} to {last}: the first row may be raw id 0 or 1. "
            f"Say which: seq 0 {num_rows - 1} > {ids_file}, or seq 1 {num_rows} > {ids_file}"
        )
    raise ValueError(
        f"{rows} with raw ids up to {last}: neither numbers from 0 nor from 1 fit. "
        f"{IDS_REMEDY}, to {ids_file}."
    )


def _consecutive(url: str, num_rows: int, first: int) -> RowIds:
    """Return the raw ids of rows that are numbered from `first`."""
    rule = f"{url} has no raw ids; its rows are taken as raw ids {first} to {num_rows - 1 + first}"
    return RowIds(_strings(np.arange(first, first + num_rows)), rule)


def _strings(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())
