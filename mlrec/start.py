"""What a run begins with: the weights of another run."""

from __future__ import annotations

from pathlib import Path

from mlrec import checkpoint
from mlrec.config import Config
from mlrec.data.stream import Data
from mlrec.evaluate import best_checkpoint, load_run
from mlrec.models.recommender import Recommender
from mlrec.schema import Modality


def start_from(config: Config, data: Data, model: Recommender) -> str:
    """Takes over the best weights of the run train.start_from, if that is set; collective.

    All that is behind the encoders must be the same as there; encoders that the other run does not have keep their own weights.

    Returns:
        What was taken over, in words behind a semicolon.

    Raises:
        ValueError: it is no run with a checkpoint, its model is another one, or it knows the items of another data set by id.
    """
    if not config.train.start_from:
        return ""
    path = best_checkpoint(load_run(Path(config.train.start_from).expanduser()))
    taken = checkpoint.take_weights(model, path)
    others = {name for name, _, _ in checkpoint.read_shapes(path) if not name.startswith("tower.encoders.")} - taken
    if others:
        raise ValueError(
            f"train.start_from: {path} has {min(others)}, which this run's model has not: encoders alone may differ; "
            "give both one recommender, fusion and projection"
        )
    tables = [f"tower.encoders.{place}." for place, spec in enumerate(model.tower.specs) if spec.modality is Modality.ID]
    by_id = any(name.startswith(table) for name in taken for table in tables)
    if by_id and not config.resume.force and checkpoint.read_state(path).fingerprint != data.info.fingerprint:
        raise ValueError(
            f"train.start_from: {path} was trained on another data set than the one at {data.url}, where ids may mean other "
            "items; set resume.force=true if they are the same"
        )
    return f"; begins with {len(taken)} of {len(model.state_dict())} tensors of {path}"
