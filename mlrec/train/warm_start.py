"""What a run begins with: the weights of another run."""

from __future__ import annotations

from pathlib import Path

import torch

from mlrec.config import Config
from mlrec.config.run_files import ENCODERS
from mlrec.data.schema import Modality
from mlrec.data.stream import Data
from mlrec.evaluation.history_length import check_history_length
from mlrec.models.encoder_files import NOTHING, Restored, restored_from, save_encoder_files
from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint
from mlrec.runs.run import best_checkpoint, load_run

TRAINING_OPTIONS = ("tuning", "lr", "weight_decay", "projection", "dropout")
"""Options of an encoder that change neither its architecture nor what it reads."""


def start_from(config: Config, data: Data, model: Recommender) -> str:
    """Takes over the best weights of the run train.start_from, if that is set; collective.

    All that is behind the encoders must be the same as there; an encoder in the place of another keeps its own weights.

    Returns:
        What was taken over, in words behind a semicolon.

    Raises:
        ValueError: it is no run with a checkpoint, its model is another one, or it knows the items or users of another data set.
    """
    if not config.train.start_from:
        return ""
    other = load_run(Path(config.train.start_from).expanduser())
    path = best_checkpoint(other)
    whitened = {
        name: buffer.clone()
        for name, buffer in model.named_buffers()
        if name.startswith("tower.heads.")
    }
    _check_places(other, config)
    if config.recommender == other.recommender:
        check_history_length(config.recommender, data, path)
    taken = checkpoint.take_weights(model, path)
    there = {name for name, _, _ in checkpoint.read_shapes(path)}
    for names, who in ((there, f"{path} has"), (set(model.state_dict()), "this run's model has")):
        if others := {name for name in names if not name.startswith("tower.encoders.")} - taken:
            raise ValueError(
                f"train.start_from: {who} {min(others)}, which the other has not: encoders alone may differ; give both one "
                "recommender, fusion, projection and whitening"
            )
    if changed := [
        name
        for name, buffer in whitened.items()
        if not torch.allclose(buffer, model.get_buffer(name), atol=1e-3)
    ]:
        raise ValueError(
            f"train.start_from: {path} has another {min(changed)}: give both runs one whiten, and the features of one encoder"
        )
    tables = [
        f"tower.encoders.{place}."
        for place, spec in enumerate(model.tower.specs)
        if spec.modality is Modality.ID
    ]
    by_id = model.sequence_model.knows_ids or any(
        name.startswith(table) for name in taken for table in tables
    )
    if (
        by_id
        and not config.resume.force
        and checkpoint.read_state(path).fingerprint != data.info.fingerprint
    ):
        raise ValueError(
            f"train.start_from: {path} was trained on another data set than the one at {data.url}, where ids may mean "
            "others; append resume.force=true if the ids are the same"
        )
    model.tower.random_encoders = [
        name for name in model.tower.random_encoders if not _taken(name, config, taken)
    ]
    return f"; begins with {len(taken)} of {len(model.state_dict())} tensors of {path}"


def _taken(encoder: str, config: Config, taken: set[str]) -> bool:
    """Tell whether weights of an encoder were taken over."""
    place = config.item.encoders.index(encoder)
    return any(name.startswith(f"tower.encoders.{place}.") for name in taken)


def encoders_to_restore(config: Config, resumed: Path | None) -> Restored:
    """Return the encoders whose weights come from a checkpoint: the run's own, or that of train.start_from.

    Of train.start_from these are the encoders with the same options whose files that run has kept.

    Args:
        resumed: the checkpoint that the run goes on from, if it has one.
    """
    if resumed is not None:
        return restored_from(config.run_path, config.item.encoders)
    if not config.train.start_from:
        return NOTHING
    other = load_run(Path(config.train.start_from).expanduser())
    same = [
        name
        for name in config.item.encoders
        if name in other.item.encoders and _same_input(name, config, other)
    ]
    kept = restored_from(other.run_path, same).folders
    return Restored({name: folder for name, folder in kept.items() if folder is not None})


def _same_input(encoder: str, config: Config, other: Config) -> bool:
    """Tell whether an encoder has the same architecture and inputs in both runs, however it is trained."""
    ours, theirs = (
        {
            key: value
            for key, value in one.item.options.get(encoder, {}).items()
            if key not in TRAINING_OPTIONS
        }
        for one in (config, other)
    )
    return ours == theirs


def keep_encoder_files(config: Config, model: Recommender, resumed: Path | None) -> None:
    """Write what builds the run's encoders without their pretrained checkpoints, unless a resumed run has it."""
    if resumed is None or not (config.run_path / ENCODERS).is_dir():
        save_encoder_files(config.run_path, model.tower)


def _check_places(other: Config, config: Config) -> None:
    """Weights are known by an encoder's place, for another may follow in it: the same encoder must stand where it stood."""
    for name in set(other.item.encoders) & set(config.item.encoders):
        before, now = other.item.encoders.index(name), config.item.encoders.index(name)
        if before != now:
            raise ValueError(
                f"train.start_from: {name} is number {now + 1} of item.encoders, and number {before + 1} in {other.run_path}; "
                "keep the order of that run, and put what it has not at the end"
            )
