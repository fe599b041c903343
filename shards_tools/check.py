"""Compares every byte of a data set with what dataset.json and the catalogue say of it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO, cast

import numpy as np

from mlrec import storage
from mlrec.data.format import Catalogue, DatasetInfo, FileInfo, Member, item_key, read_catalogue, read_dataset_info, read_npy
from mlrec.progress import Task, megabytes, task
from shards_tools.split import Sequences, split_counts, training_popularity

BATCH = 32
"""Items that are decoded."""


def check(url: str) -> Iterator[str]:
    """Yields one line per fault of the data set at `url`; nothing where all is well.

    Raises:
        ValueError: there is no data set.
    """
    info = read_dataset_info(url)
    with task("checking", sum(file.size for file in info.files), megabytes) as under_way:
        yield from _faults(url, info, under_way)


def _faults(url: str, info: DatasetInfo, under_way: Task) -> Iterator[str]:
    shards = {*info.shards("items"), *info.shards("sequences")}
    for file in info.files:
        if file not in shards:
            yield from check_file(url, file, [], under_way)
    try:
        catalogue = read_catalogue(url, info)
    except (ValueError, FileNotFoundError):
        return  # its own fault is told already, and without it there is nothing to compare the shards with
    healthy, item_shards = True, info.shards("items")
    for shard, file in enumerate(item_shards):
        for fault in check_file(url, file, _members_of(catalogue, shard), under_way):
            healthy = False
            yield fault
    for shard in np.unique(catalogue.shard_N1[catalogue.shard_N1 >= len(item_shards)]).tolist():
        yield f"the catalogue names items of item shard {shard}, which dataset.json does not have"
    yield from check_counts(url, info, catalogue, under_way)
    if healthy:
        yield from _check_batch(url, info, catalogue)


def _members_of(catalogue: Catalogue, shard: int) -> list[tuple[str, Member]]:
    """(name in the tar file, member) of an item shard's members, in the order of their offsets."""
    items = np.flatnonzero(catalogue.shard_N1 == shard).tolist()
    named = [(f"{item_key(item)}.{member.name}", member) for item in items for member in catalogue.members(item)]
    return sorted(named, key=lambda entry: entry[1].offset)


def check_file(url: str, file: FileInfo, members: list[tuple[str, Member]], under_way: Task) -> Iterator[str]:
    """Faults of one file, which is read once: its members' headers and crc32, its length, its sha256.

    Args:
        members: (name in the tar file, member), in the order of their offsets.
        under_way: is told the bytes that were read.
    """
    digest, position, faults, absent = hashlib.sha256(), 0, 0, 0

    def take(stream: IO[bytes], size: int) -> bytes:
        nonlocal position
        data = stream.read(size)
        digest.update(data)
        position += len(data)
        under_way.advance(len(data))
        return data

    try:
        with storage.open_stream(storage.join(url, file.path)) as stream:
            for name, member in members:
                header, data = take(stream, member.offset - position), take(stream, member.size)
                if len(data) < member.size:
                    absent += 1
                elif zlib.crc32(data) != member.crc32:
                    faults += 1
                    yield f"{file.path}: {name} does not have the crc32 that the catalogue names"
                elif _name_in(header) != name:
                    faults += 1
                    yield f"{file.path}: {name} is not at the offset that the catalogue names"
            while take(stream, storage.READ_BYTES):
                pass
    except FileNotFoundError:
        yield f"{file.path}: missing"
        return
    if position != file.size:
        lost = f"; {absent} members are lost" if absent else ""
        yield f"{file.path}: is {position} bytes long, dataset.json says {file.size}{lost}"
    elif not faults and digest.hexdigest() != file.sha256:
        yield f"{file.path}: does not have the sha256 that dataset.json names"


def _name_in(header: bytes) -> str:
    """The name in the tar header that ends `header`, "" where there is none."""
    try:
        return tarfile.TarInfo.frombuf(header[-tarfile.BLOCKSIZE :], "utf-8", "strict").name
    except (tarfile.HeaderError, UnicodeDecodeError):
        return ""


def check_counts(url: str, info: DatasetInfo, catalogue: Catalogue, under_way: Task) -> Iterator[str]:
    """Faults of the sequence shards, and of the counts that sequences and catalogue add up to."""
    counts: Counter[str] = Counter(items=catalogue.size, failed_items=int((~catalogue.ok_N1[1:]).sum()))
    popularity_N1 = np.zeros(catalogue.size + 1, dtype=np.int64)
    for file in info.shards("sequences"):
        if faults := list(check_file(url, file, [], under_way)):
            yield from faults
            return  # counts over a part of the users would differ for no other reason
        for sequences in _read_sequences(storage.read_bytes(storage.join(url, file.path))):
            if not catalogue.ok_N1[np.clip(sequences.items, 0, catalogue.size)].all() or sequences.items.max() > catalogue.size:
                yield f"{file.path}: holds items that are not in the catalogue, or failed"
                return
            counts.update(split_counts(sequences, info.split))
            popularity_N1 += training_popularity(sequences, info.split, catalogue.size)
    for name, count in sorted(counts.items()):
        if info.counts.get(name) != count:
            yield f"dataset.json: says {info.counts.get(name)} {name}, the files hold {count}"
    if wrong := np.flatnonzero(popularity_N1 != catalogue.popularity_N1).tolist():
        yield f"catalogue.parquet: the popularity of {len(wrong)} items, the first {wrong[0]}, is not their count in training"


def _read_sequences(shard: bytes) -> Iterator[Sequences]:
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        arrays: dict[str, np.ndarray] = {}
        for member in tar:
            key, name = member.name.split(".", 1)
            arrays[f"{key}.{name}"] = read_npy(cast("IO[bytes]", tar.extractfile(member)).read())
        for key in sorted({name.split(".", 1)[0] for name in arrays}):
            yield Sequences(*(arrays[f"{key}.{name}.npy"] for name in ("users", "offsets", "items")))


def _check_batch(url: str, info: DatasetInfo, catalogue: Catalogue) -> Iterator[str]:
    """Faults of a batch of items, spread over the catalogue, that is decoded as training does it."""
    from mlrec.data.decode import decode_items
    from mlrec.schema import InputSpec, Modality

    inputs = {Modality.VIDEO: info.media.kind != "none", Modality.COVER: info.media.has_cover}
    readable = np.flatnonzero(catalogue.ok_N1)
    for item in readable[:: max(1, len(readable) // BATCH)][:BATCH].tolist():
        path = info.shards("items")[int(catalogue.shard_N1[item])].path
        members = {
            member.name: storage.read_range(storage.join(url, path), member.offset, member.size)
            for member in catalogue.members(item)
        }
        for modality, stored in inputs.items():
            if not stored or (modality == Modality.COVER and "cover.jpg" not in members):
                continue
            spec = InputSpec(modality, info.media.frames, info.media.size)
            try:
                _, _, reasons = decode_items([(item, members)], 1, [spec], info.media)
            except KeyError as error:
                reasons = {item: f"it has no {error}"}
            if reasons:
                yield f"{path}: the {modality.value} of item {item} cannot be decoded: {reasons[item]}"
