"""The item tower encodes in chunks: media on the device, recomputed activations, equal steps."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_encoders import SMALL, media_of
from small_towers import CPU, tower_of
from torch.utils._python_dispatch import TorchDispatchMode

from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec
from mlrec.data.stream import Data, StepDataset
from mlrec.models import chunks, recomputation
from mlrec.models.building import build_model
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World
from mlrec.train.engine import build_engine

META = torch.device("meta")
"""Stands for a GPU: no number can be read from it."""
ALONE = World(rank=0, size=1, device=CPU, nodes=(1,))
FIVE_CHUNKS = [8] * 5 + [6, 7, 6, 7, 7] + [1, 1, 2, 1, 2]
"""Chunk sizes of steps of 40, 33 and 7 items, when 40 items make five chunks."""
DROPOUT = {**SMALL["text/bert_tiny"]["config"], "hidden_dropout_prob": 0.5}


class Arrivals(TorchDispatchMode):
    """Count of the bytes of uint8 media on the meta device, now and at most."""

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
def test_encode_on_a_device_holds_the_media_of_one_chunk(
    name: str, recompute: str, copies: int
) -> None:
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


def test_recomputed_chunk_draws_the_random_numbers_of_its_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[set[torch.device]] = []

    def record_devices(function: Any, *inputs: torch.Tensor, **options: Any) -> torch.Tensor:
        devices.append({tensor.device for tensor in inputs})
        return function(*inputs)

    monkeypatch.setattr(recomputation, "checkpoint", record_devices)
    on_device = tower_of("video/tiny", chunk=4).to(META)
    on_device.encode(media_of(on_device.specs[0], 8), most=8, device=META)
    assert devices == [{META}] * 2, "torch restores those of the devices that an argument is on"


def test_batch_to_a_device_leaves_the_owned_items_on_the_host(
    video_config: Config, data: Data
) -> None:
    model = build_model(video_config, data, 0)
    batch = StepDataset(
        data, Plan(data.sequences, 0, 20, Owners((1,))), 0, model.tower.specs, False
    )[0]
    moved = batch.to(META)
    assert moved.media is batch.media
    on_meta = set()
    for name, value in vars(moved).items():
        if isinstance(value, torch.Tensor) and value.device == META:
            on_meta.add(name)
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


def test_media_of_rows_copies_no_neighbours_and_makes_a_blank_item() -> None:
    (spec,) = tower_of("video/tiny").specs
    media = media_of(spec, 6)
    for places, shares_memory in (([1, 2, 3], True), ([1, 3, 4], False), ([5], True)):
        rows = chunks.media_of_rows(media, torch.tensor(places), CPU)[spec]
        assert rows.equal(media[spec][places])
        assert (
            rows.untyped_storage().data_ptr() == media[spec].untyped_storage().data_ptr()
        ) == shares_memory
    blank = chunks.media_of_rows(media, torch.tensor([], dtype=torch.int64), META)[spec]
    assert (blank.shape, blank.device) == ((1, *media[spec].shape[1:]), META)


def encoded(tower: ItemTower, count: int) -> dict[str, torch.Tensor]:
    """Return vectors, gradients and the state after a step on random media, from a fixed seed."""
    torch.manual_seed(1)
    media: dict[InputSpec, torch.Tensor] = {}
    for spec in tower.specs:
        media |= media_of(spec, count)
    torch.manual_seed(2)
    vectors = tower.encode(media, most=count)
    # the recomputation must restore the generator as it was in the forward pass
    torch.manual_seed(3)
    vectors.square().sum().backward()
    results = {"vectors": vectors.detach(), **tower.state_dict()}
    for name, parameter in tower.named_parameters():
        if parameter.grad is not None:
            results[f"gradient of {name}"] = parameter.grad
    return results


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
def test_encode_with_recomputation_equals_encode_without(
    names: tuple[str, ...], changes: dict[str, Any]
) -> None:
    recomputed = encoded(tower_of(*names, chunk=3, checkpoint="always", **changes), 7)
    held = encoded(tower_of(*names, chunk=3, checkpoint="never", **changes), 7)
    torch.testing.assert_close(recomputed, held, atol=1e-6, rtol=1e-6)
    if names == ("text/bert_tiny",):
        other = encoded(tower_of(*names, chunk=2, checkpoint="never", **changes), 7)
        assert not torch.allclose(held["vectors"], other["vectors"], atol=1e-3), "dropout is on"


@pytest.fixture
def no_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave DeepSpeed out: it starts once in a process, and chunks do not need it."""
    import deepspeed

    monkeypatch.setattr(
        deepspeed, "initialize", lambda model, optimizer, config: (model, optimizer, None, None)
    )


def zero3_tower(config: Config, data: Data, item: ItemConfig, cached: bool) -> ItemTower:
    """Return a tower under ZeRO-3 whose steps have up to 40 items."""
    config = replace(config, zero=replace(config.zero, stage=3), item=item)
    model = build_model(config, data, 0)
    if cached:
        assert model.tower.build_activation_cache(1 << 30, torch.float32, CPU) is not None
    build_engine(config, model, ALONE, steps_per_epoch=7, total_steps=12, items=40)
    return model.tower


def chunk_sizes(tower: ItemTower) -> list[int]:
    """Return a list that gets the size of each chunk as the tower encodes it."""
    sizes: list[int] = []
    tower.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    return sizes


@torch.no_grad()
def test_encode_under_zero3_runs_as_many_chunks_in_every_step(
    video_config: Config, data: Data, no_deepspeed: None
) -> None:
    tower = zero3_tower(video_config, data, replace(video_config.item, chunk=8), cached=False)
    sizes = chunk_sizes(tower)
    for count in (40, 33, 7):
        assert tower.encode(
            {spec: random_media(spec, count) for spec in tower.specs}, most=count
        ).shape == (count, 16)
    assert sizes == FIVE_CHUNKS
    tower.eval().encode({spec: random_media(spec, 7) for spec in tower.specs}, most=7)
    assert sizes[15:] == [7], "an evaluation has the chunks that it needs"


@torch.no_grad()
def test_encode_cached_under_zero3_runs_as_many_chunks_in_every_step(
    video_config: Config, data: Data, no_deepspeed: None
) -> None:
    item = ItemConfig(
        ("video/videomae",), {"video/videomae": SMALL["video/videomae"]}, tuning="top", chunk=8
    )
    tower = zero3_tower(video_config, data, item, cached=True)
    sizes = chunk_sizes(tower)
    for count in (40, 33, 7):
        media = {spec: random_media(spec, count) for spec in tower.specs}
        items = torch.arange(1, count + 1)
        valid = torch.ones(count, dtype=torch.bool)
        tower.encode_cached(items, media, valid, ~valid, add=True, device=CPU)
    assert sizes == FIVE_CHUNKS
