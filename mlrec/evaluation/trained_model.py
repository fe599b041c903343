"""Load the model of a trained run with the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from mlrec.config import Config
from mlrec.data.stream import Data
from mlrec.evaluation.history_length import check_history_length
from mlrec.models.building import build_model
from mlrec.models.encoder_files import restored_from
from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import World


def load_model(config: Config, data: Data, world: World, path: Path) -> Recommender:
    """The run's model with the weights of a checkpoint, in fp32 on the device.

    Raises:
        ValueError: the model knows items or users by their ids, which in the data set at data.url are not those of its training,
            or it is for histories of another length.
    """
    model = build_model(
        config, data, world.rank, restored_from(config.run_path, config.item.encoders)
    )
    check_history_length(config.recommender, data, path)
    checkpoint.load_weights(model, path)
    by_id = model.sequence_model.knows_ids or model.tower.knows_ids
    if (
        by_id
        and not config.resume.force
        and checkpoint.read_state(path).fingerprint != data.info.fingerprint
    ):
        raise ValueError(
            f"{path} was trained on another data set than the one at {data.url}, where ids may mean others; train a new run, "
            "or append resume.force=true if the ids are the same"
        )
    return model.to(world.device)
