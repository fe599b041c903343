"""The folder data.cache_dir, which must not be part of a data set or a run."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mlrec import storage
from mlrec.config.run_files import CHECKPOINTS, CONFIG_FILE, RECORD_FILE
from mlrec.data.format import CATALOGUE_FILE, DATASET_FILE

SHARDS_FOLDER = "items"
"""Subfolder of data.cache_dir that holds the shards."""


def checked_cache_dir(folder: Path, url: str) -> Path:
    """Return the folder that caches data of the data set at `url`, with links resolved.

    Raises:
        ValueError: the folder is, contains or lies in the folder of a data set or a run, whose
            files the cache might take for its own.
    """
    folder = folder.expanduser().resolve()
    data_folders = [storage.local_path(url).resolve()] if storage.is_local(url) else []
    for path in (*data_folders, folder, *folder.parents, *_subfolders(folder)):
        is_related = path == folder or path in folder.parents or folder in path.parents
        if not is_related:
            continue
        kind = "the data set" if path in data_folders else _owner(path)
        if kind:
            raise ValueError(
                f"data.cache_dir: {folder} {_relation(folder, path)} {kind} {path}. "
                "A cache needs a folder of its own. "
                "Choose another folder, for example ~/.cache/mlrec"
            )
    return folder


def _relation(folder: Path, other: Path) -> str:
    """Return how two related folders lie to each other, as a verb."""
    if other == folder:
        return "is"
    return "holds" if folder in other.parents else "lies in"


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [
            Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)
        ]
    except OSError:  # the folder does not exist yet
        return []


def _owner(folder: Path) -> str:
    """Return "the data set" or "the run" if the folder is one, else ""."""
    with contextlib.suppress(OSError):
        if (folder / DATASET_FILE).exists() and (
            (folder / CATALOGUE_FILE).exists() or (folder / SHARDS_FOLDER).exists()
        ):
            return "the data set"
        if (folder / CONFIG_FILE).exists() and (
            (folder / RECORD_FILE).exists() or (folder / CHECKPOINTS).exists()
        ):
            return "the run"
    return ""
