"""catalogue.parquet: one row per item, by id 1 ... N, with the places of its members."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from mlrec import storage
from mlrec.data.format.catalogue_checks import catalogue_faults
from mlrec.data.format.dataset_info import CATALOGUE_FILE, DATASET_FILE, REMEDY, DatasetInfo
from mlrec.runtime.printable import brief
from mlrec.storage.parquet_text import text_bytes
from mlrec.storage.typed_json import STRICT

CATALOGUE_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),
        ("raw_id", pa.string()),
        ("title", pa.string()),
        ("popularity", pa.int32()),
        ("likes", pa.int64()),
        ("views", pa.int64()),
        ("status", pa.string()),
        ("shard", pa.int32()),
        (
            # Places in the tar file, so that one ranged read fetches a sample from remote storage.
            "members",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("offset", pa.int64()),
                        ("size", pa.int64()),
                        ("crc32", pa.uint32()),
                    ]
                )
            ),
        ),
    ]
)
"""Columns of the catalogue.

popularity counts training interactions. status is ok or failed. An item without a sample has
shard -1 and no members.
"""

MEMBERS_BESIDE_FRAMES = 8
"""Most members of an item in addition to its frames: a clip, a cover, a title, audio and spares."""
_TEXTS = ("raw_id", "title", "status")
"""Columns that are read as dictionaries.

A long text that occurs in every row takes few bytes in the file, but many in memory.
Reading dictionaries costs 0.7 CPU seconds for a million items.
"""
FREE_TABLE_BYTES = 256 << 20
"""Bytes that any table may take in memory."""
BYTES_PER_ITEM = 2048
"""Bytes that a table may take in addition for each item; real tables take about 250."""
MAX_COLUMNS = 64
"""Leaf columns of the table; there are 12."""


@dataclass(frozen=True)
class Member:
    """Where one member of an item's sample lies in its shard."""

    __pydantic_config__ = STRICT

    name: str
    """The field of the sample: "0.jpg", "mp4", "cover.jpg", "txt", "flac", "json", "NAME.npy"."""
    offset: Annotated[int, Field(ge=0, lt=1 << 62)]
    size: Annotated[int, Field(ge=0, lt=1 << 62)]
    crc32: Annotated[int, Field(ge=0, lt=1 << 32)]


class MemberPlaces(NamedTuple):
    """Places of n items' members of K wanted names in their shards."""

    present_nK: np.ndarray
    """bool: the members that an item has. The other arrays are 0 elsewhere."""
    offset_nK: np.ndarray
    """int64: first byte in the shard."""
    size_nK: np.ndarray
    """int64: number of bytes."""
    crc_nK: np.ndarray
    """uint32: crc32 of the bytes."""


