"""Runs with adapters: exported without them, and warm starts from and into them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_encoders import SMALL, media_of
from tiny import tiny_overrides

from mlrec.config import Config, load
from mlrec.config.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.data.stream import Data
from mlrec.models.building import build_model
from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint
from mlrec.runs.run import best_checkpoint
from mlrec.runtime.distributed import World
from mlrec.serving.export import export
from mlrec.train.loop import train
from mlrec.train.warm_start import start_from

NAME = "text/bert_tiny"


@pytest.fixture
def adapted_config(dataset_dir: Path, tmp_path: Path) -> Config:
    config = load([], [*tiny_overrides(dataset_dir, tmp_path), "optim.encoder_lr=0.01"])
    options = {NAME: {**SMALL[NAME], "lora": {"rank": 4, "dora": True}}}
    item = replace(config.item, encoders=(NAME,), options=options, tuning="lora")
    return replace(config, name="adapted", item=item)


def vectors_of(model: Recommender) -> torch.Tensor:
    torch.manual_seed(0)
    return model.eval().tower(media_of(model.tower.specs[0], 5)).detach()


def trained_model(config: Config, data: Data) -> Recommender:
    model = build_model(config, data, 0)
    checkpoint.load_weights(model, best_checkpoint(config))
    return model


def test_adapters_are_merged_in_exports_and_taken_over_by_other_runs(
    adapted_config: Config, data: Data, world: World, tmp_path: Path
) -> None:
    train(adapted_config)
    expected = vectors_of(trained_model(adapted_config, data))
    out = tmp_path / "out"
    weights, _ = export(adapted_config.run_path, str(out))
    plain = build_model(load([out / CONFIG_FILE], []), data, 0)
    plain.load_state_dict(load_file(weights))
    assert Path(weights).name == WEIGHTS_FILE
    torch.testing.assert_close(vectors_of(plain), expected, atol=1e-5, rtol=1e-5)

    further = replace(
        adapted_config,
        name="further",
        train=replace(adapted_config.train, start_from=str(adapted_config.run_path)),
    )
    # adapters of another rank begin with the merged weights, and so does another tuning
    other_rank = {NAME: {**SMALL[NAME], "lora": {"rank": 2}}}
    for changes in (
        {},
        {"options": other_rank},
        {"options": {NAME: SMALL[NAME]}, "tuning": "full"},
    ):
        config = replace(further, item=replace(further.item, **changes))
        model = build_model(config, data, 0)
        assert start_from(config, data, model) is not None
        torch.testing.assert_close(vectors_of(model), expected, atol=1e-5, rtol=1e-5)
