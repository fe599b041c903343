"""What a run keeps of its encoders, so that they are built again without the pretrained checkpoint.

    <run>/encoders/video-videomae/config.json         the architecture, with all changes
    <run>/encoders/video-videomae/pixels.json         what happens to pixels before the model
    <run>/encoders/text-bert_small/tokenizer/         the tokenizer
    <run>/encoders/features-vectors/                  the features themselves
    <run>/encoders/.../whitening.safetensors          the mean and the matrix of whitened vectors

Weights are not among them: they are in the run's checkpoints. The folder is complete or absent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec import storage
from mlrec.config.run_files import ENCODERS

if TYPE_CHECKING:
    from mlrec.models.tower import ItemTower


@dataclass(frozen=True)
class Restored:
    """Encoders whose weights come from a run's checkpoint, which is loaded after the model is built."""

    folders: Mapping[str, Path | None]
    """By the encoder's name, the folder of its files; None for a run of an earlier version, which has none."""


NOTHING = Restored({})


def folder_of(run: Path, encoder: str) -> Path:
    """Return where a run keeps an encoder's files."""
    return run / ENCODERS / encoder.replace("/", "-")


def restored_from(run: Path, encoders: Collection[str]) -> Restored:
    """Return how to build these encoders for a checkpoint of the run."""
    folders = {name: folder_of(run, name) for name in encoders}
    return Restored({name: folder if folder.is_dir() else None for name, folder in folders.items()})


def save_encoder_files(run: Path, tower: ItemTower) -> None:
    """Write the encoders' files into the run's folder, in place of those of an earlier start."""
    partial = run / f"{ENCODERS}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    folders = {name: partial / folder_of(run, name).name for name in tower.names}
    for folder in folders.values():
        folder.mkdir(parents=True)
    tower.save_files(folders)
    for path in [*partial.rglob("*"), partial]:
        storage.flush(path)
    shutil.rmtree(run / ENCODERS, ignore_errors=True)
    os.rename(partial, run / ENCODERS)
    storage.flush(run)
