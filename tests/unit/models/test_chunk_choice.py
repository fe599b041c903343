"""item.chunk=auto and item.checkpoint=auto: chunks that keep a device busy and fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_encoders import media_of
from small_towers import CPU, tower_of

from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data
from mlrec.models import chunk_choice
from mlrec.models.building import build_model
from mlrec.models.chunk_choice import ChunkChoice, choose
from mlrec.models.formulas import (
    CPU_RATES,
    MAX_CHUNK,
    MIN_CHUNK,
    chunk_size,
    gpu_rates,
    held_chunks,
)
from mlrec.models.pass_cost import PassCost, Rates, TowerCost, Work
from mlrec.models.simulation import tower_cost
from mlrec.models.skeleton import skeletons
from mlrec.models.tower import ItemTower
from mlrec.runtime.devices import DEVICES
from mlrec.runtime.distributed import World
from mlrec.train.engine import build_engine

ALONE = World(rank=0, size=1, device=CPU, nodes=(1,))
NO_WORK = Work(np.zeros(0), np.zeros(0))
GB = 1e9


def cost_of(saved_bytes: float, peak_bytes: float, flops: float = 0.0) -> TowerCost:
    """Return a cost of ten kernels in proportion to the number of items."""
    costs = []
    for items in (1, 2):
        work = Work(np.full(10, items * flops / 10), np.zeros(10))
        saved, peak = int(items * saved_bytes), int(items * peak_bytes)
        costs.append(PassCost(items, work, NO_WORK, NO_WORK, saved, peak))
    return TowerCost(*costs)


@pytest.mark.parametrize(
    ("flops", "expected"),
    [
        # A launch takes 1 s, and ten of them twice take as long as 20 items of 1 FLOP each.
        (1.0, 32),
        (0.1, 256),
        (100.0, MIN_CHUNK),
        (0.0, MAX_CHUNK),
    ],
)
def test_chunk_size_keeps_the_device_busier_than_its_host(flops: float, expected: int) -> None:
    rates = Rates(flops_per_s=1.0, bytes_per_s=1.0, launch_s=1.0)
    assert chunk_size(cost_of(1.0, 1.0, flops), rates, room_bytes=1e12) == expected


@pytest.mark.parametrize(("room", "expected"), [(1e6, 256), (2000, 128), (150, 8), (1, 1)])
def test_chunk_size_is_the_largest_that_fits(room: float, expected: int) -> None:
    rates = Rates(flops_per_s=1.0, bytes_per_s=1.0, launch_s=1.0)
    assert chunk_size(cost_of(10.0, 15.0, flops=0.1), rates, room) == expected


@pytest.mark.parametrize(
    ("room", "expected"), [(1000, 8), (800, 7), (849, 7), (200, 1), (149, 0), (0, 0)]
)
def test_held_chunks_leave_room_for_a_backward_pass(room: float, expected: int) -> None:
    # A chunk of 10 items holds 100 bytes, and its backward pass needs 50 more.
    assert held_chunks(cost_of(10.0, 15.0), 10, 8, room) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # VideoMAE-base at 16 x 224 x 224 and X3D-XS at 4 x 160 x 160, measured in launches.
        ("video/videomae", 16),
        ("video/x3d_xs", 128),
    ],
)
def test_chunk_size_of_published_encoders_on_an_h100(name: str, expected: int) -> None:
    with skeletons():
        tower = ItemTower(ItemConfig((name,), {name: {"checkpoint": ""}}), 64, 50)
    cost = tower_cost(tower, torch.bfloat16)
    assert chunk_size(cost, gpu_rates(DEVICES["h100"], "bf16"), 40 * GB) == expected


@pytest.mark.parametrize(("checkpoint", "held"), [("auto", 5), ("always", 0), ("never", 13)])
def test_choose_holds_what_item_checkpoint_asks_for(checkpoint: str, held: int) -> None:
    config = Config(item=ItemConfig(chunk=8, checkpoint=checkpoint))  # type: ignore[arg-type]
    choice = choose(config, cost_of(10.0, 10.0), 100, 400.0, CPU_RATES)
    assert choice == ChunkChoice(8, 13, held, 100, 10.0, 400.0)
    assert choice.recomputes == (checkpoint != "never")


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (13, "whose activations are held for the backward pass: 0.00 MB per item"),
        (5, "whose activations of 5 of 13 chunks are held, those of the others are recomputed"),
        (0, "whose activations are recomputed in each chunk's backward pass"),
    ],
)
def test_choice_in_words_names_held_and_recomputed_chunks(held: int, words: str) -> None:
    choice = ChunkChoice(8, 13, held, 100, 10.0, 400.0)
    assert choice.in_words().startswith(f"; chunks of 8 items, {words}")


@pytest.mark.parametrize(("free", "coming"), [(2100.0, 100.0), (20.0, 0.0)])
def test_room_for_activations_is_half_of_a_rank_s_free_memory(
    free: float, coming: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_choice, "free_host_bytes", lambda: 3.0 * free)
    world = World(4, 5, CPU, nodes=(2, 3))
    assert chunk_choice.room_for_activations(coming, world) == (free - coming) / 2


@contextmanager
def forwards_counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """Yield a list that gets the number of items of each forward pass of `module`."""
    counts: list[int] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    yield counts
    handle.remove()


@pytest.mark.parametrize(("held", "expected"), [(None, 4), (0, 8), (1, 7), (3, 5)])
def test_encode_recomputes_all_but_the_held_chunks(held: int | None, expected: int) -> None:
    tower = tower_of("video/tiny", chunk=3)
    media = media_of(tower.specs[0], 12)
    tower.held_chunks = None
    plain = tower.encode(media, most=12)
    plain.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in tower.parameters()]  # type: ignore[union-attr]
    tower.zero_grad()
    tower.held_chunks = held
    with forwards_counted(tower.encoders[0]) as counts:
        vectors = tower.encode(media, most=12)
        vectors.square().sum().backward()
    assert counts == [3] * expected
    assert vectors.equal(plain)
    for parameter, gradient in zip(tower.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


@pytest.fixture
def no_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave DeepSpeed out: it starts once in a process, and the choice does not need it."""
    import deepspeed

    monkeypatch.setattr(
        deepspeed, "initialize", lambda model, optimizer, config: (model, optimizer, None, None)
    )


