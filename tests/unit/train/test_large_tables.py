"""Tables of ids that the ranks share: which these are, and runs with them on one rank."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import VIDEO, tiny_overrides

from mlrec.config import Config, LossConfig, OptimConfig, load
from mlrec.config.run_files import METRICS_FILE
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.runs import checkpoint
from mlrec.runtime.distributed import World, stop_world
from mlrec.train import large_tables
from mlrec.train.large_tables import find_tables
from mlrec.train.loop import train

NAME = "tower.encoders.0.embedding.weight"
SETTINGS = [
    "optim.schedule=cosine",
    "optim.encoder_lr=0.01",
    "optim.encoder_weight_decay=0.3",
    "optim.clip_norm=0.05",
    "train.evaluate_every=3 steps",
]
"""Settings with which every part of the update counts."""
IDS_AND_VIDEO = ["item.encoders=[id/embedding,video/tiny]", "item.options.id/embedding.lr=0.01"]


def run(overrides: list[str]) -> None:
    try:
        train(load([], overrides))
    finally:
        stop_world()


def logged(path: Path) -> dict[str, list[Any]]:
    """Return the values of the metrics that training and validation log."""
    values: dict[str, list[Any]] = {}
    for line in map(json.loads, (path / METRICS_FILE).read_text().splitlines()):
        for name, value in line.items():
            if name.startswith(("train/", "validation/", "test/")):
                values.setdefault(name, []).append(value)
    return values


def shard_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tables, "MIN_SHARDED_WEIGHTS", 1)


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shard tables of any size."""
    shard_all(monkeypatch)


def tables_of(config: Config, data: Data) -> set[str]:
    return set(find_tables(build_model(config, data, 0), config))


def test_find_tables_below_the_size_has_none(tiny_config: Config, data: Data) -> None:
    assert tables_of(tiny_config, data) == set()


def test_find_tables_of_ids_names_the_weight(
    tiny_config: Config, data: Data, sharded: None
) -> None:
    assert tables_of(tiny_config, data) == {NAME}


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": LossConfig("full_softmax")},
        # The two terms of MissedUpdates would be inexact.
        {"optim": OptimConfig(betas=(0.9, 0.9))},
        {"optim": OptimConfig(encoder_lr=0.1, encoder_weight_decay=10.1)},
    ],
)
def test_find_tables_that_must_stay_whole_has_none(
    tiny_config: Config, data: Data, sharded: None, changes: dict[str, Any]
) -> None:
    assert tables_of(replace(tiny_config, **changes), data) == set()


def test_find_tables_of_a_model_that_trains_nothing_else_has_none(
    tiny_config: Config, data: Data, sharded: None
) -> None:
    model = build_model(tiny_config, data, 0)
    model.sequence_model.requires_grad_(False)
    assert find_tables(model, tiny_config) == {}


@pytest.mark.parametrize(
    "changes",
    [
        ["zero.stage=0", "train.ema=0.5"],
        ["zero.stage=2"],
        # A low rate of the video encoder, in whose AdamW differences in rounding grow.
        ["zero.stage=3", *VIDEO, *IDS_AND_VIDEO, "optim.encoder_lr=0.00001"],
    ],
)
def test_run_with_a_sharded_table_equals_the_run_with_a_whole_one(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    usual = [*tiny_overrides(dataset_dir, tmp_path), *SETTINGS, *changes]
    run([*usual, "name=whole"])
    shard_all(monkeypatch)
    run([*usual, "name=sharded"])
    whole, sharded = (logged(tmp_path / name) for name in ("whole", "sharded"))
    assert whole.keys() == sharded.keys()
    assert len(sharded["train/loss"]) == 12
    rate = "train/encoder_0_lr" if IDS_AND_VIDEO[0] in changes else "train/encoder_lr"
    for name in ("train/loss", "train/grad_norm", rate, "validation/hr@10"):
        assert sharded[name] == pytest.approx(whole[name], abs=1e-5), name
    assert max(whole["train/grad_norm"]) > 0.05, "the gradient is clipped"

    saved = [checkpoint.newest(tmp_path / name) for name in ("whole", "sharded")]
    for prefix in ("weight/", "raw_weight/", "exp_avg/", "exp_avg_sq/"):
        expected, tensors = (dict(checkpoint.read_tensors(path, prefix)) for path in saved)
        assert expected.keys() == tensors.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(tensors[name], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stage", [0, 2, 3])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_update_with_a_non_finite_gradient_of_rows_alone_is_skipped(
    tiny_config: Config, data: Data, world: World, sharded: None, stage: int, value: float
) -> None:
    from mlrec.train.engine import build_engine

    config = replace(tiny_config, zero=replace(tiny_config.zero, stage=stage))
    model = build_model(config, data, 0)
    engine = build_engine(config, model, world, steps_per_epoch=7, total_steps=12)
    plan = Plan(data.sequences, 0, 20, Owners((1,)))
    dataset = StepDataset(data, plan, 0, model.tower.specs, False, False)
    (table,) = model.tower.sharded_tables
    assert not engine.train_step(dataset[0]).skipped
    before = {name: tensor.clone() for _, name, tensor in engine.state.tensors()}

    engine.backward(engine.forward(dataset[1]))
    assert table.fetched is not None
    table.fetched.own.grad[0, 0] = value  # type: ignore[index]  # not None after backward
    _, skipped = engine.update()
    assert skipped
    after = {name: tensor for _, name, tensor in engine.state.tensors()}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert NAME in {name.partition("/")[2] for name in after}


@pytest.mark.parametrize("first_half_is_sharded", [True, False])
def test_run_resumes_with_the_other_kind_of_table(
    dataset_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first_half_is_sharded: bool,
) -> None:
    usual = [*tiny_overrides(dataset_dir, tmp_path), *SETTINGS, "optim.schedule=constant"]
    usual.append("train.ema=0.5")
    run([*usual, "name=whole"])
    with monkeypatch.context() as patch:
        if first_half_is_sharded:
            shard_all(patch)
        run([*usual, "name=resumed", "train.duration=6 steps"])
    if not first_half_is_sharded:
        shard_all(monkeypatch)
    run([*usual, "name=resumed"])
    whole, resumed = (logged(tmp_path / name) for name in ("whole", "resumed"))
    assert resumed["train/loss"] == pytest.approx(whole["train/loss"], abs=1e-5)
    assert resumed["validation/hr@10"][-1] == pytest.approx(whole["validation/hr@10"][-1])


def test_warm_start_of_a_sharded_table_has_the_losses_of_a_whole_one(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = [*tiny_overrides(dataset_dir, tmp_path), *SETTINGS]
    run([*usual, "name=first", "train.duration=3 steps"])
    later = [*usual, f"train.start_from={tmp_path}/first", "train.duration=4 steps"]
    run([*later, "name=whole"])
    shard_all(monkeypatch)
    run([*later, "name=sharded"])
    whole, sharded = (logged(tmp_path / name) for name in ("whole", "sharded"))
    assert sharded["train/loss"] == pytest.approx(whole["train/loss"], abs=1e-5)
