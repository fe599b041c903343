"""Small logs with times, packed and opened under a split by time."""

from __future__ import annotations

from pathlib import Path

from packed import pack
from tiny import tiny_overrides

from mlrec.config import Config, load
from shards_tools.pack.settings import Settings

Log = dict[str, list[tuple[int, int]]]
"""Interactions of each user as (time, item), in any order."""


def write_log(folder: Path, log: Log) -> Path:
    """Write a raw folder with the interactions of a log, without media."""
    lines = ["user,item,timestamp\n"]
    for user, interactions in log.items():
        for time, item in interactions:
            lines.append(f"{user},{item},{time}\n")
    folder.mkdir(parents=True)
    (folder / "log_pairs.csv").write_text("".join(lines))
    return folder


def pack_log(
    folder: Path, log: Log, validation_from: str, test_from: str, keep_last: int, at_least: int = 1
) -> Path:
    """Pack a log split by time, and return the data set's folder."""
    settings = Settings(
        split="time",
        validation_from=validation_from,
        test_from=test_from,
        keep_last=keep_last,
        min_interactions=at_least,
        users_per_shard=50,
    )
    pack(write_log(folder / "raw", log), folder / "data", settings)
    return folder / "data"


def config_of(data_set: Path, folder: Path, *changes: str) -> Config:
    """Return the configuration of a small run over item ids."""
    return load([], [*tiny_overrides(data_set, folder), *changes])
