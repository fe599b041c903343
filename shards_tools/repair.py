"""Makes the damaged files of a data set anew from the raw files, and nothing else."""

from __future__ import annotations

import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, cast

from rich.console import Console

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    FAILURES_FILE,
    VERSION,
    Catalogue,
    DatasetInfo,
    FileInfo,
    Member,
    item_shard,
    read_catalogue,
    read_dataset_info,
)
from mlrec.runtime.progress import Task, megabytes, task
from mlrec.storage.typed_json import STRICT, parse_json
from shards_tools.check import check_counts, check_file
from shards_tools.make import Plan, open_source, pack, plan
from shards_tools.pack.items import (
    Failure,
    ItemJob,
    ShardRecord,
    crashed_item,
    pack_item,
    read_failures,
    record_name,
)
from shards_tools.pack.output import SETTINGS_FILE, WORK_FOLDER, Output, open_output
from shards_tools.pack.pool import map_ordered
from shards_tools.pack.settings import Settings

_COPY_SETTINGS = (
    "Copy it from where the data set was packed, or pack the data set again to another place"
)
MAKE_ANEW = f"remove {DATASET_FILE} there, and mlrec-shards make packs it anew"


def repair(raw_root: str | Path, url: str, workers: int, console: Console) -> dict[str, str]:
    """Replaces the damaged files of the data set at `url`; what was wrong with each, by path.

    The packer itself does it: it finds the whole shards done, and of all that it makes only the damaged files are published,
    when they have the sha256 that dataset.json names. So a raw folder that was moved or copied serves as well.

    Raises:
        ValueError: there is no data set, dataset.json itself is damaged, it is not known how the data set was made, or the
            raw folder is not the one that it was made from.
        RuntimeError: worker processes died, or the storage gave up.
    """
    info = read_dataset_info(url)
    with task("checking", sum(file.size for file in info.files), megabytes, console) as under_way:
        faults = (
            (file.path, next(check_file(url, file, [], under_way), None)) for file in info.files
        )
        damaged = {path: fault for path, fault in faults if fault is not None}
    if damaged:
        with open_output(url) as opened:
            output = _RepairOutput(url, opened.staging, info, damaged)
            made = plan(open_source(raw_root), _settings(output))
            catalogue = None if CATALOGUE_FILE in damaged else read_catalogue(url, info)
            _refuse_another(made, info, catalogue, url)
            _record_whole_shards(made, output, catalogue, workers)
            pack(made, output, workers, None, console)
    if fault := _remaining_fault(url, info):
        raise ValueError(f"{url}: {DATASET_FILE} itself is damaged ({fault}); {MAKE_ANEW}")
    return damaged


def _remaining_fault(url: str, info: DatasetInfo) -> str:
    """Return what contradicts dataset.json in a data set whose files all have their sha256, "" if nothing does."""
    try:
        return next(check_counts(url, info, read_catalogue(url, info), Task(0)), "")
    except ValueError as error:
        return str(error)


