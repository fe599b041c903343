"""Parquet tables of items, such as item_feature.parquet of MicroLens-1M."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mlrec.data.raw_ids import IdMatcher
from mlrec.runtime.printable import brief
from mlrec.storage.parquet_text import text_bytes
from shards_tools.raw.items.columns import Kind, Row, columns_by_name

BATCH_ROWS = 1 << 14
"""Rows that are in memory at once."""
MAX_BATCH_BYTES = 512 << 20
"""Most bytes of texts in a batch, which is 32 kB a row."""


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
            schema = pq.read_schema(stream)
            self.names = [field.name for field in schema if _is_text(field.type)]
            # a long title that is in every row takes hardly any bytes in the file
            texts = [name for name in self.names if pa.types.is_string(schema.field(name).type)]
            self._file = pq.ParquetFile(stream, read_dictionary=texts)
            first = next(self._file.iter_batches(BATCH_ROWS, columns=self.names), None)
        except (pa.ArrowException, OSError) as error:
            raise self._malformed(error) from error
        rows = [] if first is None else list(self._rows(first))
        columns = columns_by_name(self.names, rows, kinds, matcher, url)
        self._columns = [self.names[place] for place in (columns.item, *columns.values)]

    def __iter__(self) -> Iterator[Row]:
        number = 0
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=self._columns):
                # batches have the order of the file
                for item, *values in self._rows(batch.select(self._columns)):
                    number += 1
                    yield Row(number, item, values)
        except (pa.ArrowException, OSError) as error:
            raise self._malformed(error) from error

    def _rows(self, batch: pa.RecordBatch) -> Iterator[tuple[str, ...]]:
        """Return the rows of a batch as texts; missing values are empty.

        Raises:
            ValueError: the texts are far longer than titles.
        """
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_dictionary(column.type):
                num_bytes = _text_bytes(column)
                if num_bytes > MAX_BATCH_BYTES:
                    raise ValueError(
                        f"{self._url}: {len(column):,} rows of {name} have {num_bytes:,} bytes. "
                        "Shorten them"
                    )
            columns.append(_texts(column))
        return zip(*columns, strict=True)

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


def _text_bytes(column: pa.DictionaryArray) -> int:
    """Return the bytes of a column of texts once it is decoded."""
    is_number = not pa.types.is_string(column.dictionary.type)
    return 0 if is_number else text_bytes(pa.chunked_array([column]))


def _texts(column: pa.Array) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return cast("list[str]", column.cast(pa.large_string()).fill_null("").to_pylist())