class Catalogue:
    """The items of a data set; arrays are indexed by item id, row 0 is padding."""

    def __init__(self, table: pa.Table) -> None:
        """Copy the columns that are read often to arrays.

        Args:
            table: of CATALOGUE_SCHEMA, without faults.
        """
        # As Python objects, the members of a million items would take a gigabyte: keep arrays.
        self.table = table.drop_columns("members")
        """Table without the column of members."""
        self.size = table.num_rows
        """N: the number of items."""
        self.popularity_N1 = self._column("popularity", np.int64)
        self.shard_N1 = self._column("shard", np.int32, padding=-1)
        self.ok_N1 = np.concatenate(
            [[False], np.asarray(table["status"].to_numpy(zero_copy_only=False) == "ok")]
        )
        """bool: items that training and ranking use."""
        # Invariant: item i has the members _starts[i - 1] to _starts[i] of the arrays below.
        members = table["members"].combine_chunks()
        self._starts = members.offsets.to_numpy()
        # The offsets count from the start of `values`, not of what the list's own flatten returns.
        names, *numbers = members.values.flatten()
        encoded = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
        self._names = encoded.dictionary.to_pylist()
        # Half the memory of int32; a data set of MAX_FRAMES frames has about 10,000 names.
        self._name_codes = encoded.indices.to_numpy().astype(np.uint16)
        self._offsets, self._sizes, self._crcs = (part.to_numpy() for part in numbers)
        self._columns: dict[tuple[str, ...], np.ndarray] = {}

    def _column(self, name: str, dtype: type, padding: int = 0) -> np.ndarray:
        return np.concatenate([[padding], self.table[name].to_numpy()]).astype(dtype)

    def members(self, item: int) -> list[Member]:
        """Return the members of the item's sample, in the order of the shard."""
        run = slice(self._starts[item - 1], self._starts[item])
        names = map(self._names.__getitem__, self._name_codes[run].tolist())
        return list(
            map(
                Member,
                names,
                *(numbers[run].tolist() for numbers in (self._offsets, self._sizes, self._crcs)),
            )
        )

    def places(self, items_n: np.ndarray, names: Sequence[str]) -> MemberPlaces:
        """Return the places of the items' members of the given names."""
        # Invariant: entry m of every array ending in _M belongs to the same member of all items'.
        first_n = self._starts[items_n - 1]
        count_n = self._starts[items_n] - first_n
        row_M = np.repeat(np.arange(len(items_n)), count_n)
        # Entry m of all members is this much further than entry m of these items' members.
        shift_n = first_n - (np.cumsum(count_n) - count_n)
        entry_M = np.arange(len(row_M)) + shift_n[row_M]
        column_M = self._columns_of(tuple(names))[self._name_codes[entry_M]]
        is_wanted_M = column_M >= 0
        cells = row_M[is_wanted_M], column_M[is_wanted_M]
        wanted_entries = entry_M[is_wanted_M]
        shape = len(items_n), len(names)
        places = MemberPlaces(
            present_nK=np.zeros(shape, dtype=bool),
            offset_nK=np.zeros(shape, dtype=np.int64),
            size_nK=np.zeros(shape, dtype=np.int64),
            crc_nK=np.zeros(shape, dtype=np.uint32),
        )
        places.present_nK[cells] = True
        places.offset_nK[cells] = self._offsets[wanted_entries]
        places.size_nK[cells] = self._sizes[wanted_entries]
        places.crc_nK[cells] = self._crcs[wanted_entries]
        return places

    def _columns_of(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the index in `names` of each coded name, -1 for other names."""
        # A step asks for the same few names each time, and a catalogue may have 10,000.
        if names not in self._columns:
            index = {name: column for column, name in enumerate(names)}
            self._columns[names] = np.array([index.get(name, -1) for name in self._names])
        return self._columns[names]

    def items_with(self, member: str) -> int:
        """Return the number of items that have a member of this name."""
        if member not in self._names:
            return 0
        return int((self._name_codes == self._names.index(member)).sum())

    def bytes_of(self, items_n: np.ndarray) -> np.ndarray:
        """Return the size of all members of each item (bytes), int64 [n]."""
        ends = np.concatenate([[0], np.cumsum(self._sizes, dtype=np.int64)])
        return np.asarray(ends[self._starts[items_n]] - ends[self._starts[items_n - 1]])

    def largest_member(self, names: Sequence[str]) -> int:
        """Return the size of the largest member of these names (bytes); 0 if there is none."""
        is_wanted = self._columns_of(tuple(names))[self._name_codes] >= 0
        return int(self._sizes[is_wanted].max(initial=0))

    def title(self, item: int) -> str:
        """Return the item's title, "" where it has none."""
        return str(self.table["title"][item - 1].as_py() or "")


def read_catalogue(url: str, info: DatasetInfo) -> Catalogue:
    """Return the catalogue of the data set at `url`, checked against dataset.json.

    Raises:
        ValueError: it is missing, its bytes are not those that dataset.json names, or it is
            inconsistent.
    """
    where = storage.join(url, CATALOGUE_FILE)
    file = info.file(CATALOGUE_FILE)
    try:
        raw = storage.read_bytes(where, file.size)
    except FileNotFoundError as error:
        raise ValueError(
            f"{where} is missing, so the data set is incomplete. Copy or make it again; "
            f"mlrec-shards check {url} lists the faults"
        ) from error
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise ValueError(
            f"{where} does not have the sha256 that {DATASET_FILE} names; "
            f"mlrec-shards check {url} lists the faults"
        )
    return parse_catalogue(raw, info, where)


def parse_catalogue(raw: bytes, info: DatasetInfo, where: str) -> Catalogue:
    """Return the catalogue whose file is `raw`.

    Raises:
        ValueError: it is not a table of CATALOGUE_SCHEMA, or its rows contradict each other or
            dataset.json.
    """
    table = _read_table(raw, info, where)
    if fault := next(catalogue_faults(table, info), None):
        raise ValueError(f"{where}: {fault}. {REMEDY}.")
    catalogue = Catalogue(table)
    # With a million items arrow would otherwise hold twice the memory in use.
    pa.default_memory_pool().release_unused()
    return catalogue


def _read_table(raw: bytes, info: DatasetInfo, where: str) -> pa.Table:
    """Return a table of CATALOGUE_SCHEMA.

    Its footer is compared with dataset.json before a column is unpacked.

    Raises:
        ValueError: it is not one, or announces more than the data set's items can take.
    """
    try:
        if fault := _footer_fault(pq.ParquetFile(io.BytesIO(raw)), info):
            raise ValueError(fault)
        table = pq.ParquetFile(
            io.BytesIO(raw), read_dictionary=[*_TEXTS, "members.list.element.name"]
        ).read()
        limit = _most_bytes(info.counts["items"])
        for name in _TEXTS:
            # Measured before the cast below, which repeats the text in every row.
            if (size := text_bytes(table[name])) > limit:
                raise ValueError(
                    f"column {name} unpacks to {size:,} bytes, at most {limit:,} are read"
                )
            table = table.set_column(
                table.schema.get_field_index(name), name, table[name].cast(pa.string())
            )
        # Until it validates in full, arrow trusts the offsets and the UTF-8 of a file.
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError) as error:
        # For damaged bytes arrow raises Python's errors besides its own; all mean the same here.
        raise ValueError(f"{where} is not a catalogue: {brief(error)}. {REMEDY}.") from error


