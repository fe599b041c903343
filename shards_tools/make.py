"""Pack a raw folder into a data set.

dataset.json is written last, so that it exists only when every other file is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

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
    catalogue_bytes,
    item_shard,
    read_dataset_info,
)
from mlrec.runtime.printable import counted
from mlrec.runtime.progress import track
from mlrec.runtime.terminal import one_line
from shards_tools.pack.catalogue import catalogue_columns
from shards_tools.pack.engines import ENGINES
from shards_tools.pack.features import digest_of
from shards_tools.pack.inputs import NO_INPUTS, Inputs
from shards_tools.pack.items import ItemJob
from shards_tools.pack.output import RAW_KEY, Output, open_output
from shards_tools.pack.plan import Plan, absolute_url, open_source, plan_of, remaining_sequences
from shards_tools.pack.reasons import group_by_reason, reason_lines
from shards_tools.pack.records import Failure, failed_items, failures_bytes
from shards_tools.pack.sequences import write_sequences
from shards_tools.pack.settings import Settings
from shards_tools.pack.shards import (
    PackedShards,
    keep_current_shards,
    media_counts,
    read_packed_shards,
)
from shards_tools.raw.cut_offs import check_split
from shards_tools.raw.folder import fingerprint
from shards_tools.raw.split import Sequences, split_counts, training_popularity


def make(
    raw_root: str | Path,
    url: str,
    settings: Settings,
    workers: int,
    max_failures: int | None,
    console: Console,
    engine: str = "local",
    address: str | None = None,
    inputs: Inputs = NO_INPUTS,
) -> DatasetInfo:
    """Pack the raw folder at `raw_root` to `url`.

    A run that was stopped continues. A complete data set stays as it is.

    Args:
        max_failures: Number of items that may fail; None is no limit.
        inputs: Further files. The checkpoint's weights are settings.title_weights.

    Raises:
        ValueError: the raw folder is not one, `url` holds something else, too many items failed, or
            the engine takes no address.
        RuntimeError: worker processes died, or the storage gave up.
    """
    if address is not None and engine != "ray":
        raise ValueError(
            f"--address {address} is the address of a Ray cluster, but the engine is {engine}. "
            "Add --engine ray, or leave --address out"
        )
    # workers of a Ray cluster run in other working folders
    url = absolute_url(url)
    raw = open_source(raw_root, settings, inputs.titles)
    digests = digest_of(inputs.features)
    settings = replace(settings, name=settings.name or raw.name, feature_digests=digests)
    # It decides whether a stopped run continues, so it has all that the bytes depend on.
    claim = {**asdict(settings), RAW_KEY: fingerprint(raw, settings.parts), "version": VERSION}
    with open_output(url) as output:
        if output.is_complete(claim):
            _print(console, f"{url} is complete already; nothing to do")
        else:
            planned = plan_of(raw, settings, inputs)
            # after the plan: settings that fit no plan, such as a wrong cut-off, claim no place
            output.begin(claim)
            # remarks are in the summary at the end; --dry-run prints both
            for line in planned.sources:
                _print(console, line)
            pack(planned, output, workers, max_failures, console, engine, address)
        # Also where nothing was packed: a run may have been stopped between its last file and here.
        output.clean()
    return read_dataset_info(url)


def pack(
    plan: Plan,
    output: Output,
    workers: int,
    max_failures: int | None,
    console: Console,
    engine: str = "local",
    address: str | None = None,
) -> None:
    """Write the item shards that have no record yet, then all other files.

    Raises:
        ValueError: more than `max_failures` items failed, or no user is left.
        RuntimeError: worker processes died, or the storage gave up.
    """
    # A record exists only for a complete shard. Failures in it count against --max-failures again.
    records, num_stale = keep_current_shards(plan, output)
    if num_stale:
        shards = counted(num_stale, "item shard")
        _print(console, f"the raw folder has changed: packing {shards} of an earlier run again")
    packed_paths: set[str] = set()
    earlier_failures: list[Failure] = []
    for record in records:
        packed_paths.add(record.file.path)
        earlier_failures += record.failures
    remaining: dict[int, list[ItemJob]] = {}
    for shard, jobs in plan.shards.items():
        if item_shard(shard) not in packed_paths:
            remaining[shard] = jobs
    num_items = sum(map(len, remaining.values()))
    # closing, because an error here must end the worker processes at once
    with closing(ENGINES[engine](remaining, output, workers, address)) as failures:
        tracked = track(failures, "packing items", num_items, console)
        _limit_failures(chain([earlier_failures], tracked), max_failures, output)
    _finish(plan, output)


def _print(console: Console, text: str) -> None:
    console.print(one_line(text), markup=False, soft_wrap=True)


def _limit_failures(
    packed: Iterable[list[Failure]], max_failures: int | None, output: Output
) -> None:
    """Run through the failures of all items, which packs the items.

    Raises:
        ValueError: more than `max_failures` items failed.
    """
    # checked after each item, so that a wrong raw folder stops after seconds, not hours
    all_failures: list[Failure] = []
    num_failed = 0
    for failures in packed:
        all_failures += failures
        num_failed += len(failed_items(failures))
        if max_failures is not None and num_failed > max_failures:
            raise _too_many_failed(
                f"{counted(num_failed, 'item')} failed",
                f"That is more than --max-failures {max_failures:,}",
                "Fix the files or raise --max-failures, and run the same command again",
                all_failures,
                output,
            )


def _too_many_failed(
    what: str, why: str, remedy: str, failures: list[Failure], output: Output
) -> ValueError:
    """Write the failures, and return the error that there are too many."""
    output.write(FAILURES_FILE, failures_bytes(failures))
    reasons = ", ".join(reason_lines(group_by_reason(failures), "video"))
    place = storage.join(output.url, FAILURES_FILE)
    return ValueError(f"{what}: {reasons}. {why}. {place} lists the files. {remedy}")


def _finish(plan: Plan, output: Output) -> None:
    """Write all files but the item shards, which must all have a record.

    Raises:
        ValueError: no user is left, or a split by time leaves a period empty.
    """
    shards = read_packed_shards(plan, output)
    remaining = _remaining(plan, shards.failures, output)
    files = [*shards.files, *_write_tables(plan, shards, remaining, output)]
    # sorted, so that dataset.json does not depend on the order of the steps
    files.sort(key=lambda file: file.path)
    info = DatasetInfo(
        plan.settings.name,
        _counts(plan, shards, remaining),
        plan.media,
        plan.split,
        tuple(files),
        sources=tuple(plan.sources),
        remarks=tuple(plan.remarks),
    )
    # last: the data set exists from here on
    output.write(DATASET_FILE, info.to_bytes())


def _remaining(plan: Plan, failures: list[Failure], output: Output) -> Sequences:
    """Return the sequences without failed items.

    Raises:
        ValueError: no user is left, or a split by time leaves a period empty.
    """
    failed = [failure.item for failure in failed_items(failures)]
    remaining = remaining_sequences(plan, failed)
    try:
        _check_remaining(plan, remaining)
    except ValueError as error:
        raise _too_many_failed(
            f"{len(failed):,} of {counted(len(plan.jobs), 'item')} failed",
            str(error),
            "Fix the files, and run the same command again",
            failures,
            output,
        ) from error
    return remaining


def _check_remaining(plan: Plan, remaining: Sequences) -> None:
    """Check that sequences without failed items are enough to train on and to rank.

    Raises:
        ValueError: they are not.
    """
    if not len(remaining.users):
        raise ValueError(f"Without them no user has {plan.settings.min_interactions} interactions")
    # nothing may be left of a period whose users watched failed items
    check_split(remaining, plan.split, "the others")


def _write_tables(
    plan: Plan, shards: PackedShards, remaining: Sequences, output: Output
) -> Iterator[FileInfo]:
    """Write sequences, catalogue, failures and oracle, and yield each file."""
    settings = plan.settings
    yield from write_sequences(remaining, settings.users_per_shard, output)
    # counted after failed items left, as training sees it; entry 0 is padding
    popularity = training_popularity(remaining, plan.split, len(plan.jobs))[1:]
    columns = catalogue_columns(plan.jobs, shards.members, popularity, settings.items_per_shard)
    yield output.put(CATALOGUE_FILE, catalogue_bytes(columns))
    yield output.put(FAILURES_FILE, failures_bytes(shards.failures))
    # Copied byte by byte: reports compare a run with it. Its targets are those of leave-one-out.
    if plan.raw.oracle is not None and plan.split.kind == "leave_one_out":
        yield output.put(ORACLE_FILE, storage.read_bytes(plan.raw.oracle))


def _counts(plan: Plan, shards: PackedShards, remaining: Sequences) -> dict[str, int]:
    """Return the counts of dataset.json."""
    return {
        **split_counts(remaining, plan.split),
        **media_counts(plan, shards),
        **plan.counts,
        "lost_interactions": len(plan.sequences.items) - len(remaining.items),
        "lost_users": len(plan.sequences.users) - len(remaining.users),
    }
