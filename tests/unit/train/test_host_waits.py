"""The host runs ahead of the device: no timer and no number makes it wait within a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from deepspeed.utils.config import get_timers_config
from small_encoders import SMALL, media_of
from torch.utils._python_dispatch import TorchDispatchMode

from mlrec.config import Config, ItemConfig, LossConfig, RecommenderConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset
from mlrec.models import chunks, dropout, recommender
from mlrec.models.building import build_model
from mlrec.models.losses import LOSSES
from mlrec.models.recommender import ForwardHooks
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.models.tower import ItemTower
from mlrec.train.deepspeed_config import deepspeed_config

META, CPU = torch.device("meta"), torch.device("cpu")
BLOCKING_OPERATIONS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.equal,
    torch.ops.aten.masked_select,
}
"""Operations for which the host of a GPU waits until the device has reached them."""


class BlockingReads(TorchDispatchMode):
    """Names of the blocking operations that run after the items are encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = False
        self.operations: list[str] = []

    def after_encode(self, vectors: torch.Tensor) -> torch.Tensor:
        """Watch from here on."""
        self.encoded = True
        return vectors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Indexing by a mask asks the device how many values the mask selects.
        indexes_by_mask = func._overloadpacket is torch.ops.aten.index and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        blocks = func._overloadpacket in BLOCKING_OPERATIONS or indexes_by_mask
        if self.encoded and blocks:
            self.operations.append(str(func))
        return func(*args, **(kwargs or {}))


def test_deepspeed_config_throughput_timer_is_off(tiny_config: Config) -> None:
    assert get_timers_config({}).enabled, "DeepSpeed's default is on"
    assert not get_timers_config(deepspeed_config(tiny_config, world_size=1, trained=10)).enabled


TRAINED_RECOMMENDERS = [name for name, row in RECOMMENDERS.items() if row.trained]


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        # Losses and recommenders are independent: each appears once, not every pair.
        *((name, "in_batch_softmax") for name in TRAINED_RECOMMENDERS),
        *(("sasrec", loss) for loss in LOSSES if loss != "in_batch_softmax"),
    ],
)
def test_forward_after_encoding_reads_no_number(
    name: str, loss: str, tiny_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few scores that the loss is computed in several parts.
    monkeypatch.setattr(recommender, "MAX_SCORES", 1000)
    item = replace(tiny_config.item, checkpoint="never")
    config = replace(
        tiny_config, item=item, recommender=RecommenderConfig(name, 16), loss=LossConfig(loss)
    )
    model = build_model(config, data, 0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, False, model.whole_catalogue)[0]
    # Constants of the dropout layers are host numbers, computed once per process.
    for layer in range(100):
        dropout._layer_factor(layer)
    with BlockingReads() as reads:
        model(batch, ForwardHooks(after_encode=reads.after_encode)).backward()
    assert reads.encoded and reads.operations == []
    assert model.tower.encoders[0].embedding.weight.grad is not None


def test_encode_cached_with_all_prefixes_cached_reads_no_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The meta device stands for a GPU: reading a number from it raises an error.
    item = ItemConfig(
        ("video/videomae", "id/embedding"),
        {"video/videomae": SMALL["video/videomae"]},
        tuning="top",
        chunk=3,
    )
    item_tower = ItemTower(item, 16, 50)
    cache = item_tower.build_activation_cache(1 << 30, torch.float32, CPU)
    assert cache is not None
    media = {spec: media_of(spec, 10)[spec] for spec in item_tower.specs}
    items_O = torch.arange(1, 11)
    all_O = torch.ones(10, dtype=torch.bool)
    item_tower.encode_cached(items_O, media, all_O, ~all_O, add=True, device=CPU)
    assert cache.has(items_O).all()
    agreed_devices: list[torch.device] = []

    def max_over_ranks(value: torch.Tensor) -> torch.Tensor:
        # The ranks agree on their chunks before the first one, and read that number.
        agreed_devices.append(value.device)
        return torch.tensor([0, 10, 0])

    monkeypatch.setattr(chunks, "max_over_ranks", max_over_ranks)
    uncached_media = {}
    for spec, tensor in media.items():
        uncached_media[spec] = tensor[:0] if spec in cache.items.inputs else tensor
    training_tower = item_tower.to(META).train()
    vectors = training_tower.encode_cached(
        items_O, uncached_media, all_O, all_O, add=True, device=META
    )
    vectors.sum().backward()
    assert vectors.shape == (10, 16)
    assert vectors.device == META
    assert agreed_devices == [META]
