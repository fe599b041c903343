"""Open a run's folder: its configuration, its best checkpoint, and the state that training resumes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.config.run_files import CONFIG_FILE
from mlrec.data.format import DATASET_FILE
from mlrec.data.stream import Data
from mlrec.runs import checkpoint
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.compatibility import (
    WITHOUT_EFFECT,
    changes,
    check_model_settings,
    check_same_run,
    model_settings,
)
from mlrec.runtime.distributed import from_main


def load_run(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run's folder, wherever it lies now, with "key=value" in the place of its own.

    Raises:
        ValueError: it is no run's folder, or a key or a value does not fit.
    """
    if not (run / CONFIG_FILE).exists():
        raise ValueError(
            f"{run} is no run: it has no {CONFIG_FILE}; give the folder that mlrec train wrote"
        )
    return replace(configuration.load_saved(run / CONFIG_FILE, overrides), run_dir=str(run))


def load_trained(run: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a run's folder, with overrides of keys that its weights do not depend on.

    Raises:
        ValueError: as load_run, or an override changes what was trained.
    """
    config = load_run(run, overrides)
    if changed := changes(config, WITHOUT_EFFECT):
        raise ValueError(
            f"{run}: cannot override settings fixed at training time ({changed}). Leave these out"
        )
    return config


def best_checkpoint(config: Config) -> Path:
    """Return the run's best checkpoint by validation; collective.

    Raises:
        ValueError: it has none, or the configuration does not describe its model.
    """
    path = from_main(lambda: checkpoint.best(config.run_path, config.evaluate.select_by))
    if path is None:
        raise ValueError(
            f"{config.run_path} has no checkpoint; mlrec train writes the first one after train.save_every"
        )
    trained_with = checkpoint.read_state(path).settings
    check_model_settings(config, trained_with, str(config.run_path / CONFIG_FILE), str(path))
    return path


def check_place(config: Config) -> None:
    """
    Raises:
        ValueError: run_dir is no folder for a run.
    """
    path = config.run_path
    if path.is_file() or (path / DATASET_FILE).exists():
        what = "a file" if path.is_file() else "a data set"
        raise ValueError(
            f"run_dir is {config.run_dir!r}, and {path} is {what}; give a folder for the run alone"
        )


def find_state(config: Config, data: Data) -> tuple[Path | None, TrainingState]:
    """Return the checkpoint that the run resumes from, if it has one, and the state that it begins in; collective.

    Raises:
        ValueError: the checkpoint is damaged, or the data set, the global batch, the seed or other settings are not the
            checkpoint's.
    """
    begin = TrainingState(
        0,
        config.seed,
        data.info.fingerprint,
        config.train.global_batch,
        settings=model_settings(config),
    )
    path = from_main(lambda: checkpoint.newest(config.run_path))
    if path is None:
        return None, begin
    state = checkpoint.read_state(path)
    checkpoint.check_resumable(state, begin, path, config.resume.force)
    if not config.resume.force and not (config.run_path / CONFIG_FILE).exists():
        raise ValueError(
            f"{config.run_path} has checkpoints but no {CONFIG_FILE}, so that their settings cannot be compared with this "
            "command's. Restore the file, or set resume.force=true to continue with this command's settings."
        )
    check_same_run(config)
    return path, replace(begin, step=state.step)
