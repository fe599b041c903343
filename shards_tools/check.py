"""Compares every byte of a data set with what dataset.json and the catalogue say of it, and decodes every item."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import IO

import numpy as np
import pyarrow as pa

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    FAILURES_FILE,
    ORACLE_FILE,
    Catalogue,
    DatasetInfo,
    FileInfo,
    MediaInfo,
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
from mlrec.evaluation.metrics import METRICS
from mlrec.runtime.printable import brief
from mlrec.runtime.progress import Task, megabytes, task
from shards_tools.pack.items import read_failures
from shards_tools.raw.split import Sequences, split_counts, training_popularity

ITEMS_IN_FLIGHT = 64
"""Items whose members are held at once while they wait for being decoded."""


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
    damaged = set()
    for file in info.files:
        if file not in shards:
            for fault in check_file(url, file, [], under_way):
                damaged.add(file.path)
                yield fault
    if CATALOGUE_FILE in damaged:
        return  # without the catalogue there is nothing to compare the shards with
    try:
        catalogue = read_catalogue(url, info)
    except ValueError as error:
        yield str(error)
        return
    if info.has(FAILURES_FILE) and FAILURES_FILE not in damaged:
        where = storage.join(url, FAILURES_FILE)
        try:
            list(read_failures(storage.read_bytes(where), where))
        except ValueError as error:
            yield str(error)
    if info.has(ORACLE_FILE) and ORACLE_FILE not in damaged:
        try:
            read_oracle(url, info, METRICS)
        except ValueError as error:
            yield str(error)
    with _Decoding(info) as decoding:
        for shard, file in enumerate(info.shards("items")):
            members = _members_of(catalogue, shard)
            decoding.begin(file.path, [name for name, _ in members])
            for fault in check_file(url, file, members, under_way, decoding.take):
                yield fault
                yield from decoding.faults()
            yield from decoding.faults(of_all=True)
    yield from check_counts(url, info, catalogue, under_way)


def _members_of(catalogue: Catalogue, shard: int) -> list[tuple[str, Member]]:
    """(name in the tar file, member) of an item shard's members, in the order of their offsets."""
    items = np.flatnonzero(catalogue.shard_N1 == shard).tolist()
    named = [
        (f"{item_key(item)}.{member.name}", member)
        for item in items
        for member in catalogue.members(item)
    ]
    return sorted(named, key=lambda entry: entry[1].offset)


def check_file(
    url: str,
    file: FileInfo,
    members: list[tuple[str, Member]],
    under_way: Task,
    use: Callable[[str, bytes], None] = lambda name, data: None,
) -> Iterator[str]:
    """Yield faults of one file, which is read once: its members' headers and crc32, its length, its sha256.

    Args:
        members: (name in the tar file, member), in the order of their offsets.
        under_way: is told the bytes that were read.
        use: gets the name and the content of each intact member.
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
                else:
                    use(name, data)
            while take(stream, storage.READ_BYTES):
                pass
    except FileNotFoundError:
        yield f"{file.path}: missing"
        return
    except OSError as error:
        yield f"{file.path}: cannot be read ({brief(error)})"
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


def check_counts(
    url: str, info: DatasetInfo, catalogue: Catalogue, under_way: Task
) -> Iterator[str]:
    """Yield faults of the sequence shards, and of the counts that sequences and catalogue add up to."""
    counts: Counter[str] = Counter(
        items=catalogue.size, failed_items=int((~catalogue.ok_N1[1:]).sum())
    )
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


class _Decoding:
    """Decodes items in threads as training does it, while the members of the next ones are read."""

    def __init__(self, info: DatasetInfo) -> None:
        self._media = info.media
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1)
        self._running: deque[Future[list[str]]] = deque()
        self._path = ""
        self._missing: Counter[int] = Counter()
        """Members of each item that are still to come."""
        self._members: dict[int, dict[str, bytes]] = {}

    def __enter__(self) -> _Decoding:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def begin(self, path: str, names: Iterable[str]) -> None:
        """Expect the members of these names, of the item shard at `path`."""
        self._path, self._members = path, {}
        self._missing = Counter(int(name.partition(".")[0]) for name in names)

    def take(self, name: str, data: bytes) -> None:
        """Decode the item of this member if it is the last one; waits while many items are under way."""
        key, _, member = name.partition(".")
        item = int(key)
        self._members.setdefault(item, {})[member] = data
        self._missing[item] -= 1
        if not self._missing[item]:
            if len(self._running) >= ITEMS_IN_FLIGHT:
                wait([self._running[-ITEMS_IN_FLIGHT]])
            job = self._threads.submit(
                _decoding_faults, self._path, item, self._members.pop(item), self._media
            )
            self._running.append(job)

    def faults(self, of_all: bool = False) -> Iterator[str]:
        """Yield the faults of items that are decoded; with `of_all`, wait for all that were taken."""
        while self._running and (of_all or self._running[0].done()):
            yield from self._running.popleft().result()


def _decoding_faults(
    path: str, item: int, members: dict[str, bytes], media: MediaInfo
) -> list[str]:
    from mlrec.data.decode import decode_items
    from mlrec.data.schema import AUDIO_RATE, InputSpec, Modality

    inputs = {
        Modality.VIDEO: (media.kind != "none", ""),
        Modality.COVER: (media.has_cover, "cover.jpg"),
        Modality.AUDIO: (media.has_audio, "flac"),
    }
    faults = []
    for modality, (stored, optional) in inputs.items():
        if not stored or (optional and optional not in members):
            continue
        spec = InputSpec(modality, media.frames, media.size, length=AUDIO_RATE)
        try:
            _, _, reasons = decode_items([(item, members)], 1, [spec], media)
        except KeyError as error:
            reasons = {item: f"it has no {error}"}
        faults += [
            f"{path}: the {modality.value} of item {item} cannot be decoded: {reason}"
            for reason in reasons.values()
        ]
    return faults
