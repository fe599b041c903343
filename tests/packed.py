"""Small data sets, packed and read back by webdataset alone."""

import io
from pathlib import Path

import webdataset as wds
from rich.console import Console

from mlrec.data.format import Catalogue, DatasetInfo, read_catalogue, read_dataset_info, read_npy
from shards_tools.make import make
from shards_tools.pack.settings import Settings

SETTINGS = Settings(size=32, items_per_shard=16, users_per_shard=50)


def pack(
    raw: Path, out: Path, settings: Settings = SETTINGS, max_failures: int | None = None
) -> DatasetInfo:
    return make(
        raw,
        str(out),
        settings,
        workers=2,
        max_failures=max_failures,
        console=Console(file=io.StringIO()),
    )


def open_packed(out: Path) -> tuple[DatasetInfo, Catalogue]:
    info = read_dataset_info(str(out))
    return info, read_catalogue(str(out), info)


def samples(out: Path, folder: str) -> list[dict[str, bytes]]:
    """The samples as plain webdataset reads them."""
    shards = sorted(str(path) for path in (out / folder).iterdir())
    return list(wds.WebDataset(shards, shardshuffle=False, empty_check=False))


def runs(out: Path) -> dict[int, list[int]]:
    """Items of each user."""
    found = {}
    for sample in samples(out, "sequences"):
        users, offsets, items = (
            read_npy(sample[f"{name}.npy"]) for name in ("users", "offsets", "items")
        )
        found |= {
            int(user): items[offsets[at] : offsets[at + 1]].tolist()
            for at, user in enumerate(users)
        }
    return found
