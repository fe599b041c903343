"""Checks of the rows of a catalogue, shared by training, serving and mlrec-shards check."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format.dataset_info import DatasetInfo

TAR_BLOCK_BYTES = 512
MAX_MEMBER_BYTES = 256 << 20
"""The largest member of a sample: clips of minutes and hours of FLAC stay far below."""
MAX_RAW_ID_BYTES = 1024
MAX_TITLE_BYTES = 1 << 20

_MEMBER_NAME = re.compile(r"(0|[1-9]\d{0,4})\.jpg|cover\.jpg|mp4|txt|flac|json", re.ASCII)


def catalogue_faults(table: pa.Table, info: DatasetInfo) -> Iterator[str]:
    """Yield one sentence per fault of a table that has the catalogue's columns and types.

    A fault that would make later checks meaningless ends the list.
    """
    for name in table.schema.names:
        if table[name].null_count:
            yield f"{table[name].null_count} rows have no {name}"
            return
    yield from _id_faults(table)
    yield from _number_faults(table, info)
    yield from _sample_faults(table, info)


def _id_faults(table: pa.Table) -> Iterator[str]:
    """Yield faults of item numbers, raw ids and titles."""
    size = table.num_rows
    # The arrays of Catalogue are indexed by item id, so ids must be the row numbers plus 1.
    if wrong := _rows(table["item"].to_numpy() != np.arange(1, size + 1)):
        yield f"row {wrong[0]} has item number {table['item'][wrong[0]]}, expected {wrong[0] + 1}"
    raw_id_bytes = pc.binary_length(table["raw_id"]).to_numpy()
    if wrong := _rows((raw_id_bytes < 1) | (raw_id_bytes > MAX_RAW_ID_BYTES)):
        yield (
            f"item {wrong[0] + 1} has a raw id of {raw_id_bytes[wrong[0]]} bytes, "
            f"expected 1 to {MAX_RAW_ID_BYTES}"
        )
    distinct = pc.count_distinct(table["raw_id"]).as_py()
    if distinct != size:
        repeated = pc.value_counts(table["raw_id"].combine_chunks())
        first = repeated.filter(pc.greater(repeated.field("counts"), 1))[0]["values"].as_py()
        yield (
            f"{size} items have {distinct} different raw ids; {first[:40]!r} occurs more than once"
        )
    title_bytes = pc.binary_length(table["title"]).to_numpy()
    if wrong := _rows(title_bytes > MAX_TITLE_BYTES):
        yield (
            f"item {wrong[0] + 1} has a title of {title_bytes[wrong[0]]:,} bytes, "
            f"at most {MAX_TITLE_BYTES:,} are read"
        )


def _number_faults(table: pa.Table, info: DatasetInfo) -> Iterator[str]:
    """Yield faults of the counts that belong to items."""
    for name in ("popularity", "likes", "views"):
        if wrong := _rows(table[name].to_numpy() < 0):
            yield f"item {wrong[0] + 1} has {table[name][wrong[0]]} {name}"
    trained = int(table["popularity"].to_numpy().astype(np.int64).sum())
    if trained != info.counts["train"]:
        yield (
            f"the popularities add up to {trained}, "
            f"dataset.json says {info.counts['train']} training interactions"
        )


def _sample_faults(table: pa.Table, info: DatasetInfo) -> Iterator[str]:
    """Yield faults of status, shard and members."""
    status = table["status"].combine_chunks()
    if unknown := set(pc.unique(status).to_pylist()) - {"ok", "failed"}:
        yield f"an item has the status {min(unknown)[:40]!r}, expected ok or failed"
        return
    ok_N = pc.equal(status, "ok").to_numpy(zero_copy_only=False)
    failed = int((~ok_N).sum())
    if failed != info.counts["failed_items"]:
        yield (
            f"{failed} items have the status failed, "
            f"dataset.json says {info.counts['failed_items']}"
        )
    shard_N = table["shard"].to_numpy()
    shards = info.shards("items")
    if wrong := _rows(np.where(ok_N, (shard_N < 0) | (shard_N >= len(shards)), shard_N != -1)):
        yield (
            f"{len(wrong)} items, the first {wrong[0] + 1}, are in item shard {shard_N[wrong[0]]}, "
            f"dataset.json has {len(shards)} item shards"
        )
        return
    # In this order, an overlap is always one of neighbours, which is all _place_faults compares.
    if np.any(np.diff(shard_N[ok_N]) < 0):
        yield "the items of the shards are not in ascending order"
    # Members are checked only below: they are looked up by the shard numbers checked above.
    members = table["members"].combine_chunks()
    counts_N = np.diff(members.offsets.to_numpy())
    if wrong := _rows((counts_N > 0) != ok_N):
        yield (
            f"item {wrong[0] + 1} has {counts_N[wrong[0]]} members "
            f"and the status {status[int(wrong[0])]}"
        )
        return
    shard_bytes = np.array([shard.size for shard in shards], dtype=np.int64)
    feature_members = {f"{name}.npy" for name in info.media.features}
    yield from _member_faults(members, shard_N, shard_bytes, feature_members)


def _member_faults(
    members: pa.ListArray,
    shard_N: np.ndarray,
    shard_bytes: np.ndarray,
    feature_members: Container[str],
) -> Iterator[str]:
    """Yield faults of the members' names and places, with M members of all items together.

    Args:
        feature_members: names of the members that hold features.
    """
    # Invariant: entry m of every array ending in _M belongs to the same member.
    fields = members.flatten()
    item_M = np.repeat(np.arange(len(members)), np.diff(members.offsets.to_numpy()))
    if (
        any(fields.field(name).null_count for name in ("name", "offset", "size", "crc32"))
        or fields.null_count
    ):
        yield "a member lacks its name, offset, size or crc32"
        return
    names = fields.field("name")
    if not pa.types.is_dictionary(names.type):
        names = names.dictionary_encode()
    unknown_name = _unknown_name_fault(names, feature_members)
    if unknown_name:
        yield unknown_name
        return
    if _has_repeated_name(names, item_M):
        yield "an item has two members of one name"
    yield from _place_faults(fields, item_M, shard_N[item_M], shard_bytes)


def _unknown_name_fault(names: pa.DictionaryArray, feature_members: Container[str]) -> str:
    """Return the fault of the first member name that no sample holds, "" if none."""
    known = names.dictionary.to_pylist()
    # A dictionary may hold more names than occur.
    for code in np.unique(names.indices.to_numpy()).tolist():
        name = known[code]
        if name is None or not (_MEMBER_NAME.fullmatch(name) or name in feature_members):
            return f"a member is called {str(name)[:40]!r}, which no sample holds"
    return ""


def _has_repeated_name(names: pa.DictionaryArray, item_M: np.ndarray) -> bool:
    """Return whether an item has two members of one name."""
    known = names.dictionary.to_pylist()
    codes_M = names.indices.to_numpy().astype(np.int64)
    # A hostile dictionary may hold one name under several codes: count the first of them only.
    first_code: dict[str, int] = {}
    for code, name in enumerate(known):
        first_code.setdefault(name, code)
    name_M = np.array([first_code[name] for name in known])[codes_M]
    keys_M = item_M * len(known) + name_M
    return len(np.unique(keys_M)) != len(keys_M)


def _place_faults(
    fields: pa.StructArray, item_M: np.ndarray, shard_M: np.ndarray, shard_bytes: np.ndarray
) -> Iterator[str]:
    """Yield faults of the members' sizes and offsets.

    The members of one sample are adjacent in its shard, so that one read covers them.
    """
    offset_M = fields.field("offset").to_numpy()
    size_M = fields.field("size").to_numpy()
    if wrong := _rows((size_M < 0) | (size_M > MAX_MEMBER_BYTES)):
        yield (
            f"item {item_M[wrong[0]] + 1} has a member of {size_M[wrong[0]]:,} bytes, "
            f"at most {MAX_MEMBER_BYTES:,} are read"
        )
        return
    limit_M = shard_bytes[shard_M]
    # Compared by subtraction: offset plus size could overflow int64. Sizes are checked above.
    if wrong := _rows(
        (offset_M < TAR_BLOCK_BYTES)
        | (offset_M % TAR_BLOCK_BYTES != 0)
        | (offset_M > limit_M - size_M)
    ):
        at = wrong[0]
        # Python numbers, because this sum may exceed int64.
        end = int(offset_M[at]) + int(size_M[at])
        yield (
            f"item {item_M[at] + 1} has a member at bytes {offset_M[at]} to {end} "
            f"of a shard of {limit_M[at]} bytes"
        )
        return
    # In a tar file a header block comes before each member, and zeros fill its last block.
    padded_M = -(-size_M // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    follows_M = offset_M[1:] == offset_M[:-1] + padded_M[:-1] + TAR_BLOCK_BYTES
    if wrong := _rows(~follows_M & (item_M[1:] == item_M[:-1])):
        yield f"the members of item {item_M[wrong[0]] + 1} do not stand side by side in its shard"
        return
    if wrong := _rows(
        (offset_M[1:] < offset_M[:-1] + padded_M[:-1]) & (shard_M[1:] == shard_M[:-1])
    ):
        first = item_M[wrong[0]] + 1
        second = item_M[wrong[0] + 1] + 1
        yield f"the members of items {first} and {second} overlap in their shard"


def _rows(where: np.ndarray) -> list[int]:
    """Return the indices at which a bool array holds, in order."""
    rows: list[int] = np.flatnonzero(where).tolist()
    return rows