@pytest.mark.parametrize(
    ("checkpoint", "host_bytes", "items", "expected"),
    [
        ("auto", 1e12, 40, None),
        ("auto", 1e6, 40, 0),
        ("auto", 1e12, None, 0),
        ("always", 1e12, 40, 0),
        ("never", 1e6, 40, None),
    ],
)
def test_engine_with_known_items_chooses_the_held_chunks(
    checkpoint: str,
    host_bytes: float,
    items: int | None,
    expected: int | None,
    video_config: Config,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
    no_deepspeed: None,
) -> None:
    monkeypatch.setattr(chunk_choice, "free_host_bytes", lambda: host_bytes)
    item = replace(video_config.item, checkpoint=checkpoint)  # type: ignore[arg-type]
    model = build_model(replace(video_config, item=item), data, 0)
    engine = build_engine(replace(video_config, item=item), model, ALONE, 7, 12, items=items)
    assert model.tower.held_chunks == expected
    assert model.tower.chunk == video_config.item.chunk
    assert (engine.chunks is not None) == (items is not None)


def test_engine_with_chunk_auto_takes_the_chosen_size(
    video_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch, no_deepspeed: None
) -> None:
    monkeypatch.setattr(chunk_choice, "chunk_size", lambda cost, rates, room_bytes: 4)
    config = replace(video_config, item=replace(video_config.item, chunk="auto"))
    model = build_model(config, data, 0)
    engine = build_engine(config, model, ALONE, 7, 12, items=40)
    assert model.tower.chunk == 4
    assert engine.chunks is not None
    assert engine.chunks.chunks == 10


def test_most_items_of_a_short_run_are_those_of_all_its_steps(data: Data) -> None:
    plan = Plan(data.sequences, 0, 20, Owners((2,)))
    largest_of_each_step = [max(plan.step(step).owned_W) for step in range(12)]
    assert plan.most_items(12) == max(largest_of_each_step)
