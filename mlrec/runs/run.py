"""Open the folder of a run: configuration, best checkpoint, and the state to resume from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlrec import config as configuration
from mlrec import storage
from mlrec.config import Config
from mlrec.config.run_files import CONFIG_FILE, RUN_REMEDY, WEIGHTS_FILE
from mlrec.data.format import DATASET_FILE
from mlrec.data.stream import Data
from mlrec.runs import checkpoint
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.compatibility import (
    WITHOUT_EFFECT,
    changes,
    check_model_settings,
    check_resumable,
    check_same_run,
    model_settings,
)
from mlrec.runtime.distributed import from_main


def load_run(run: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a run, whose folder may have moved, with overrides.

    Args:
        overrides: "key=value" settings that replace those of the run.

    Raises:
        ValueError: the folder is no run, or a key or a value does not fit.
    """
    if not (run / CONFIG_FILE).exists():
        raise ValueError(storage.why_absent(str(run), "a run", CONFIG_FILE, RUN_REMEDY))
    config = configuration.load_saved(run / CONFIG_FILE, overrides)
    # Training saves the precision that auto stood for.
    if config.train.precision == "auto":
        raise ValueError(
            f"{run}: train.precision is 'auto', which does not say how the run was trained. Leave "
            f"it out of the command, and set it in {CONFIG_FILE} to the precision of the training"
        )
    # With the name in it as {name}, a run of another name that is derived from this configuration
    # gets a folder of its own.
    is_named = run.name == config.name
    return replace(config, run_dir=str(run.parent / "{name}" if is_named else run))


def load_trained(run: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a run, with overrides of keys that do not affect its weights.

    Raises:
        ValueError: as load_run, or an override changes what was trained.
    """
    config = load_run(run, overrides)
    changed = changes(config, WITHOUT_EFFECT)
    if changed:
        raise ValueError(
            f"{run}: cannot override settings fixed at training time ({changed}). Leave these out"
        )
    return config


def best_checkpoint(config: Config) -> Path:
    """Return the run's best checkpoint by validation; collective.

    Raises:
        ValueError: the run has no checkpoint, or its configuration does not describe the model.
    """
    # rank 0 reads the folder: on shared storage other ranks may see it later
    path = from_main(lambda: checkpoint.best(config.run_path, config.evaluate.select_by))
    if path is None and (config.run_path / WEIGHTS_FILE).is_file():
        raise ValueError(
            f"{config.run_path} is an export, which has no checkpoint. Name the run that it was "
            "exported from. mlrec recommend also takes an export with an index: "
            f"mlrec export RUN {config.run_path} --index"
        )
    if path is None:
        raise ValueError(
            f"{config.run_path} has no checkpoint. "
            "mlrec train writes the first one after train.save_every"
        )
    trained_with = checkpoint.read_state(path).settings
    check_model_settings(config, trained_with, str(config.run_path / CONFIG_FILE), str(path))
    return path


def check_place(config: Config) -> None:
    """Check that run_dir can hold a run.

    Raises:
        ValueError: it is a file, a data set or read-only.
    """
    path = config.run_path
    if path.is_file() or (path / DATASET_FILE).exists():
        what = "a file" if path.is_file() else "a data set"
        raise ValueError(
            f"run_dir is {config.run_dir!r}, and {path} is {what}. Name a folder for this run alone"
        )
    # rank 0 writes; other nodes may not have the folder
    if os.environ.get("RANK", "0") == "0":
        storage.check_writable(path, "run_dir")


def find_state(config: Config, data: Data) -> tuple[Path | None, TrainingState]:
    """Return the checkpoint to resume from, or None, and the state in which training starts.

    Collective: every rank calls it, and rank 0 chooses the checkpoint.

    Raises:
        ValueError: the checkpoint is damaged, or the data set, the global batch, the seed or other
            settings differ from those of the checkpoint.
    """
    new = TrainingState(
        0,
        config.seed,
        data.info.fingerprint,
        config.train.global_batch,
        settings=model_settings(config),
    )
    # Ranks that listed the folder themselves could resume from different steps.
    path = from_main(lambda: checkpoint.newest(config.run_path))
    if path is None:
        return None, new
    state = checkpoint.read_state(path)
    check_resumable(state, new, path, config)
    if not config.resume.force and not (config.run_path / CONFIG_FILE).exists():
        raise ValueError(
            f"{config.run_path} has checkpoints but no {CONFIG_FILE}, so their settings cannot be "
            "compared with those of this command. Restore the file, or set resume.force=true to "
            "continue with this command's settings."
        )
    check_same_run(config)
    # The other fields are this command's, because resume.force may have changed them.
    resumed = replace(new, step=state.step)
    if state.fingerprint == new.fingerprint:
        # On another data set, the next validation is the best so far.
        resumed = replace(resumed, stale_validations=state.stale_validations)
    return path, resumed


def is_out_of_patience(config: Config, stale_validations: int) -> bool:
    """Return whether train.patience stops a run after so many validations without a new best."""
    return 0 < config.train.patience <= stale_validations


def last_step_of(config: Config, state: TrainingState, total_steps: int) -> int:
    """Return the step at which a run ends that continues from `state`.

    It is that of the checkpoint if the run has stopped early. Otherwise it is `total_steps`,
    before which the run may still stop.
    """
    return state.step if is_out_of_patience(config, state.stale_validations) else total_steps
