"""Repair a whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from rich.console import Console

from mlrec import storage
from mlrec.data.format import (
    CATALOGUE_FILE,
    DATASET_FILE,
    VERSION,
    Catalogue,
    DatasetInfo,
    read_catalogue,
    read_dataset_info,
)
from mlrec.runtime.progress import task
from mlrec.runtime.units import megabytes
from mlrec.storage.typed_json import STRICT, parse_json
from shards_tools.check.counts import contradiction
from shards_tools.check.files import first_fault
from shards_tools.make import pack
from shards_tools.pack.features import digest_of
from shards_tools.pack.inputs import NO_INPUTS, Inputs
from shards_tools.pack.output import SETTINGS_FILE, Output, open_output
from shards_tools.pack.plan import Plan, plan
from shards_tools.pack.settings import Settings
from shards_tools.raw.folder import check_local_folder
from shards_tools.raw.listing import WORK_FOLDER
from shards_tools.repair.output import PACK_AGAIN, RepairOutput
from shards_tools.repair.records import record_intact_shards


def repair(
    raw_root: str | Path,
    url: str,
    workers: int,
    console: Console,
    inputs: Inputs = NO_INPUTS,
) -> dict[str, str]:
    """Replace the damaged files of the data set at `url`.

    The packer does the work. It skips intact item shards, and only damaged files are published, if
    they have the sha256 that dataset.json names. So a raw folder that was moved or copied serves as
    well.

    Args:
        inputs: The further files that the data set was packed from.

    Returns:
        What was wrong with each damaged file, by path.

    Raises:
        ValueError: there is no data set, dataset.json is damaged, the settings are unknown, or the
            data set
            was made from another raw folder.
        RuntimeError: worker processes died, or the storage gave up.
    """
    info = read_dataset_info(url)
    # before all files are read, which may take hours
    check_local_folder(str(raw_root))
    damaged = _find_damaged(url, info, console)
    if damaged:
        # the lock of the place, and its staging folder
        with open_output(url) as opened:
            output = RepairOutput(url, opened.staging, info, damaged)
            settings = recorded_settings(output)
            _check_title_checkpoint(settings, inputs.title_checkpoint, url)
            _check_features(settings, inputs.features, url)
            planned = plan(raw_root, settings, inputs)
            catalogue = None if CATALOGUE_FILE in damaged else read_catalogue(url, info)
            # before any media file is opened
            _check_raw_folder(planned, info, catalogue, url)
            _check_info(planned, info, url)
            record_intact_shards(planned, output, catalogue, workers)
            pack(planned, output, workers, None, console)
    # All files are intact now. What still contradicts dataset.json is its own fault.
    fault = contradiction(url, info)
    if fault:
        raise ValueError(
            f"{url}: {DATASET_FILE} itself is damaged ({fault}). To replace it, {PACK_AGAIN}"
        )
    return damaged


def _find_damaged(url: str, info: DatasetInfo, console: Console) -> dict[str, str]:
    """Return the fault of each damaged file, by path."""
    damaged = {}
    num_bytes = sum(file.size for file in info.files)
    with task("checking", num_bytes, megabytes, console) as progress:
        # by sha256 alone: a member cannot be replaced without its file
        for file in info.files:
            fault = first_fault(url, file, progress)
            if fault is not None:
                damaged[file.path] = fault
    return damaged


@dataclass(frozen=True)
class _RecordedSettings(Settings):
    """The content of settings.json in the work folder."""

    __pydantic_config__ = STRICT

    raw: str = ""
    """Fingerprint of the raw folder."""
    version: int = 0
    """Version of the data set's format."""


def recorded_settings(output: Output) -> Settings:
    """Return the settings that the data set was packed with.

    Raises:
        ValueError: they are not recorded, or the record is damaged or of another version.
    """
    where = storage.join(output.url, WORK_FOLDER, SETTINGS_FILE)
    if not storage.exists(where):
        raise ValueError(
            f"{where} is missing, which says how the data set was made. "
            "Copy it from where the data set was packed, "
            "or replace the damaged files from an intact copy of it: "
            f"mlrec-shards push COPY {output.url}"
        )
    remedy = (
        "Copy it from where the data set was packed, or pack the data set again to another place"
    )
    recorded = parse_json(storage.read_bytes(where), _RecordedSettings, where, remedy)
    if recorded.version != VERSION:
        raise ValueError(
            f"{where} has version {recorded.version}, but this mlrec packs version {VERSION}. "
            f"To continue, {PACK_AGAIN}"
        )
    # Without the fingerprint of the raw folder: times of files may have changed, and what is packed
    # is compared byte by byte anyway.
    values = {field.name: getattr(recorded, field.name) for field in fields(Settings)}
    return Settings(**values)


def _check_title_checkpoint(settings: Settings, folder: str, url: str) -> None:
    """Check that the checkpoint is the one that the data set was packed with, if it was with one.

    Raises:
        ValueError: it is missing, or another one.
    """
    if not settings.title_weights:
        return
    if not folder:
        raise ValueError(
            f"{url} was packed with --policy title. "
            "Give the folder of the same CLIP model with --title-checkpoint FOLDER"
        )
    # imports torch, which the other policies do not need
    from shards_tools.pack.clip import check_checkpoint

    sha256 = check_checkpoint(folder)
    if sha256 != settings.title_weights:
        raise ValueError(
            f"--title-checkpoint {folder} is not the CLIP model that {url} was packed with: the "
            f"SHA-256 of its weights is {sha256}, not {settings.title_weights}. "
            "Give the folder of that model"
        )


def _check_features(settings: Settings, sources: Mapping[str, str], url: str) -> None:
    """Check that the files of features are those that the data set was packed with.

    Raises:
        ValueError: they are not.
    """
    # before anything is packed: other vectors would only show in other checksums
    recorded = settings.feature_digests
    if digest_of(sources) == recorded:
        return
    names = [digest.partition("=")[0] for digest in recorded.split(",") if digest]
    expected = " ".join(f"--features {name}=FILE" for name in names)
    remedy = f"Give the files that it was packed with: {expected}" if names else "Leave them out"
    raise ValueError(f"{url} was packed with other features than {list(sources)}. {remedy}")


def _check_raw_folder(
    planned: Plan, info: DatasetInfo, catalogue: Catalogue | None, url: str
) -> None:
    """Check that the raw folder has the items of the data set.

    Raises:
        ValueError: it has others.
    """
    # the items tell most wrong folders at once, without a look at media
    raw_ids = [job.raw_id for job in planned.jobs]
    is_same = len(raw_ids) == info.counts.get("items")
    if is_same and catalogue is not None:
        is_same = catalogue.table["raw_id"].to_pylist() == raw_ids
    if not is_same:
        raise ValueError(
            f"{planned.raw.root} is not the raw folder that {url} was made from: "
            "its items are others"
        )


def _check_info(planned: Plan, info: DatasetInfo, url: str) -> None:
    """Check that dataset.json agrees with the settings and the raw folder.

    Raises:
        ValueError: it does not.
    """
    planned_info = (planned.settings.name, planned.media, planned.split)
    if planned_info != (info.name, info.media, info.split):
        raise ValueError(
            f"{url}: {DATASET_FILE} contradicts {WORK_FOLDER}/{SETTINGS_FILE} "
            f"and {planned.raw.root} on name, media or split. "
            "Either it is damaged, or this is another raw folder. "
            f"Give the right raw folder, or {PACK_AGAIN}"
        )
