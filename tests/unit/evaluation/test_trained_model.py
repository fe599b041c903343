"""A trained model is loaded only for the data set it was trained on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlrec.config import Config, ResumeConfig
from mlrec.data.stream import Data
from mlrec.evaluation.trained_model import load_model
from mlrec.models.building import build_model
from mlrec.runs import checkpoint
from mlrec.runs.checkpoint import TrainingState
from mlrec.runtime.distributed import World

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


def test_load_model_with_ids_of_another_data_set_is_refused(
    tiny_config: Config, video_config: Config, data: Data, tmp_path: Path
) -> None:
    for config, knows_ids in (
        (replace(tiny_config, name="ids"), True),
        (replace(video_config, name="video"), False),
    ):
        weights = build_model(config, data, 0).state_dict()
        tensors = (
            (index, f"{checkpoint.WEIGHT}{name}", tensor)
            for index, (name, tensor) in enumerate(weights.items())
        )
        path = checkpoint.save(
            tmp_path / config.name, ALONE, TrainingState(1, 0, "of another data set", 18), tensors
        )
        if knows_ids:
            with pytest.raises(ValueError, match="was trained on another data set"):
                load_model(config, data, ALONE, path)
            config = replace(config, resume=ResumeConfig(force=True))
        assert load_model(config, data, ALONE, path).state_dict().keys() == weights.keys()


def test_load_model_for_another_history_length_is_refused(
    video_config: Config, data: Data, tmp_path: Path
) -> None:
    weights = build_model(video_config, data, 0).state_dict()
    tensors = (
        (index, f"{checkpoint.WEIGHT}{name}", tensor)
        for index, (name, tensor) in enumerate(weights.items())
    )
    path = checkpoint.save(tmp_path, ALONE, TrainingState(1, 0, data.info.fingerprint, 18), tensors)
    keep_last = data.info.split.keep_last
    shorter = replace(
        data, info=replace(data.info, split=replace(data.info.split, keep_last=keep_last - 3))
    )
    words = (
        rf"trained on histories of {keep_last - 3} items \(keep_last={keep_last}\), .* "
        rf"--keep-last {keep_last}, or train a new"
    )
    with pytest.raises(ValueError, match=words):
        load_model(video_config, shorter, ALONE, path)
