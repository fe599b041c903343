"""The item tower takes media to the device a chunk at a time, and holds activations or computes them again to the same end."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_encoders import SMALL, media_of
from torch.utils._python_dispatch import TorchDispatchMode

from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset
from mlrec.models import chunks, recomputation
from mlrec.models.building import build_model
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World
from mlrec.train import activation_memory as saving
from mlrec.train.activation_memory import Saving, choose, saved_bytes
from mlrec.train.engine import Engine

META, CPU = torch.device("meta"), torch.device("cpu")
ALONE = World(rank=0, size=1, device=CPU, nodes=(1,))
FIVE_CHUNKS = [8] * 5 + [6, 7, 6, 7, 7] + [1, 1, 2, 1, 2]
"""Of 40, 33 and 7 items, when 40 make five."""
DROPOUT = {**SMALL["text/bert_tiny"]["config"], "hidden_dropout_prob": 0.5}


def tower_of(*names: str, **changes: Any) -> ItemTower:
    torch.manual_seed(0)
    options = {name: SMALL[name] for name in names if SMALL[name]}
    return ItemTower(
        ItemConfig(encoders=names, options=changes.pop("options", options), **changes), 16, 50
    ).train()


class Arrivals(TorchDispatchMode):
    """Counts the bytes of uint8 media that are on the meta device, which stands for a GPU, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (
            func._overloadpacket is torch.ops.aten._to_copy
            and out.device == META
            and out.dtype is torch.uint8
        ):
            self.sizes.append(len(out))
            self.now += out.nbytes
            self.peak = max(self.peak, self.now)
            weakref.finalize(out, self._gone, out.nbytes)
        return out

    def _gone(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize(("recompute", "copies"), [("always", 2), ("never", 1)])
@pytest.mark.parametrize("name", ["video/tiny", "video/videomae"])
def test_the_device_holds_the_media_of_one_chunk(name: str, recompute: str, copies: int) -> None:
    on_device = tower_of(name, chunk=4, checkpoint=recompute).to(META)
    (spec,) = on_device.specs
    media = media_of(spec, 19)
    with Arrivals() as arrivals:
        vectors = on_device.encode(media, most=19, device=META)
        vectors.sum().backward()
    assert vectors.device == META and len(vectors) == 19
    assert sum(arrivals.sizes) == copies * 19, (
        "backward, a chunk that is computed again is copied again"
    )
    assert arrivals.peak == media[spec][:4].nbytes
    assert arrivals.now == 0


def test_a_repeated_chunk_has_the_random_numbers_of_its_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[set[torch.device]] = []

    def noted(function: Any, *inputs: torch.Tensor, **options: Any) -> torch.Tensor:
        devices.append({tensor.device for tensor in inputs})
        return function(*inputs)

    monkeypatch.setattr(recomputation, "checkpoint", noted)
    on_device = tower_of("video/tiny", chunk=4).to(META)
    on_device.encode(media_of(on_device.specs[0], 8), most=8, device=META)
    assert devices == [{META}] * 2, "torch restores those of the devices that an argument is on"


def test_a_batch_goes_to_the_device_without_what_the_host_needs(
    video_config: Config, data: Data
) -> None:
    model = build_model(video_config, data, 0)
    batch = StepDataset(
        data, Plan(data.sequences, 0, 20, Owners((1,))), 0, model.tower.specs, False
    )[0]
    moved = batch.to(META)
    assert moved.media is batch.media
    on_meta = {
        name
        for name, value in vars(moved).items()
        if isinstance(value, torch.Tensor) and value.device == META
    }
    assert on_meta == {
        "users_B",
        "items_U",
        "count_U",
        "targets_U",
        "log_p_U",
        "inputs_BL",
        "targets_BL",
    }
    assert moved.items_O is batch.items_O and moved.valid_O is batch.valid_O, (
        "the host looks at them"
    )
    assert (moved.step, moved.owned_W, moved.cached_O) == (batch.step, batch.owned_W, None)


def test_neighbours_are_not_copied_and_none_is_a_blank_item() -> None:
    (spec,) = tower_of("video/tiny").specs
    media = media_of(spec, 6)
    for places, shares_memory in (([1, 2, 3], True), ([1, 3, 4], False), ([5], True)):
        found = chunks.media_of_rows(media, torch.tensor(places), CPU)[spec]
        assert found.equal(media[spec][places])
        assert (
            found.untyped_storage().data_ptr() == media[spec].untyped_storage().data_ptr()
        ) == shares_memory
    blank = chunks.media_of_rows(media, torch.tensor([], dtype=torch.int64), META)[spec]
    assert (blank.shape, blank.device) == ((1, *media[spec].shape[1:]), META)


def encoded(
    some: ItemTower, count: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Vectors, gradients and the state after a step on made-up media, from a fixed seed."""
    torch.manual_seed(1)
    media = {spec: tensor for spec in some.specs for tensor in media_of(spec, count).values()}
    torch.manual_seed(2)
    vectors = some.encode(media, most=count)
    torch.manual_seed(3)
    vectors.square().sum().backward()
    return (
        vectors.detach(),
        {n: p.grad for n, p in some.named_parameters() if p.grad is not None},
        some.state_dict(),
    )


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("video/videomae",), {}),
        (("video/tiny", "id/embedding"), {}),
        (("video/x3d_xs",), {"batchnorm": "sync"}),
        (
            ("text/bert_tiny",),
            {"options": {"text/bert_tiny": {**SMALL["text/bert_tiny"], "config": DROPOUT}}},
        ),
        (("video/videomae",), {"tuning": "top"}),
    ],
)
def test_activations_held_or_computed_again_are_the_same(
    names: tuple[str, ...], changes: dict[str, Any]
) -> None:
    again, held = (
        encoded(tower_of(*names, chunk=3, checkpoint=way, **changes), 7)
        for way in ("always", "never")
    )
    for ours, theirs in zip(again, held, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    if names == ("text/bert_tiny",):
        other = encoded(tower_of(*names, chunk=2, checkpoint="never", **changes), 7)[0]
        assert not torch.allclose(held[0], other, atol=1e-3), (
            "there is dropout, or the test shows nothing"
        )


@pytest.mark.parametrize("tuning", ["full", "top"])
@pytest.mark.parametrize(
    "name", ["video/videomae", "video/x3d_xs", "image/resnet50", "text/bert_tiny", "id/embedding"]
)
def test_what_is_measured_of_an_item_is_what_a_step_holds(name: str, tuning: str) -> None:
    some = tower_of(name, chunk=4, checkpoint="never", tuning=tuning, batchnorm="sync")
    before = {key: value.clone() for key, value in some.state_dict().items()}
    item_bytes = saved_bytes(some, CPU, torch.float32)
    assert all(value.equal(before[key]) for key, value in some.state_dict().items()), (
        "statistics do not count it"
    )
    assert some.training
    held: dict[int, torch.Tensor] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        vectors = some.encode(media_of(some.specs[0], 16), most=16)
    own = {p.untyped_storage().data_ptr() for p in (*some.parameters(), *some.buffers())}
    total = sum(
        tensor.untyped_storage().nbytes() for place, tensor in held.items() if place not in own
    )
    assert item_bytes == pytest.approx(total / 16, rel=0.15)
    assert len(vectors) == 16


def test_activations_in_bf16_take_half() -> None:
    sizes = [
        saved_bytes(tower_of("video/tiny"), CPU, dtype) for dtype in (torch.float32, torch.bfloat16)
    ]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)


@pytest.mark.parametrize(("free", "recomputes"), [(2100, False), (1900, True), (20, True)])
def test_activations_are_held_where_they_take_half_of_the_free_memory(
    free: int, recomputes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "free_host_bytes", lambda: 3.0 * free + 300)
    found = choose(
        item_bytes=10.0, items=100, coming_bytes=100.0, world=World(4, 5, CPU, nodes=(2, 3))
    )
    assert found == Saving(recomputes, items=100, item_bytes=10.0, room_bytes=free / 2)
    words = (
        "are recomputed in each chunk's backward pass"
        if recomputes
        else "are held for the backward pass"
    )
    assert found.in_words().startswith(
        f"; activations {words}: 0.00 MB per item, 0.00 GB for the 100 items of a rank and step"
    )


def test_a_container_has_the_memory_of_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = saving.free_host_bytes()
    assert 1e8 < machine < 1e15
    monkeypatch.setattr("mlrec.runtime.hardware.CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 1000000\n")
    assert saving.free_host_bytes() == 3_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert saving.free_host_bytes() > 1e8


@pytest.fixture
def no_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed begins once in a process, and takes no part in the choice."""
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
def test_the_engine_chooses(
    recompute: str,
    host_bytes: float,
    items: int | None,
    expected: bool,
    video_config: Config,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
    no_deepspeed: None,
) -> None:
    monkeypatch.setattr(saving, "free_host_bytes", lambda: host_bytes)
    config = replace(video_config, item=replace(video_config.item, checkpoint=recompute))
    model = build_model(config, data, 0)
    engine = Engine(config, model, ALONE, 7, 12, items=items)
    assert model.tower.recomputes == expected
    assert (engine.saving is not None) == (recompute == "auto" and items is not None)


def zero3_tower(
    config: Config, data: Data, item: ItemConfig, keep: bool
) -> tuple[ItemTower, list[int]]:
    """A tower under ZeRO-3 whose steps have up to 40 items, and the sizes of the chunks that it is called with."""
    model = build_model(replace(config, zero=replace(config.zero, stage=3), item=item), data, 0)
    assert (
        not keep
        or model.tower.build_activation_cache(1 << 30, torch.float32, ALONE.device) is not None
    )
    Engine(
        replace(config, zero=replace(config.zero, stage=3), item=item),
        model,
        ALONE,
        7,
        12,
        items=40,
    )
    sizes: list[int] = []
    model.tower.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    return model.tower, sizes


@torch.no_grad()
def test_every_step_under_zero3_has_as_many_chunks(
    video_config: Config, data: Data, no_deepspeed: None
) -> None:
    tower, sizes = zero3_tower(video_config, data, replace(video_config.item, chunk=8), keep=False)
    for count in (40, 33, 7):
        assert tower.encode(
            {spec: random_media(spec, count) for spec in tower.specs}, most=count
        ).shape == (count, 16)
    assert sizes == FIVE_CHUNKS
    tower.eval().encode({spec: random_media(spec, 7) for spec in tower.specs}, most=7)
    assert sizes[15:] == [7], "an evaluation has the chunks that it needs"


@torch.no_grad()
def test_every_step_under_zero3_resumes_as_many_chunks(
    video_config: Config, data: Data, no_deepspeed: None
) -> None:
    item = ItemConfig(
        ("video/videomae",), {"video/videomae": SMALL["video/videomae"]}, tuning="top", chunk=8
    )
    tower, sizes = zero3_tower(video_config, data, item, keep=True)
    for count in (40, 33, 7):
        media = {spec: random_media(spec, count) for spec in tower.specs}
        valid, cached = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
        tower.encode_cached(
            torch.arange(1, count + 1), media, valid, cached, add=True, device=ALONE.device
        )
    assert sizes == FIVE_CHUNKS


def test_a_frozen_tower_has_nothing_to_choose(
    video_config: Config, data: Data, no_deepspeed: None
) -> None:
    config = replace(video_config, item=replace(video_config.item, tuning="frozen"))
    engine = Engine(config, build_model(config, data, 0), ALONE, 7, 12, items=40)
    assert engine.saving is None


def test_the_most_items_of_a_rank_are_the_plans(data: Data) -> None:
    plan = Plan(data.sequences, 0, 20, Owners((2,)))
    every = [max(plan.step(step).owned_W) for step in range(12)]
    assert plan.most_items(12) == max(every)
