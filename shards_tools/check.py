"""Compares every byte of a data set with what dataset.json and the catalogue say of it."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    ORACLE_FILE,
    Catalogue,
    DatasetInfo,
    FileInfo,
    Member,
    NoDatasetError,
    id_fault,
    item_key,
    raw_user_array,
    read_blocks,
    read_catalogue,
    read_dataset_info,
    read_oracle,
)
from mlrec.metrics import METRICS
from mlrec.progress import Task, megabytes, task
from shards_tools.split import Sequences, split_counts, training_popularity

BATCH = 32
"""Items that are decoded."""


def check(url: str) -> Iterator[str]:
    """Yield one line per fault of the data set at `url`; nothing where all is well.

    Raises:
        NoDatasetError: there is no data set.
    """
    try:
        info = read_dataset_info(url)
    except NoDatasetError:
        raise
    except ValueError as error:  # without it nothing else can be judged
        yield str(error)
        return
    with task("checking", sum(file.size for file in info.files), megabytes) as under_way:
        yield from _faults(url, info, under_way)


def _faults(url: str, info: DatasetInfo, under_way: Task) -> Iterator[str]:
    shards = {*info.shards("items"), *info.shards("sequences")}
    damaged = False
    for file in info.files:
        if file not in shards:
            for fault in check_file(url, file, [], under_way):
                damaged |= file.path == CATALOGUE_FILE
                yield fault
    if damaged:
        return  # without the catalogue there is nothing to compare the shards with
    try:
        catalogue = read_catalogue(url, info)
    except ValueError as error:
        yield str(error)
        return
    if info.has(ORACLE_FILE):
        try:
            read_oracle(url, info, METRICS)
        except ValueError as error:
            yield str(error)
    healthy = True
    for shard, file in enumerate(info.shards("items")):
        for fault in check_file(url, file, _members_of(catalogue, shard), under_way):
            healthy = False
            yield fault
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
    """Yield faults of the sequence shards, and of the counts that sequences and catalogue add up to."""
    counts: Counter[str] = Counter(items=catalogue.size, failed_items=int((~catalogue.ok_N1[1:]).sum()))
    popularity_N1 = np.zeros(catalogue.size + 1, dtype=np.int64)
    users: list[np.ndarray] = []
    raw_users: list[pa.LargeStringArray] = []
    for file in info.shards("sequences"):
        if faults := list(check_file(url, file, [], under_way)):
            yield from faults
            return  # counts over a part of the users would differ for no other reason
        try:
            with storage.open_stream(storage.join(url, file.path), file.size) as stream:
                for block in read_blocks(stream, info.split, catalogue.ok_N1):
                    sequences = Sequences(block.users, block.offsets, block.items)
                    counts.update(split_counts(sequences, info.split))
                    popularity_N1 += training_popularity(sequences, info.split, catalogue.size)
                    users.append(block.users)
                    if block.raw_users is not None and block.raw_user_offsets is not None:
                        raw_users.append(raw_user_array(block.raw_users, block.raw_user_offsets))
        except ValueError as error:
            yield f"{file.path}: {error}"
            return
    if fault := id_fault(np.concatenate(users), pa.chunked_array(raw_users, pa.large_string())):
        yield f"sequences: {fault}"
    for name, count in sorted(counts.items()):
        if info.counts.get(name) != count:
            yield f"dataset.json: says {info.counts.get(name)} {name}, the files hold {count}"
    if wrong := np.flatnonzero(popularity_N1 != catalogue.popularity_N1).tolist():
        yield f"catalogue.parquet: the popularity of {len(wrong)} items, the first {wrong[0]}, is not their count in training"


def _check_batch(url: str, info: DatasetInfo, catalogue: Catalogue) -> Iterator[str]:
    """Faults of a batch of items, spread over the catalogue, that is decoded as training does it."""
    from mlrec.data.decode import decode_items
    from mlrec.schema import AUDIO_RATE, InputSpec, Modality

    inputs = {
        Modality.VIDEO: (info.media.kind != "none", ""),
        Modality.COVER: (info.media.has_cover, "cover.jpg"),
        Modality.AUDIO: (info.media.has_audio, "flac"),
    }
    readable = np.flatnonzero(catalogue.ok_N1)
    for item in readable[:: max(1, len(readable) // BATCH)][:BATCH].tolist():
        path = info.shards("items")[int(catalogue.shard_N1[item])].path
        members = {
            member.name: storage.read_range(storage.join(url, path), member.offset, member.size)
            for member in catalogue.members(item)
        }
        for modality, (stored, optional) in inputs.items():
            if not stored or (optional and optional not in members):
                continue
            spec = InputSpec(modality, info.media.frames, info.media.size, length=AUDIO_RATE)
            try:
                _, _, reasons = decode_items([(item, members)], 1, [spec], info.media)
            except KeyError as error:
                reasons = {item: f"it has no {error}"}
            if reasons:
                yield f"{path}: the {modality.value} of item {item} cannot be decoded: {reasons[item]}"