def _footer_fault(file: pq.ParquetFile, info: DatasetInfo) -> str:
    """Return the first fault of a Parquet file's rows, columns and announced size, "" if none."""
    footer = file.metadata
    items = info.counts["items"]
    if footer.num_rows != items:
        return f"it has {footer.num_rows} rows, {DATASET_FILE} says {items} items"
    if footer.num_columns > MAX_COLUMNS:
        return f"it has {footer.num_columns} columns"
    return _column_fault(file.schema_arrow) or _size_fault(footer, info)


def _column_fault(schema: pa.Schema) -> str:
    """Return the first difference between a schema and CATALOGUE_SCHEMA, "" if none."""
    types = {field.name: field.type for field in schema}
    for field in CATALOGUE_SCHEMA:
        if field.name not in types:
            return f"it has no column {field.name}"
        # A writer may have stored texts as dictionaries, which hold the same values.
        if _plain(types.pop(field.name)) != field.type:
            stored_type = schema.field(field.name).type
            return f"column {field.name} is {stored_type}, expected {field.type}"
    if types:
        return f"it has an unknown column {min(types)!r}"
    # Still possible: another order, or one name twice, which the dict above hides.
    if schema.names != CATALOGUE_SCHEMA.names:
        return f"its columns are {schema.names}, expected {CATALOGUE_SCHEMA.names}"
    return ""


def _size_fault(footer: pq.FileMetaData, info: DatasetInfo) -> str:
    """Return the first fault of the sizes that a footer announces, "" if none."""
    items = info.counts["items"]
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    unpacked = 0
    for group in groups:
        for column in range(footer.num_columns):
            unpacked += group.column(column).total_uncompressed_size
    limit = _most_bytes(items)
    if unpacked > limit:
        return f"it unpacks to {unpacked:,} bytes, at most {limit:,} are read for {items} items"
    most = items * (info.media.frames + MEMBERS_BESIDE_FRAMES + len(info.media.features))
    for place in range(footer.num_columns):
        values = sum(group.column(place).num_values for group in groups)
        # Repeated values take hardly any bytes in the file, so the size alone proves nothing.
        if values > most:
            name = groups[0].column(place).path_in_schema
            return (
                f"it has {values:,} values of {name}, at most {most:,} are read for {items} items"
            )
    return ""


def _most_bytes(items: int) -> int:
    """Return the bytes that a catalogue of `items` items may take in memory."""
    return FREE_TABLE_BYTES + BYTES_PER_ITEM * items


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type with plain texts in place of dictionaries of texts."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return kind
    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type)
        for f in kind.value_type
    ]
    return pa.list_(pa.struct(fields))


def catalogue_bytes(columns: dict[str, Any]) -> bytes:
    """Return catalogue.parquet of the columns of CATALOGUE_SCHEMA, given by name."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=CATALOGUE_SCHEMA), sink, compression="zstd")
    return sink.getvalue()
