"""Small data sets, packed and read back by webdataset alone."""

import io
from pathlib import Path

import webdataset as wds
from rich.console import Console

from mlrec.data.format import Catalogue, DatasetInfo, read_catalogue, read_dataset_info, read_npy
from shards_tools.make import make
from shards_tools.pack.settings import Settings

SETTINGS = Settings(size=32, items_per_shard=16, users_per_shard=50)
"""Settings with which the fixture dataset_dir is packed."""


def pack(
    raw: Path, out: Path, settings: Settings = SETTINGS, max_failures: int | None = None
) -> DatasetInfo:
    """Pack a raw folder in two processes, without output."""
    console = Console(file=io.StringIO())
    return make(raw, str(out), settings, 2, max_failures, console)


def open_packed(out: Path) -> tuple[DatasetInfo, Catalogue]:
    """Return a data set's dataset.json and its catalogue."""
    info = read_dataset_info(str(out))
    return info, read_catalogue(str(out), info)


def samples(out: Path, folder: str) -> list[dict[str, bytes]]:
    """Return the samples of a folder of shards as plain webdataset reads them."""
    shards = sorted(str(path) for path in (out / folder).iterdir())
    return list(wds.WebDataset(shards, shardshuffle=False, empty_check=False))


def runs(out: Path) -> dict[int, list[int]]:
    """Return the items of each user."""
    items_by_user = {}
    for sample in samples(out, "sequences"):
        users = read_npy(sample["users.npy"])
        items = read_npy(sample["items.npy"])
        # the run of row r is offsets[r] : offsets[r + 1]
        offsets = read_npy(sample["offsets.npy"])
        for row, user in enumerate(users.tolist()):
            items_by_user[user] = items[offsets[row] : offsets[row + 1]].tolist()
    return items_by_user
