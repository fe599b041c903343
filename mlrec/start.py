"""What a run begins with: the weights of another run."""

from __future__ import annotations

from pathlib import Path

import torch

from mlrec import checkpoint
from mlrec.config import Config
from mlrec.data.stream import Data
from mlrec.evaluate import best_checkpoint, load_run
from mlrec.models.recommender import Recommender
from mlrec.schema import Modality


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
    whitened = {name: buffer.clone() for name, buffer in model.named_buffers() if name.startswith("tower.heads.")}
    _check_places(other, config)
    taken = checkpoint.take_weights(model, path)
    there = {name for name, _, _ in checkpoint.read_shapes(path)}
    for names, who in ((there, f"{path} has"), (set(model.state_dict()), "this run's model has")):
        if others := {name for name in names if not name.startswith("tower.encoders.")} - taken:
            raise ValueError(
                f"train.start_from: {who} {min(others)}, which the other has not: encoders alone may differ; give both one "
                "recommender, fusion, projection and whitening"
            )
    if changed := [name for name, buffer in whitened.items() if not torch.allclose(buffer, model.get_buffer(name), atol=1e-3)]:
        raise ValueError(
            f"train.start_from: {path} has another {min(changed)}: give both runs one whiten, and the features of one encoder"
        )
    tables = [f"tower.encoders.{place}." for place, spec in enumerate(model.tower.specs) if spec.modality is Modality.ID]
    by_id = model.sequence_model.knows_ids or any(name.startswith(table) for name in taken for table in tables)
    if by_id and not config.resume.force and checkpoint.read_state(path).fingerprint != data.info.fingerprint:
        raise ValueError(
            f"train.start_from: {path} was trained on another data set than the one at {data.url}, where ids may mean "
            "others; append resume.force=true if the ids are the same"
        )
    return f"; begins with {len(taken)} of {len(model.state_dict())} tensors of {path}"


def _check_places(other: Config, config: Config) -> None:
    """Weights are known by an encoder's place, for another may follow in it: the same encoder must stand where it stood."""
    for name in set(other.item.encoders) & set(config.item.encoders):
        before, now = other.item.encoders.index(name), config.item.encoders.index(name)
        if before != now:
            raise ValueError(
                f"train.start_from: {name} is number {now + 1} of item.encoders, and number {before + 1} in {other.run_path}; "
                "keep the order of that run, and put what it has not at the end"
            )
