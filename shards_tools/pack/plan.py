"""The plan of a data set: what tables, listings and settings decide, before media are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from mlrec import storage
from mlrec.data.format import MediaInfo, SplitInfo
from mlrec.data.format.catalogue_checks import MAX_RAW_ID_BYTES
from mlrec.runtime.printable import counted, printable
from shards_tools.pack.features import ItemFeatures, files_of, read_item_features
from shards_tools.pack.inputs import NO_INPUTS, Inputs
from shards_tools.pack.interactions import read_interactions, with_repeated_targets
from shards_tools.pack.item_media import ItemMedia, find_item_media
from shards_tools.pack.items import ItemJob
from shards_tools.pack.settings import Settings
from shards_tools.pack.split import split_of, split_remarks
from shards_tools.raw.folder import RawFolder, open_raw
from shards_tools.raw.items.tables import Counts, ItemTables, read_item_tables
from shards_tools.raw.split import Sequences, with_enough

MAX_REMARK_CHARACTERS = 4000
"""Length at which remarks are cut."""
MAX_NAME_CHARACTERS = 80
"""Length at which names of files are cut in the lines about them."""


@dataclass(frozen=True)
class Plan:
    """The items and users of a data set that is yet to be packed."""

    raw: RawFolder
    settings: Settings
    split: SplitInfo
    media: MediaInfo
    sequences: Sequences
    """All users with enough interactions, before failed items leave; items are catalogue ids."""
    jobs: list[ItemJob]
    """One job per item, in catalogue order."""
    sources: list[str]
    """What was recognized in the raw folder, and which files are not used, a line each."""
    counts: dict[str, int]
    """Numbers of interactions that were dropped, repeated or left out, as in dataset.json."""
    remarks: list[str]
    """What was dropped, repeated, guessed or left out, a sentence each without its full stop.

    Files are named without their folder, because dataset.json has the remarks.
    """

    @property
    def shards(self) -> dict[int, list[ItemJob]]:
        """The jobs of each item shard, by shard number."""
        size = self.settings.items_per_shard
        jobs_by_shard = {}
        for shard, first in enumerate(range(0, len(self.jobs), size)):
            jobs_by_shard[shard] = self.jobs[first : first + size]
        return jobs_by_shard


def absolute_url(url: str) -> str:
    """Return `url` in a form that holds in any working folder, also that of a Ray worker."""
    return str(storage.local_path(url).absolute()) if storage.is_local(url) else url


def open_source(raw_root: str | Path, settings: Settings, titles: str) -> RawFolder:
    """Return the raw folder at `raw_root`, with absolute URLs.

    Args:
        titles: As in Inputs.

    Raises:
        ValueError: it is no raw folder, there is no such file, or titles are left out.
    """
    root = absolute_url(str(raw_root))
    if "titles" in settings.without.split(","):
        if titles:
            raise ValueError(f"--titles {titles} contradicts --without titles. Choose one of them")
        return open_raw(root, None)
    titles_url = absolute_url(titles) if titles else ""
    if titles_url and not storage.exists(titles_url):
        raise ValueError(f"--titles {titles} does not exist. Give a table of items and titles")
    return open_raw(root, titles_url)


def plan(raw_root: str | Path, settings: Settings, inputs: Inputs = NO_INPUTS) -> Plan:
    """Read the tables and features, and list the media files.

    Raises:
        ValueError: the raw folder is not one, a table is malformed, no user has enough
            interactions, policy title has no titles, or features cannot be joined with the items.
    """
    return plan_of(open_source(raw_root, settings, inputs.titles), settings, inputs)


def plan_of(raw: RawFolder, settings: Settings, inputs: Inputs) -> Plan:
    """Return the plan of a raw folder that is open, as `plan` does."""
    interactions = read_interactions(raw, settings)
    # catalogue ids start at 1; id 0 is padding
    sequences = replace(interactions.sequences, items=interactions.sequences.items + 1)
    split = split_of(sequences, interactions.time_unit, settings, raw.pairs)
    interactions = with_repeated_targets(interactions, split)
    raw_ids = interactions.raw_ids
    features = read_item_features(inputs.features, raw_ids, settings.name or raw.name)
    raw = replace(raw, features=_feature_files(inputs.features))
    # before anything is packed: the catalogue would be refused by its readers after hours
    _check_lengths(raw_ids)
    tables = read_item_tables(raw.titles, raw.likes_and_views, raw_ids)
    media = find_item_media(raw, settings, raw_ids, features.widths)
    jobs = _jobs(raw_ids, tables, media, settings.quality, features)
    remarks = [
        *raw.remarks,
        *interactions.remarks,
        *media.remarks,
        *tables.remarks,
        *split_remarks(raw, settings, split),
        *features.remarks,
    ]
    planned = Plan(
        raw,
        settings,
        split,
        media.info,
        sequences,
        jobs,
        [_tables(raw), *media.sources, *features.sources],
        interactions.counts,
        # names of files may have bytes that are no characters, which dataset.json cannot hold
        [printable(remark, MAX_REMARK_CHARACTERS) for remark in remarks],
    )
    if media.info.kind == "frames" and media.info.policy == "title":
        return _by_title(planned, inputs.title_checkpoint)
    return planned


def _feature_files(sources: Mapping[str, str]) -> tuple[str, ...]:
    """Return the absolute URLs of the files and folders of features."""
    urls: list[str] = []
    for url in sources.values():
        urls += [url, *files_of(url)]
    return tuple(map(absolute_url, urls))


def _tables(raw: RawFolder) -> str:
    """Return the line about the tables that were read."""
    names = []
    for url in (raw.pairs, *raw.mappings, raw.titles, raw.likes_and_views):
        if url is not None:
            names.append(printable(PurePosixPath(url).name, MAX_NAME_CHARACTERS))
    return f"tables: {', '.join(names)}"


def _by_title(plan: Plan, title_checkpoint: str) -> Plan:
    """Return the plan with the checkpoint in its jobs, and a remark on items without title.

    Raises:
        ValueError: no item has a title.
    """
    # workers of a Ray cluster run in other working folders
    place = absolute_url(title_checkpoint)
    jobs = [replace(job, title_checkpoint=place) for job in plan.jobs]
    num_untitled = sum(not job.title.strip() for job in jobs)
    if num_untitled == len(jobs):
        raise ValueError(
            f"--policy title needs titles, and no item has one in {plan.raw.root}. "
            "Add the file of titles, or choose another policy"
        )
    remarks = list(plan.remarks)
    if num_untitled:
        untitled_items = counted(num_untitled, "item")
        remarks.append(f"policy scenes chose the frames of {untitled_items} without title")
    return replace(plan, jobs=jobs, remarks=remarks)


def remaining_sequences(plan: Plan, failed: Sequence[int]) -> Sequences:
    """Return the sequences without failed items, and without users who then have too few items.

    Args:
        failed: Catalogue ids.
    """
    # Order matters: failed items leave first, then users who have too few interactions without
    # them.
    is_packed = ~np.isin(plan.sequences.items, failed)
    return with_enough(plan.sequences.keep(is_packed), plan.settings.min_interactions)


def _jobs(
    raw_ids: list[str],
    tables: ItemTables,
    media: ItemMedia,
    quality: int,
    features: ItemFeatures,
) -> list[ItemJob]:
    """Return the job of each item, in the order of `raw_ids`."""
    jobs = []
    for item, raw_id in enumerate(raw_ids, start=1):
        # the tables are optional, and an item may lack its row
        item_counts = tables.counts.get(raw_id, Counts(likes=0, views=0))
        files = media.files(raw_id)
        job = ItemJob(
            item=item,
            raw_id=raw_id,
            title=tables.titles.get(raw_id, ""),
            likes=item_counts.likes,
            views=item_counts.views,
            video=files.video,
            frames=files.frames,
            cover=files.cover,
            audio=files.audio,
            media=media.info,
            quality=quality,
            features=features.vectors_of[item - 1],
        )
        jobs.append(job)
    return jobs


def _check_lengths(raw_ids: list[str]) -> None:
    """Check that the catalogue can hold each raw id.

    Raises:
        ValueError: one is too long.
    """
    for raw_id in raw_ids:
        if len(raw_id.encode()) > MAX_RAW_ID_BYTES:
            raise ValueError(
                f"the item id {raw_id[:40]!r}... is longer than {MAX_RAW_ID_BYTES} bytes. "
                "Shorten it"
            )
