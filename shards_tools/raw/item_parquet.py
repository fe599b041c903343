"""Parquet tables of items, such as item_feature.parquet of MicroLens-1M."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mlrec.runtime.printable import brief
from shards_tools.raw.ids import IdMatcher
from shards_tools.raw.item_columns import Kind, Row, columns_by_name

BATCH_ROWS = 1 << 16
"""Rows that are in memory at once."""


class ParquetTable:
    """The rows of a Parquet table."""

    def __init__(
        self, stream: IO[bytes], kinds: Sequence[Kind], matcher: IdMatcher, url: str
    ) -> None:
        """Read the first rows, which tell the columns.

        Raises:
            ValueError: it is no Parquet table, or lacks a column.
        """
        self._url = url
        self.num_joined = 0
        """0: a cell of a Parquet table never spreads over others."""
        try:
            self._file = pq.ParquetFile(stream)
            self.names = [field.name for field in self._file.schema_arrow if _is_text(field.type)]
            first = next(self._file.iter_batches(BATCH_ROWS, columns=self.names), None)
        except (pa.ArrowException, OSError) as error:
            raise self._malformed(error) from error
        rows = [] if first is None else list(_rows(first))
        columns = columns_by_name(self.names, rows, kinds, matcher, url)
        self._columns = [self.names[place] for place in (columns.item, *columns.values)]

    def __iter__(self) -> Iterator[Row]:
        number = 0
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=self._columns):
                # batches have the order of the file
                for item, *values in _rows(batch.select(self._columns)):
                    number += 1
                    yield Row(number, item, values)
        except (pa.ArrowException, OSError) as error:
            raise self._malformed(error) from error

    def _malformed(self, error: Exception) -> ValueError:
        return ValueError(f"{self._url} is not a Parquet table: {brief(error)}")


def _is_text(kind: pa.DataType) -> bool:
    """Return whether values of a type have a usual text. Embeddings have none."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(value)
        or pa.types.is_large_string(value)
        or pa.types.is_integer(value)
        or pa.types.is_floating(value)
    )


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a batch as texts; missing values are empty."""
    columns = [_texts(column) for column in batch.columns]
    return zip(*columns, strict=True)


def _texts(column: pa.Array) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return cast("list[str]", column.cast(pa.large_string()).fill_null("").to_pylist())
