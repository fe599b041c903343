"""The host runs ahead of the device: it waits neither for a timer nor for a number in the middle of a step."""

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
from mlrec.models import dropout, recommender, tower
from mlrec.models.building import build_model
from mlrec.models.losses import LOSSES
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.models.tower import ItemTower
from mlrec.train.engine import deepspeed_config

META, CPU = torch.device("meta"), torch.device("cpu")
READING = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.equal,
    torch.ops.aten.masked_select,
}
"""What a GPU's host cannot do before the device is at it."""


class Reads(TorchDispatchMode):
    """The operations that read a number, from the end of the encoding on."""

    def __init__(self, model: recommender.Recommender) -> None:
        super().__init__()
        self.encoded, self.found, self._encode = False, list[str](), model.encode_owned
        model.encode_owned = self.encode  # type: ignore[method-assign]

    def encode(self, batch: Any) -> torch.Tensor:
        vectors = self._encode(batch)
        self.encoded = True
        return vectors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = func._overloadpacket is torch.ops.aten.index and any(
            i is not None and i.dtype is torch.bool for i in args[1]
        )
        if self.encoded and (func._overloadpacket in READING or masks):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_deepspeed_does_not_wait_to_measure_its_throughput(tiny_config: Config) -> None:
    assert get_timers_config({}).enabled, "it would by itself"
    assert not get_timers_config(deepspeed_config(tiny_config, world_size=1, trained=10)).enabled


TRAINED = [name for name, row in RECOMMENDERS.items() if row.trained]


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *((name, "in_batch_softmax") for name in TRAINED),
        *(("sasrec", loss) for loss in LOSSES if loss != "in_batch_softmax"),
    ],
)
def test_behind_the_encoding_no_number_is_read(
    name: str, loss: str, tiny_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommender, "MAX_SCORES", 1000)  # in several parts
    item = replace(tiny_config.item, checkpoint="never")
    config = replace(
        tiny_config, item=item, recommender=RecommenderConfig(name, 16), loss=LossConfig(loss)
    )
    model = build_model(config, data, 0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, False, model.whole_catalogue)[0]
    for number in range(100):
        dropout._layer_factor(
            number
        )  # constants of the layers: host numbers, computed once per process
    with Reads(model) as reads:
        model(batch).backward()
    assert reads.encoded and reads.found == []
    assert model.tower.encoders[0].embedding.weight.grad is not None


def test_kept_prefixes_are_taken_without_a_look_at_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # of the meta device, which stands for a GPU, no number can be read
    item = ItemConfig(
        ("video/videomae", "id/embedding"),
        {"video/videomae": SMALL["video/videomae"]},
        tuning="top",
        chunk=3,
    )
    some = ItemTower(item, 16, 50)
    cache = some.build_activation_cache(1 << 30, torch.float32, CPU)
    assert cache is not None
    media = {spec: media_of(spec, 10)[spec] for spec in some.specs}
    items_O, yes_O = torch.arange(1, 11), torch.ones(10, dtype=torch.bool)
    some.encode_cached(items_O, media, yes_O, ~yes_O, add=True, device=CPU)
    assert cache.has(items_O).all()
    sizes: list[torch.Tensor] = []

    def agreed(
        value: torch.Tensor,
    ) -> torch.Tensor:  # what the ranks agree on is read before the first chunk
        sizes.append(value)
        return torch.tensor([0, 10, 0])

    monkeypatch.setattr(tower, "max_over_ranks", agreed)
    rest = {
        spec: tensor[:0] if spec in cache.items.inputs else tensor for spec, tensor in media.items()
    }
    vectors = (
        some.to(META).train().encode_cached(items_O, rest, yes_O, yes_O, add=True, device=META)
    )
    vectors.sum().backward()
    assert (vectors.shape, vectors.device, [size.device for size in sizes]) == (
        (10, 16),
        META,
        [META],
    )
