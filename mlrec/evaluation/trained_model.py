"""Load the model of a trained run with the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from mlrec.config import Config
from mlrec.data.decode_on import delivered_for_ranking
from mlrec.data.stream import Data
from mlrec.evaluation.history_length import check_history_length
from mlrec.models.building import build_model
from mlrec.models.chunk_choice import choose_for_ranking
from mlrec.models.encoder_files import restored_from
from mlrec.models.precision import use_tf32_as_set
from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint
from mlrec.runs.compatibility import check_same_data
from mlrec.runtime.distributed import World


def load_model(config: Config, data: Data, world: World, path: Path) -> Recommender:
    """Return the run's model with the weights of a checkpoint, in fp32 on the device;
    collective.

    It computes in TF32 if it was trained so and the device supports it.

    Every rank reads the whole checkpoint.

    Raises:
        ValueError: the model identifies items or users by ids of another data set, or it is for
            histories of another length.
    """
    # From the run's own folder, as the pretrained checkpoints may be gone by now.
    encoders = restored_from(config.run_path, config.item.encoders)
    model = build_model(config, data, world.rank, encoders)
    model.tower.specs = delivered_for_ranking(model.tower.specs, data, world)
    # Before the weights are loaded, where the same mistake would be reported as wrong shapes.
    check_history_length(config.recommender, data, path)
    checkpoint.load_weights(model, path)
    # Other models see content alone, so they may rank the items of another data set.
    if model.sequence_model.knows_ids or model.tower.knows_ids:
        check_same_data(path, data.info.fingerprint, data.url, config.resume.force)
    use_tf32_as_set(config)
    model = model.to(world.device)
    choose_for_ranking(config, model.tower, world)
    return model
