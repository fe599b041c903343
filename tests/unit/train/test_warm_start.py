"""A run begins with the weights of another one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from features import save_features
from tiny import NUM_ITEMS, tiny_overrides

from mlrec.config import Config, load
from mlrec.data.format import SplitInfo
from mlrec.data.stream import Data
from mlrec.models.building import build_model
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import World
from mlrec.train.dry_run import predict
from mlrec.train.loop import train
from mlrec.train.warm_start import start_from


@pytest.fixture
def frozen_config(dataset_dir: Path, tmp_path: Path) -> Config:
    """A run over features of width 16."""
    folder = tmp_path / "features"
    save_features(folder, range(1, NUM_ITEMS + 1), width=16)
    settings = [
        setting
        for setting in tiny_overrides(dataset_dir, tmp_path)
        if not setting.startswith("recommender.options")
    ]
    options = f"item.options.features/vectors={{checkpoint: {folder}, projection: mlp, whiten: 1}}"
    return load(
        [],
        [
            *settings,
            "name=frozen",
            "recommender.name=decayed_mean",
            "item.encoders=[features/vectors]",
            options,
        ],
    )


def trained_further(config: Config, whiten: float = 1.0) -> Config:
    """Return a run that starts from those weights and trains a video encoder."""
    features = config.item.options["features/vectors"]["checkpoint"]
    video = {
        "size": 32,
        "width": 16,
        "projection": "mlp",
        **({"whiten": whiten, "features": features} if whiten else {}),
    }
    item = replace(config.item, encoders=("video/tiny",), options={"video/tiny": video})
    return replace(
        config,
        name="further",
        item=item,
        train=replace(config.train, start_from=str(config.run_path)),
    )


def losses(config: Config) -> list[float]:
    lines = (config.run_path / "metrics.jsonl").read_text().splitlines()
    losses = []
    for line in lines:
        metrics = json.loads(line)
        if "train/loss" in metrics:
            losses.append(metrics["train/loss"])
    return losses


def test_start_from_of_frozen_features_loads_all_but_the_encoders(
    frozen_config: Config, data: Data, world: World
) -> None:
    train(frozen_config)
    config = trained_further(frozen_config)
    fresh, model = (build_model(config, data, 0) for _ in range(2))
    warm_start = start_from(config, data, model)
    assert warm_start is not None
    words = warm_start.in_words()
    assert words in "\n".join(predict(config, ranks=1).describe())
    best = checkpoint.best(frozen_config.run_path, "hr@10")
    assert best is not None
    before = dict(checkpoint.read_tensors(best, checkpoint.WEIGHT))
    assert (
        words == f"; warm start with {len(before)} of {len(model.state_dict())} tensors of {best}"
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in before else fresh.state_dict()[name]), (
            name
        )
    assert {name for name in model.state_dict() if name not in before} == {
        name for name in model.state_dict() if name.startswith("tower.encoders.")
    }


def test_start_from_of_another_packing_under_a_split_by_time_says_what_it_may_know(
    frozen_config: Config, data: Data, world: World
) -> None:
    train(frozen_config)
    config = trained_further(frozen_config)
    by_time = SplitInfo(kind="time", validation_from=10, test_from=20)
    info = replace(data.info, split=by_time, fingerprint="e" * 64)
    other = replace(data, info=info)
    warm_start = start_from(config, other, build_model(config, data, 0))
    assert warm_start is not None
    assert warm_start.in_words().endswith("perhaps on interactions after this one's split")


def test_start_from_of_a_resumed_run_is_ignored(tiny_config: Config) -> None:
    train(tiny_config)
    again = replace(
        tiny_config,
        name="again",
        train=replace(tiny_config.train, start_from=str(tiny_config.run_path)),
    )
    train(again)
    assert losses(again)[0] < losses(tiny_config)[0]
    longer = replace(again, train=replace(again.train, duration="18 steps"))
    train(longer)
    at_once = replace(longer, name="at_once")
    train(at_once)
    assert losses(longer) == pytest.approx(losses(at_once), abs=1e-5)


def test_start_from_of_another_model_or_data_set_is_refused(
    frozen_config: Config, tiny_config: Config, data: Data, world: World
) -> None:
    train(frozen_config)
    train(tiny_config)
    plain = trained_further(frozen_config, whiten=0.0)
    with pytest.raises(
        ValueError, match=r"has tower\.heads\.0\.0\.\w+, which this run's model lacks"
    ):
        start_from(plain, data, build_model(plain, data, 0))
    deeper = replace(
        tiny_config, recommender=replace(tiny_config.recommender, options={"layers": 3})
    )
    deeper = replace(deeper, train=replace(tiny_config.train, start_from=str(tiny_config.run_path)))
    with pytest.raises(
        ValueError, match=r"this run's model has sequence_model\.\S+, which .*step-\d+ lacks"
    ):
        start_from(deeper, data, build_model(deeper, data, 0))
    less = trained_further(frozen_config, whiten=0.5)
    with pytest.raises(
        ValueError, match=r"has another tower\.heads\.0\.0\.matrix\. Use the same whiten"
    ):
        start_from(less, data, build_model(less, data, 0))
    options = frozen_config.item.options | {"id/embedding": {}}
    item = replace(
        frozen_config.item, encoders=("id/embedding", "features/vectors"), options=options
    )
    turned = replace(
        frozen_config,
        item=item,
        train=replace(frozen_config.train, start_from=str(frozen_config.run_path)),
    )
    with pytest.raises(
        ValueError, match=r"features/vectors is number 2 of item\.encoders, and number 1 in"
    ):
        start_from(turned, data, build_model(turned, data, 0))
    nowhere = replace(tiny_config, train=replace(tiny_config.train, start_from="nowhere"))
    with pytest.raises(ValueError, match="nowhere is missing"):
        start_from(nowhere, data, build_model(nowhere, data, 0))
    again = replace(
        tiny_config, train=replace(tiny_config.train, start_from=str(tiny_config.run_path))
    )
    other = replace(data, info=replace(data.info, fingerprint="another"))
    with pytest.raises(ValueError, match="was trained on another data set than the one at"):
        start_from(again, other, build_model(again, other, 0))
    wider = replace(again, recommender=replace(again.recommender, width=8))
    with pytest.raises(
        ValueError, match=r"\[64\] in the checkpoint and \[32\] in this configuration's model"
    ):
        start_from(wider, data, build_model(wider, data, 0))
