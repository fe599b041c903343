"""Files in a run's folder that build its encoders without their pretrained checkpoints.

    <run>/encoders/video-videomae/config.json         the architecture, with all changes
    <run>/encoders/video-videomae/pixels.json         what happens to pixels before the model
    <run>/encoders/text-bert_small/tokenizer/         the tokenizer
    <run>/encoders/features-vectors/                  the features themselves
    <run>/encoders/.../whitening.safetensors          the mean and the matrix of whitened vectors

The weights are in the run's checkpoints. The folder is complete or absent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlrec import storage
from mlrec.config.run_files import ENCODERS

# the tower imports this module
if TYPE_CHECKING:
    from mlrec.models.tower import ItemTower


@dataclass(frozen=True)
class Restored:
    """Encoders that are built without reading their pretrained weights."""

    folders: Mapping[str, Path | None]
    """Folder of an encoder's files, by the name of an encoder whose weights are loaded from a run's
    checkpoint after the model is built. None for a run of an earlier version, which saved no
    files."""
    weights: Literal["all", "local", "none"] = "all"
    """Pretrained weights that are read: all, those of files on this machine, or none. Encoders
    without them have shapes alone, so that nothing is downloaded."""


NOTHING = Restored({})


def folder_of(run: Path, encoder: str) -> Path:
    """Return the folder in which a run saves an encoder's files."""
    return run / ENCODERS / encoder.replace("/", "-")


def restored_from(run: Path, encoders: Collection[str]) -> Restored:
    """Return how to build these encoders for a checkpoint of the run."""
    folders: dict[str, Path | None] = {}
    for name in encoders:
        folder = folder_of(run, name)
        folders[name] = folder if folder.is_dir() else None
    return Restored(folders)


def save_encoder_files(run: Path, tower: ItemTower) -> None:
    """Write the encoders' files into the run's folder, replacing those of an earlier start."""
    # the folder gets its name last, so that it is complete or absent
    partial = run / f"{ENCODERS}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    folders = {name: partial / folder_of(run, name).name for name in tower.names}
    for folder in folders.values():
        folder.mkdir(parents=True)
    tower.save_files(folders)
    # contents reach the disk before the name does, so that a crash leaves no folder with half its
    # files
    for path in [*partial.rglob("*"), partial]:
        storage.flush(path)
    shutil.rmtree(run / ENCODERS, ignore_errors=True)
    os.rename(partial, run / ENCODERS)
    storage.flush(run)
