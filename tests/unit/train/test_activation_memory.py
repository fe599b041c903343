"""item.checkpoint=auto: activations are held where they fit into memory, by what an item needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_encoders import media_of
from small_towers import CPU, tower_of

from mlrec.config import Config
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data
from mlrec.models.building import build_model
from mlrec.runtime.distributed import World
from mlrec.train import activation_memory
from mlrec.train.activation_memory import Saving, choose, saved_bytes
from mlrec.train.engine import build_engine

ALONE = World(rank=0, size=1, device=CPU, nodes=(1,))


@pytest.mark.parametrize("tuning", ["full", "top"])
@pytest.mark.parametrize(
    "name", ["video/videomae", "video/x3d_xs", "image/resnet50", "text/bert_tiny", "id/embedding"]
)
def test_saved_bytes_of_an_item_are_those_that_a_step_holds(name: str, tuning: str) -> None:
    tower = tower_of(name, chunk=4, checkpoint="never", tuning=tuning, batchnorm="sync")
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    item_bytes = saved_bytes(tower, CPU, torch.float32)
    for key, value in tower.state_dict().items():
        assert value.equal(before[key]), "the measurement does not count in statistics"
    assert tower.training
    held: dict[int, torch.Tensor] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        vectors = tower.encode(media_of(tower.specs[0], 16), most=16)
    for tensor in (*tower.parameters(), *tower.buffers()):
        held.pop(tensor.untyped_storage().data_ptr(), None)
    total = sum(tensor.untyped_storage().nbytes() for tensor in held.values())
    assert item_bytes == pytest.approx(total / 16, rel=0.15)
    assert len(vectors) == 16


def test_saved_bytes_in_bf16_are_half() -> None:
    fp32_bytes = saved_bytes(tower_of("video/tiny"), CPU, torch.float32)
    bf16_bytes = saved_bytes(tower_of("video/tiny"), CPU, torch.bfloat16)
    assert bf16_bytes == pytest.approx(fp32_bytes / 2, rel=0.01)


@pytest.mark.parametrize(("free", "recomputes"), [(2100, False), (1900, True), (20, True)])
def test_choose_holds_activations_up_to_half_of_the_free_memory(
    free: int, recomputes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation_memory, "free_host_bytes", lambda: 3.0 * free + 300)
    saving = choose(
        item_bytes=10.0, items=100, coming_bytes=100.0, world=World(4, 5, CPU, nodes=(2, 3))
    )
    assert saving == Saving(recomputes, items=100, item_bytes=10.0, room_bytes=free / 2)
    words = (
        "are recomputed in each chunk's backward pass"
        if recomputes
        else "are held for the backward pass"
    )
    assert saving.in_words().startswith(
        f"; activations {words}: 0.00 MB per item, 0.00 GB for the 100 items of a rank and step"
    )


def test_free_host_bytes_in_a_container_are_those_of_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = activation_memory.free_host_bytes()
    assert 1e8 < machine < 1e15
    monkeypatch.setattr("mlrec.runtime.hardware.CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 1000000\n")
    assert activation_memory.free_host_bytes() == 3_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert activation_memory.free_host_bytes() > 1e8


@pytest.fixture
def no_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave DeepSpeed out: it starts once in a process, and the choice does not need it."""
    import deepspeed

    monkeypatch.setattr(
        deepspeed, "initialize", lambda model, optimizer, config: (model, optimizer, None, None)
    )


@pytest.mark.parametrize(
    ("recompute", "host_bytes", "items", "expected"),
    [
        ("auto", 1e12, 40, False),
        ("auto", 1e6, 40, True),
        ("auto", 1e12, None, True),
        ("always", 1e12, 40, True),
        ("never", 1e6, 40, False),
    ],
)
def test_engine_with_auto_and_known_items_chooses(
    recompute: str,
    host_bytes: float,
    items: int | None,
    expected: bool,
    video_config: Config,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
    no_deepspeed: None,
) -> None:
    monkeypatch.setattr(activation_memory, "free_host_bytes", lambda: host_bytes)
    config = replace(video_config, item=replace(video_config.item, checkpoint=recompute))
    model = build_model(config, data, 0)
    engine = build_engine(config, model, ALONE, 7, 12, items=items)
    assert model.tower.recomputes == expected
    assert (engine.saving is not None) == (recompute == "auto" and items is not None)


def test_engine_with_a_frozen_tower_chooses_nothing(
    video_config: Config, data: Data, no_deepspeed: None
) -> None:
    config = replace(video_config, item=replace(video_config.item, tuning="frozen"))
    engine = build_engine(config, build_model(config, data, 0), ALONE, 7, 12, items=40)
    assert engine.saving is None


def test_most_items_of_a_short_run_are_those_of_all_its_steps(data: Data) -> None:
    plan = Plan(data.sequences, 0, 20, Owners((2,)))
    largest_of_each_step = [max(plan.step(step).owned_W) for step in range(12)]
    assert plan.most_items(12) == max(largest_of_each_step)