class _RepairOutput(Output):
    """Publishes the damaged files, verified, and drops all else; the work folder's records are kept in memory."""

    def __init__(
        self, url: str, staging: Path, info: DatasetInfo, damaged: Mapping[str, str]
    ) -> None:
        super().__init__(url, staging)
        self.damaged = damaged
        self.files = {file.path: file for file in info.files}
        self._records: dict[str, bytes] = {}

    def publish(self, staged: Path, path: str) -> None:
        """Publishes a damaged file.

        Raises:
            ValueError: what was made is not what dataset.json names.
        """
        if path not in self.damaged:
            staged.unlink()
            return
        made = storage.sha256_of(str(staged))
        if made != self.files[path].sha256:
            place = storage.join(self.url, path)
            if storage.exists(place) and storage.sha256_of(place) == made:
                raise ValueError(
                    f"{self.url}: {DATASET_FILE} itself is damaged: {path} is what it should be; {MAKE_ANEW}"
                )
            raise ValueError(
                f"{path}, made anew, does not have the sha256 that {self.url}/{DATASET_FILE} names: the raw folder, or the "
                "version of a decoder, is not the one that the data set was made with; give that one, or pack to another place"
            )
        super().publish(staged, path)

    def put_record(self, name: str, data: bytes) -> None:
        """Keeps a record."""
        self._records[name] = data

    def read_records(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The records that were kept."""
        return (
            (name, data) for name, data in sorted(self._records.items()) if name.startswith(prefix)
        )


@dataclass(frozen=True)
class _RecordedSettings(Settings):
    """The content of settings.json in the work folder."""

    __pydantic_config__ = STRICT

    raw: str = ""
    """Fingerprint of the raw folder."""
    version: int = 0


def _settings(output: Output) -> Settings:
    """Return how the data set was made.

    Raises:
        ValueError: that is not recorded, or the record is damaged or of another version.
    """
    where = storage.join(output.url, WORK_FOLDER, SETTINGS_FILE)
    if not storage.exists(where):
        raise ValueError(
            f"{where} is missing, which says how the data set was made; copy it from where the data set was packed, or mend "
            f"the files from a whole copy of it: mlrec-shards push COPY {output.url}"
        )
    recorded = parse_json(storage.read_bytes(where), _RecordedSettings, where, _COPY_SETTINGS)
    if recorded.version != VERSION:
        raise ValueError(
            f"{where} is of another version than {VERSION}, the one that this mlrec packs; {MAKE_ANEW}"
        )
    # without the raw folder's fingerprint: what is made is compared byte by byte, and times of files may have changed
    return Settings(**{field.name: getattr(recorded, field.name) for field in fields(Settings)})


def _refuse_another(made: Plan, info: DatasetInfo, catalogue: Catalogue | None, url: str) -> None:
    """Tells a wrong raw folder, or a wrong dataset.json, before any media file is opened.

    Raises:
        ValueError: it is one.
    """
    raw_ids = [job.raw_id for job in made.jobs]
    if len(raw_ids) != info.counts.get("items") or (
        catalogue is not None and catalogue.table["raw_id"].to_pylist() != raw_ids
    ):
        raise ValueError(
            f"{made.raw.root} is not the raw folder that {url} was made from: its items are others"
        )
    if (made.settings.name, made.media, made.settings.split) != (info.name, info.media, info.split):
        raise ValueError(
            f"{url}: {DATASET_FILE} does not say what {WORK_FOLDER}/{SETTINGS_FILE} and {made.raw.root} say of name, media and "
            f"split: it is damaged, or the raw folder another one; give the right one, or {MAKE_ANEW}"
        )


def _record_whole_shards(
    made: Plan, output: _RepairOutput, catalogue: Catalogue | None, workers: int
) -> None:
    """Gives the output the records of the shards that are whole."""
    members: dict[int, dict[int, list[Member]]] = {}
    whole = [
        shard
        for shard in made.shards
        if item_shard(shard) in output.files.keys() - output.damaged.keys()
    ]
    for shard in whole:
        if catalogue is None:
            members[shard] = _stored_members(output.url, output.files[item_shard(shard)])
        else:
            found = {job.item: catalogue.members(job.item) for job in made.shards[shard]}
            members[shard] = {item: run for item, run in found.items() if run}
    jobs = [
        (job, members[shard].get(job.item, [])) for shard in whole for job in made.shards[shard]
    ]
    failures = _failures(jobs, output, workers)
    for shard, found in members.items():
        failed = [failure for job in made.shards[shard] for failure in failures[job.item]]
        record = ShardRecord(output.files[item_shard(shard)], found, failed)
        output.put_record(record_name(shard), record.to_bytes())


def _stored_members(url: str, file: FileInfo) -> dict[int, list[Member]]:
    """The members of a stored shard's samples, by item."""
    found: dict[int, list[Member]] = {}
    with (
        storage.open_stream(storage.join(url, file.path)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for entry in tar:
            key, name = entry.name.split(".", 1)
            crc32 = zlib.crc32(cast("IO[bytes]", tar.extractfile(entry)).read())
            found.setdefault(int(key), []).append(
                Member(name, entry.offset_data, entry.size, crc32)
            )
    return found


def _failures(
    jobs: Iterable[tuple[ItemJob, list[Member]]], output: _RepairOutput, workers: int
) -> dict[int, list[Failure]]:
    """What failed of the items of whole shards, from the list of failures or, where it is damaged, by trying again."""
    failures: dict[int, list[Failure]] = defaultdict(list)
    for failure in (
        _listed(output) if FAILURES_FILE not in output.damaged else _failed_again(jobs, workers)
    ):
        failures[failure.item].append(failure)
    return failures


def _listed(output: _RepairOutput) -> Iterator[Failure]:
    where = storage.join(output.url, FAILURES_FILE)
    yield from read_failures(storage.read_bytes(where), where)


def _failed_again(jobs: Iterable[tuple[ItemJob, list[Member]]], workers: int) -> Iterator[Failure]:
    lacking = [
        job for job, members in jobs if _lacks_something(job, {member.name for member in members})
    ]
    with closing(map_ordered(pack_item, lacking, workers, crashed_item)) as packed:
        for _, failures in packed:
            yield from failures


def _lacks_something(job: ItemJob, names: set[str]) -> bool:
    """Whether something of the item failed, as the members of its sample tell."""
    return (
        not names
        or (job.media.has_cover and "cover.jpg" not in names)
        or (job.media.has_audio and "flac" not in names)
    )
