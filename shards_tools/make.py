"""Packs a raw folder into a data set: shards first, dataset.json last, so that it exists when all of it does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    ORACLE_FILE,
    VERSION,
    DatasetInfo,
    FileInfo,
    MediaInfo,
    catalogue_bytes,
    item_shard,
    read_dataset_info,
)
from mlrec.data.format.catalogue_checks import MAX_RAW_ID_BYTES
from mlrec.runtime.progress import track
from mlrec.runtime.terminal import one_line
from shards_tools.pack.catalogue import catalogue_columns, members_of
from shards_tools.pack.engines import ENGINES
from shards_tools.pack.items import Failure, ItemJob, ShardRecord, read_shard_records, record_name
from shards_tools.pack.media import RawFile
from shards_tools.pack.output import RAW_KEY, WORK_FOLDER, Output, open_output
from shards_tools.pack.sequences import write_sequences
from shards_tools.pack.settings import Settings
from shards_tools.raw.item_tables import read_likes_and_views, read_titles
from shards_tools.raw.readers import RawFolder, fingerprint, media_files, number_items, open_raw
from shards_tools.raw.split import Sequences, split_counts, training_popularity, with_enough

REASONS_SHOWN = 3


@dataclass(frozen=True)
class Plan:
    """What a raw folder and settings come to before any media file is opened."""

    raw: RawFolder
    settings: Settings
    media: MediaInfo
    sequences: Sequences
    """All users with enough interactions, failed items not yet left out; items are ids of the catalogue."""
    jobs: list[ItemJob]
    """One per item, in the order of the catalogue."""

    @property
    def shards(self) -> dict[int, list[ItemJob]]:
        """The jobs of each item shard."""
        size = self.settings.items_per_shard
        return {
            shard: self.jobs[first : first + size]
            for shard, first in enumerate(range(0, len(self.jobs), size))
        }


def make(
    raw_root: str | Path,
    url: str,
    settings: Settings,
    workers: int,
    max_failures: int | None,
    console: Console,
    engine: str = "local",
    address: str | None = None,
) -> DatasetInfo:
    """Packs the raw folder at a URL to `url`; a run that was stopped is continued, a complete data set left as it is.

    Raises:
        ValueError: the raw folder is not one, `url` holds something else, more than `max_failures` items failed, or an
            address is given to an engine that has no use for one.
        RuntimeError: worker processes died, or the storage gave up.
    """
    if address is not None and engine != "ray":
        raise ValueError(
            f"--address {address} is that of a ray cluster; it goes with --engine ray, not {engine}"
        )
    url, raw = _absolute(url), open_source(raw_root)
    settings = replace(settings, name=settings.name or raw.name)
    with open_output(url) as output:
        if output.claim({**asdict(settings), RAW_KEY: fingerprint(raw), "version": VERSION}):
            console.print(
                one_line(f"{url} is complete already; nothing to do"), markup=False, soft_wrap=True
            )
        else:
            planned = plan(raw, settings)
            if raw.titles is not None and (untitled := sum(not job.title for job in planned.jobs)):
                console.print(
                    one_line(
                        f"{untitled:,} of {len(planned.jobs):,} items have no title in {raw.titles}"
                    ),
                    markup=False,
                    soft_wrap=True,
                )
            pack(planned, output, workers, max_failures, console, engine, address)
        output.clean()
    return read_dataset_info(url)


def open_source(raw_root: str | Path) -> RawFolder:
    """The raw folder, by URLs that are right in any working folder."""
    return open_raw(_absolute(str(raw_root)))


def _absolute(url: str) -> str:
    return str(storage.local_path(url).absolute()) if storage.is_local(url) else url


def plan(raw: RawFolder, settings: Settings) -> Plan:
    """Reads the tables and lists the media.

    Raises:
        ValueError: a table is not of its form, or no user is left.
    """
    interactions = raw.read_pairs(raw.pairs)
    interactions = number_items(
        replace(interactions, sequences=with_enough(interactions.sequences, settings.split))
    )
    sequences = replace(interactions.sequences, items=interactions.sequences.items + 1)
    if not len(sequences.users):
        raise ValueError(
            f"{raw.pairs}: no user has {settings.min_interactions} interactions; lower --min-interactions"
        )
    media = MediaInfo(
        kind=settings.media if raw.videos is not None else "none",
        policy=settings.policy,
        frames=settings.frames,
        interval=settings.interval,
        size=settings.size,
        has_cover=raw.covers is not None,
        has_audio=raw.audio is not None,
    )
    return Plan(
        raw, settings, media, sequences, _jobs(raw, interactions.raw_ids, media, settings.quality)
    )


def pack(
    plan: Plan,
    output: Output,
    workers: int,
    max_failures: int | None,
    console: Console,
    engine: str = "local",
    address: str | None = None,
) -> None:
    """Makes the item shards that have no record yet, and all the rest.

    Raises:
        ValueError: more than `max_failures` items failed, or no user is left.
        RuntimeError: worker processes died, or the storage gave up.
    """
    done: set[str] = set()
    earlier: list[Failure] = []
    for record in read_shard_records(output):
        done.add(record.file.path)
        earlier += record.failures
    todo = {shard: jobs for shard, jobs in plan.shards.items() if item_shard(shard) not in done}
    with closing(ENGINES[engine](todo, output, workers, address)) as packed:
        total = sum(map(len, todo.values()))
        _count_failures(track(packed, "packing items", total, console), earlier, max_failures)
    _finish(plan, output)


def _jobs(raw: RawFolder, raw_ids: list[str], media: MediaInfo, quality: int) -> list[ItemJob]:
    if too_long := next(
        (raw_id for raw_id in raw_ids if len(raw_id.encode()) > MAX_RAW_ID_BYTES), None
    ):
        raise ValueError(
            f"the item id {too_long[:40]!r}... is longer than {MAX_RAW_ID_BYTES} bytes; shorten it"
        )
    titles, counts = (
        read_titles(raw.titles, set(raw_ids)),
        read_likes_and_views(raw.likes_and_views),
    )
    videos, covers, audio = (
        {name: RawFile(file.url, file.size) for name, file in media_files(folder).items()}
        for folder in (raw.videos, raw.covers, raw.audio)
    )
    return [
        ItemJob(
            item=item,
            raw_id=raw_id,
            title=titles.get(raw_id, ""),
            likes=counts.get(raw_id, (0, 0))[0],
            views=counts.get(raw_id, (0, 0))[1],
            video=videos.get(raw_id),
            cover=covers.get(raw_id),
            audio=audio.get(raw_id),
            media=media,
            quality=quality,
        )
        for item, raw_id in enumerate(raw_ids, start=1)
    ]


def _count_failures(
    packed: Iterable[list[Failure]], earlier: list[Failure], max_failures: int | None
) -> None:
    """Runs through the items.

    Raises:
        ValueError: more than `max_failures` of them failed.
    """
    failed: list[Failure] = []
    for failures in chain([earlier], packed):
        failed += [failure for failure in failures if failure.kind == "video"]
        if max_failures is not None and len(failed) > max_failures:
            last = "; ".join(
                f"{failure.raw_id}: {failure.reason}" for failure in failed[-REASONS_SHOWN:]
            )
            raise ValueError(
                f"{len(failed)} items failed, more than --max-failures {max_failures}; the last by raw id: {last}. "
                "Mend the files and pack anew, or allow more failures and run again to go on"
            )


def _check_record(record: ShardRecord, jobs: Sequence[ItemJob], where: str) -> None:
    """
    Raises:
        ValueError: the record, read from `where`, is not of exactly these items.
    """
    failed = [failure.item for failure in record.failures if failure.kind == "video"]
    if sorted([*record.members, *failed]) != [job.item for job in jobs]:
        raise ValueError(
            f"{where} records other items than those of {record.file.path}. "
            "Remove it; the same command then packs its shard again."
        )


def _finish(plan: Plan, output: Output) -> None:
    """Writes all but the item shards; needs every shard's record."""
    settings = plan.settings
    files: list[FileInfo] = []
    failures: list[Failure] = []
    members: list[pa.ListArray] = []
    for record, (shard, jobs) in zip(read_shard_records(output), plan.shards.items(), strict=True):
        _check_record(record, jobs, storage.join(output.url, WORK_FOLDER, record_name(shard)))
        files.append(record.file)
        failures += record.failures
        members.append(members_of(jobs, record))
    failed = [failure.item for failure in failures if failure.kind == "video"]
    left = with_enough(plan.sequences.keep(~np.isin(plan.sequences.items, failed)), settings.split)
    if not len(left.users):
        raise ValueError(
            f"{len(failed)} of {len(plan.jobs)} items failed, and no user has {settings.min_interactions} interactions left"
        )
    popularity = training_popularity(left, settings.split, len(plan.jobs))[1:]
    files += write_sequences(left, settings.users_per_shard, output)
    columns = catalogue_columns(plan.jobs, members, popularity, settings.items_per_shard)
    files.append(output.put(CATALOGUE_FILE, catalogue_bytes(columns)))
    lines = [json.dumps(asdict(failure), ensure_ascii=False) + "\n" for failure in failures]
    files.append(output.put(FAILURES_FILE, "".join(lines).encode()))
    if plan.raw.oracle is not None:
        files.append(output.put(ORACLE_FILE, storage.read_bytes(plan.raw.oracle)))
    kinds = Counter(failure.kind for failure in failures)
    counts = {
        **split_counts(left, settings.split),
        "items": len(plan.jobs),
        "failed_items": kinds["video"],
        "failed_covers": kinds["cover"],
        "failed_audio": kinds["audio"],
        "lost_interactions": len(plan.sequences.items) - len(left.items),
        "lost_users": len(plan.sequences.users) - len(left.users),
    }
    files.sort(key=lambda file: file.path)
    info = DatasetInfo(settings.name, counts, plan.media, settings.split, tuple(files))
    output.write(DATASET_FILE, info.to_bytes())
