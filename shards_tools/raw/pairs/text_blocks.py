"""Blocks of the rows of a text file, parsed with arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from mlrec.runtime.printable import brief, counted
from shards_tools.raw.pairs.dropped import DroppedRows
from shards_tools.raw.pairs.id_codes import filter_ids
from shards_tools.raw.pairs.packed import flags
from shards_tools.raw.pairs.text_layout import TextLayout
from shards_tools.raw.tables import open_table, open_text

BLOCK_BYTES = 4 << 20
"""Bytes that are parsed at once.

Each block lists the ids that occur in it, so that small blocks would repeat nearly all ids over and
over. Arrow reads up to 32 blocks ahead.
"""
WHOLE_LINE = "\x01"
"""Separator that no text has, so that each line is one column."""

IDS = pa.dictionary(pa.int32(), pa.string())
"""Type of a column of ids. Plain strings of many rows would take far more memory."""


class TextBlock(NamedTuple):
    """Neighbouring rows of a text file."""

    columns: list[pa.Array]
    lines: np.ndarray
    """int64 [rows]: number of each row's line in the file, from 1."""


def read_blocks(
    url: str, layout: TextLayout, types: dict[int, pa.DataType], dropped: DroppedRows
) -> Iterator[TextBlock]:
    """Yield some columns of the rows of a text file, without blank lines.

    Args:
        types: Type by the position of each column: IDS or strings.
        dropped: Counts the lines that have another number of columns.

    Raises:
        ValueError: the file is not UTF-8, or cannot be parsed.
    """
    # Arrow's own signal handlers lose a Ctrl-C that comes as it finishes.
    pa.enable_signal_handlers(False)
    numbering = _Numbering(layout.header_lines + 1)

    def drop(row: pa_csv.InvalidRow) -> str:
        cells = counted(row.actual_columns, "cell")
        dropped.add(
            f"line {row.number:,}, {row.text[:60]!r}, with {cells} instead of "
            f"{row.expected_columns:,}"
        )
        numbering.skip(row.number)
        return "skip"

    num_columns = max(layout.num_columns, 1)
    names = [str(place) for place in range(num_columns)]
    # without threads, because only then arrow knows the numbers of malformed lines
    read_options = pa_csv.ReadOptions(
        column_names=names,
        skip_rows=layout.header_lines,
        block_size=BLOCK_BYTES,
        use_threads=False,
    )
    is_split = num_columns > 1
    parse_options = pa_csv.ParseOptions(
        delimiter=layout.delimiter if is_split else WHOLE_LINE,
        quote_char='"' if is_split else False,
        ignore_empty_lines=False,
        invalid_row_handler=drop,
    )
    convert_options = pa_csv.ConvertOptions(
        include_columns=[str(place) for place in types],
        column_types={str(place): dtype for place, dtype in types.items()},
    )
    try:
        with (
            open_table(url) as stream,
            pa_csv.open_csv(stream, read_options, parse_options, convert_options) as reader,
        ):
            for batch in reader:
                block = TextBlock(batch.columns, numbering.next_lines(batch.num_rows))
                yield _without_blank_lines(block)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            _raise_encoding(url)
        raise ValueError(f"{url} cannot be parsed: {brief(error)}") from error


def _raise_encoding(url: str) -> None:
    """Raise the error about a file that is not UTF-8, which names the encoding."""
    with open_text(url) as file:
        for _ in file:
            pass


class _Numbering:
    """Numbers the lines of rows, between which arrow skips malformed ones."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._skipped: list[int] = []

    def skip(self, line: int) -> None:
        self._skipped.append(line)

    def next_lines(self, num_rows: int) -> np.ndarray:
        """Return the numbers of the next rows' lines: int64 [num_rows]."""
        lines = np.arange(self._next, self._next + num_rows + len(self._skipped))
        # arrow may be ahead, and have skipped lines after these rows
        lines = np.setdiff1d(lines, self._skipped, assume_unique=True)[:num_rows]
        if num_rows:
            self._next = int(lines[-1]) + 1
            self._skipped = [line for line in self._skipped if line >= self._next]
        return lines


def _without_blank_lines(block: TextBlock) -> TextBlock:
    is_blank = _is_empty(block.columns[0])
    if not is_blank.any():
        return block
    for column in block.columns[1:]:
        is_blank &= _is_empty(column)
    columns = []
    for column in block.columns:
        is_dictionary = isinstance(column, pa.DictionaryArray)
        keep = filter_ids if is_dictionary else pa.Array.filter
        columns.append(keep(column, ~is_blank))
    return TextBlock(columns, block.lines[~is_blank])


def _is_empty(column: pa.Array) -> np.ndarray:
    """Return which values are empty: bool [rows]."""
    if not isinstance(column, pa.DictionaryArray):
        return flags(pc.equal(column, ""))
    return flags(pc.equal(column.indices, pc.index(column.dictionary, "")))


def split_off_user(lines: pa.LargeStringArray, delimiter: str) -> list[pa.Array]:
    """Return the users of lines, and the texts of their items, which are empty without delimiter.

    Args:
        delimiter: End of a user; " " is any white space.
    """
    lines = pc.utf8_trim_whitespace(lines)
    end = r"\s" if delimiter == " " else re.escape(delimiter)
    parts = pc.extract_regex(lines, f"^(?P<user>[^{end}]*)(?:{end}(?P<items>.*))?$")
    return [parts.field("user"), parts.field("items")]
