"""Check the counts of dataset.json and the popularity of the catalogue against the sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mlrec import storage
from mlrec.data.format import (
    Catalogue,
    DatasetInfo,
    FileInfo,
    id_fault,
    raw_user_array,
    read_blocks,
    read_catalogue,
)
from mlrec.runtime.progress import Task
from shards_tools.check.files import check_file
from shards_tools.raw.split import Sequences, split_counts, training_popularity


def check_counts(
    url: str, info: DatasetInfo, catalogue: Catalogue, progress: Task
) -> Iterator[str]:
    """Yield the faults of the sequence shards, then those of the counts that they add up to."""
    totals = _Totals(info, catalogue)
    for file in info.shards("sequences"):
        faults = list(check_file(url, file, progress))
        # a shard with wrong bytes is not parsed
        if not faults:
            faults = totals.add_shard(url, file)
        if faults:
            yield from faults
            # counts over only a part of the users would differ for no other reason
            return
    yield from totals.faults()


def contradiction(url: str, info: DatasetInfo) -> str:
    """Return the first fault of the counts of a data set whose files are all intact; "" if none."""
    try:
        catalogue = read_catalogue(url, info)
        return next(check_counts(url, info, catalogue, Task(0)), "")
    except ValueError as error:
        return str(error)


class _Totals:
    """Counts, popularity and users, added up over the sequence shards."""

    def __init__(self, info: DatasetInfo, catalogue: Catalogue) -> None:
        self._info = info
        self._catalogue = catalogue
        num_failed = int((~catalogue.ok_N1[1:]).sum())
        self._counts: Counter[str] = Counter(items=catalogue.size, failed_items=num_failed)
        self._popularity_N1 = np.zeros(catalogue.size + 1, dtype=np.int64)
        self._users: list[np.ndarray] = []
        self._raw_users: list[pa.LargeStringArray] = []

    def add_shard(self, url: str, file: FileInfo) -> list[str]:
        """Add all blocks of a sequence shard, and return its fault, if any."""
        info = self._info
        try:
            with storage.open_stream(storage.join(url, file.path), file.size) as stream:
                for block in read_blocks(stream, info.split, self._catalogue.ok_N1):
                    self._add(Sequences(block.users, block.offsets, block.items, block.times))
                    if block.raw_users is not None and block.raw_user_offsets is not None:
                        raw_users = raw_user_array(block.raw_users, block.raw_user_offsets)
                        self._raw_users.append(raw_users)
        except ValueError as error:
            return [f"{file.path}: {error}"]
        return []

    def _add(self, sequences: Sequences) -> None:
        split = self._info.split
        self._counts.update(split_counts(sequences, split))
        self._popularity_N1 += training_popularity(sequences, split, self._catalogue.size)
        self._users.append(sequences.users)

    def faults(self) -> Iterator[str]:
        """Yield the faults of user ids, counts and popularity over all shards."""
        raw_users = pa.chunked_array(self._raw_users, pa.large_string())
        # over all shards: a user may occur in two of them
        fault = id_fault(np.concatenate(self._users), raw_users)
        if fault:
            yield f"sequences: {fault}"
        # Counts of lost interactions are about the raw folder, and are not here.
        for name, count in sorted(self._counts.items()):
            recorded = self._info.counts.get(name)
            if recorded != count:
                yield f"dataset.json: says {recorded} {name}, the files hold {count}"
        yield from _part_faults(self._info, self._catalogue)
        is_wrong = self._popularity_N1 != self._catalogue.popularity_N1
        wrong_items = np.flatnonzero(is_wrong).tolist()
        if wrong_items:
            yield (
                f"catalogue.parquet: the popularity of {len(wrong_items)} items, "
                f"the first {wrong_items[0]}, is not their count in training"
            )


def _part_faults(info: DatasetInfo, catalogue: Catalogue) -> Iterator[str]:
    """Yield the faults of the counts of packed items without title, cover or audio."""
    num_packed = int(catalogue.ok_N1.sum())
    # A cover lacks if there is no file, or if the file failed. Each has a count of its own.
    num_lacking: dict[tuple[str, ...], int] = {}
    num_lacking[("items_without_title",)] = _num_untitled(catalogue)
    if info.media.has_cover:
        cover_keys = ("items_without_cover", "failed_covers")
        num_lacking[cover_keys] = num_packed - catalogue.items_with("cover.jpg")
    if info.media.has_audio:
        audio_keys = ("items_without_audio", "failed_audio")
        num_lacking[audio_keys] = num_packed - catalogue.items_with("flac")
    for keys, count in num_lacking.items():
        # data sets of version 1 lack some of these counts
        recorded = [info.counts[key] for key in keys if key in info.counts]
        if recorded and sum(recorded) != count:
            names = " and ".join(keys)
            yield f"dataset.json: says {sum(recorded)} {names}, the catalogue has {count}"


def _num_untitled(catalogue: Catalogue) -> int:
    """Return the number of packed items without a title."""
    titles = catalogue.table["title"].filter(pa.array(catalogue.ok_N1[1:]))
    num_untitled: int = titles.to_pylist().count("")
    return num_untitled
