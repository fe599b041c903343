"""Check a whole data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    ORACLE_FILE,
    Catalogue,
    DatasetInfo,
    NoDatasetError,
    item_key,
    read_catalogue,
    read_dataset_info,
    read_oracle,
)
from mlrec.evaluation.metrics import METRICS
from mlrec.runtime.progress import Task, task
from mlrec.runtime.units import megabytes
from shards_tools.check.counts import check_counts
from shards_tools.check.decoding import Decoding
from shards_tools.check.files import NamedMember, check_file
from shards_tools.pack.records import FAILURE_COUNTS, Failure, Kind, read_failures


def check(url: str) -> Iterator[str]:
    """Yield one line per fault of the data set at `url`.

    Raises:
        NoDatasetError: there is no data set.
    """
    try:
        info = read_dataset_info(url)
    except NoDatasetError:
        raise
    except ValueError as error:
        # without dataset.json nothing else can be checked
        yield str(error)
        return
    num_bytes = sum(file.size for file in info.files)
    with task("checking", num_bytes, megabytes) as progress:
        yield from _faults(url, info, progress)


def _faults(url: str, info: DatasetInfo, progress: Task) -> Iterator[str]:
    """Yield the faults of tables, then item shards, then sequence shards and counts."""
    damaged = set()
    # shards come later, when their members are known from the catalogue
    shards = {*info.shards("items"), *info.shards("sequences")}
    for file in info.files:
        if file not in shards:
            for fault in check_file(url, file, progress):
                damaged.add(file.path)
                yield fault
    if CATALOGUE_FILE in damaged:
        # without the catalogue there is nothing to compare the shards with
        return
    try:
        catalogue = read_catalogue(url, info)
    except ValueError as error:
        yield str(error)
        return
    yield from _content_faults(url, info, catalogue, damaged)
    yield from _item_faults(url, info, catalogue, progress)
    yield from check_counts(url, info, catalogue, progress)


def _content_faults(
    url: str, info: DatasetInfo, catalogue: Catalogue, damaged: set[str]
) -> Iterator[str]:
    """Yield the faults of the failures and of the oracle, which have their checksums."""
    # a file with a wrong checksum was reported already
    if info.has(FAILURES_FILE) and FAILURES_FILE not in damaged:
        yield from _failure_faults(url, info, catalogue)
    if info.has(ORACLE_FILE) and ORACLE_FILE not in damaged:
        try:
            read_oracle(url, info, METRICS)
        except ValueError as error:
            yield str(error)


def _failure_faults(url: str, info: DatasetInfo, catalogue: Catalogue) -> Iterator[str]:
    """Yield the faults of failures that are malformed, or contradict counts or catalogue."""
    where = storage.join(url, FAILURES_FILE)
    num_failures: Counter[Kind] = Counter()
    try:
        for failure in read_failures(storage.read_bytes(where), where):
            num_failures[failure.kind] += 1
            _check_failure(failure, catalogue)
    except ValueError as error:
        yield str(error)
        return
    for kind, key in FAILURE_COUNTS.items():
        recorded = info.counts.get(key, 0)
        if num_failures[kind] != recorded:
            yield f"{DATASET_FILE}: says {recorded} {key}, {FAILURES_FILE} has {num_failures[kind]}"


def _check_failure(failure: Failure, catalogue: Catalogue) -> None:
    """Check that a failure is about an item of the catalogue and fits its status.

    Raises:
        ValueError: it is not, or does not.
    """
    item = failure.item
    # an item has failed if and only if its video has
    if item > catalogue.size or catalogue.ok_N1[item] == (failure.kind == "video"):
        raise ValueError(
            f"{FAILURES_FILE}: says that the {failure.kind} of item {item} failed, "
            f"which {CATALOGUE_FILE} contradicts"
        )


def _item_faults(
    url: str, info: DatasetInfo, catalogue: Catalogue, progress: Task
) -> Iterator[str]:
    """Yield the faults of each item shard, and of the items in it that cannot be decoded."""
    with Decoding(info) as decoding:
        for shard, file in enumerate(info.shards("items")):
            members = _members_of(catalogue, shard)
            decoding.begin(file.path, [name for name, _ in members])
            for fault in check_file(url, file, progress, members, decoding.take):
                yield fault
                yield from decoding.faults()
            # before the next shard: faults come in the order of the shards
            yield from decoding.remaining_faults()


def _members_of(catalogue: Catalogue, shard: int) -> list[NamedMember]:
    """Return the members of an item shard by offset."""
    members = []
    for item in np.flatnonzero(catalogue.shard_N1 == shard).tolist():
        for member in catalogue.members(item):
            members.append(NamedMember(f"{item_key(item)}.{member.name}", member))
    return sorted(members, key=lambda named: named.member.offset)
