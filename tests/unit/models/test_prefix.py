"""Frozen prefixes of encoders: cut, kept within a budget, and not read again."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_encoders import DISTINCT, SMALL, media_of
from torch import nn

from mlrec.config import Config, ItemConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch
from mlrec.data.stream import Data, StepDataset, stream_steps
from mlrec.evaluation.evaluate import encode_catalogue
from mlrec.models.building import build_model
from mlrec.models.prefix import Prefix, random_media
from mlrec.models.prefix_cache import rows_on
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World

CATALOGUE = 50
ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))
MEDIA_ENCODERS = [name for name in DISTINCT if name != "id/embedding"]
SHUFFLES = {"image/vit_mae"}
"""ViT-MAE puts the patches into a random order even where it masks none."""


def tower_of(*names: str, **changes: Any) -> ItemTower:
    torch.manual_seed(0)
    options = {name: SMALL[name] for name in names if SMALL[name]}
    return ItemTower(ItemConfig(encoders=names, options=options, **changes), 16, CATALOGUE)


def item_of(data: Data, config: Config, **changes: Any) -> tuple[Any, StepDataset]:
    """A model that keeps prefixes, and its stream."""
    model = build_model(replace(config, item=replace(config.item, **changes)), data, 0).eval()
    prefixes = model.tower.keep_prefixes(
        config.item.prefix_cache_bytes, torch.float32, ALONE.device
    )
    plan = Plan(data.sequences, 0, 40, Owners((1,)))
    return model, StepDataset(
        data, plan, 0, model.tower.specs, False, kept=prefixes.kept if prefixes else None
    )


@pytest.mark.parametrize("tuning", ["frozen", "top", "half"])
@pytest.mark.parametrize("name", MEDIA_ENCODERS)
def test_the_halves_of_an_encoder_are_the_whole(name: str, tuning: str) -> None:
    tower = tower_of(name, tuning=tuning)
    (encoder,) = tower.encoders
    if name in SHUFFLES and tuning != "frozen":
        with pytest.raises(ValueError, match="depends on chance"):
            Prefix(encoder, tower.train)
        return
    prefix = Prefix(encoder, tower.train)
    tower.eval()
    media = media_of(encoder.spec, 3)[encoder.spec]
    kept = [tensor.clone() for tensor in prefix.run(media)]
    assert [tensor.shape for tensor in kept] == [
        (3, leaf.rows, *leaf.shape) for leaf in prefix.leaves
    ]
    torch.testing.assert_close(prefix.resume(kept), encoder(media), atol=1e-5, rtol=1e-4)
    if tuning != "frozen":
        gradients = []
        for vectors in (prefix.resume(kept), encoder(media)):
            tower.zero_grad()
            vectors.square().sum().backward()
            gradients.append(
                {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
            )
        assert (
            gradients[0].keys()
            == gradients[1].keys()
            == {n for n, p in encoder.named_parameters() if p.requires_grad}
        )
        for key, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][key], atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["video/videomae", "image/resnet50", "text/bert_tiny"])
def test_the_frozen_stages_do_not_run_again(name: str) -> None:
    tower = tower_of(name, tuning="top")
    (encoder,) = tower.encoders
    prefix = Prefix(encoder, tower.train)
    kept = prefix.run(media_of(encoder.spec, 2)[encoder.spec])
    *frozen, _ = encoder.stages()
    inner = [
        child
        for stage in frozen
        for module in stage.modules()
        for child in module.children()
        if not list(child.children())
    ]
    ran: list[nn.Module] = []
    for module in inner:
        module.register_forward_hook(lambda module, inputs, output: ran.append(module))
    prefix.resume(kept)
    assert ran == []
    prefix.run(media_of(encoder.spec, 2)[encoder.spec])
    assert ran


@pytest.mark.parametrize("tuning", ["full", "scratch"])
def test_a_trained_encoder_has_no_prefix(tuning: str) -> None:
    for name in ("video/videomae", "video/x3d_xs", "id/embedding"):  # with frozen batch norms, too
        tower = tower_of(name, tuning=tuning, batchnorm="sync" if tuning == "scratch" else "frozen")
        assert tower.keep_prefixes(1 << 30, torch.float32, ALONE.device) is None


def test_batch_norms_that_are_trained_do_not_change_a_prefix() -> None:
    tower = tower_of("image/resnet50", tuning="top", batchnorm="sync")
    assert tower.keep_prefixes(1 << 30, torch.float32, ALONE.device) is not None


class _Noisy(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.rand_like(values)


class _Across(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values - values.mean(dim=0)


@pytest.mark.parametrize("module", [_Noisy(), _Across(), nn.Dropout(0.5)])
def test_a_prefix_that_depends_on_chance_or_on_the_other_items_is_not_kept(
    module: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    tower = tower_of("video/tiny", tuning="top")
    tower.encoders[0].blocks.insert(1, module)
    with caplog.at_level(logging.WARNING):
        assert tower.keep_prefixes(1 << 30, torch.float32, ALONE.device) is None
    assert "the frozen stages of video/tiny run in each step" in caplog.text


def test_random_media_look_like_the_streams(data: Data) -> None:
    for name in MEDIA_ENCODERS:
        (spec,) = tower_of(name).specs
        expected, found = media_of(spec, 2)[spec], random_media(spec, 2)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("tuning", ["frozen", "top", "half"])
@pytest.mark.parametrize("budget", [1 << 30, 20_000])
def test_vectors_by_way_of_the_cache_are_the_same(tuning: str, budget: int) -> None:
    tower = tower_of(
        "video/slow_r50", "text/bert_tiny", "id/embedding", tuning=tuning, chunk=3
    ).eval()
    media = {spec: media_of(spec, 20)[spec] for spec in tower.specs}
    expected = tower.encode(media, most=20)
    cache = tower.keep_prefixes(budget, torch.float32, ALONE.device)
    assert cache is not None
    tower.eval()
    valid, none = torch.ones(20, dtype=torch.bool), torch.zeros(20, dtype=torch.bool)
    valid[4] = False
    first = tower.encode_kept(
        torch.arange(1, 21), media, valid, none, add=True, device=ALONE.device
    )
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-4)
    assert cache.rows_N1[5] == -1, "what could not be read is not kept"
    kept = cache.rows_N1[1:21] >= 0
    assert int(kept.sum()) == min(19, cache.kept.capacity)
    fewer = {
        spec: tensor[~kept] if spec in cache.kept.inputs else tensor
        for spec, tensor in media.items()
    }
    again = tower.encode_kept(
        torch.arange(1, 21), fewer, valid, kept, add=True, device=ALONE.device
    )
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_rows_go_to_a_gpu_out_of_pinned_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = torch.randn(9, 4, 2), torch.tensor([7, 0, 7])
    empty, made, sent = torch.empty, [], []

    def make(*size: Any, pin_memory: bool, **options: Any) -> torch.Tensor:
        made.append((empty(*size, **options), pin_memory))
        return made[-1][0]

    def send(tensor: torch.Tensor, device: torch.device, non_blocking: bool) -> torch.Tensor:
        sent.append((tensor, device, non_blocking))
        return tensor

    monkeypatch.setattr(torch, "empty", make)
    monkeypatch.setattr(torch.Tensor, "to", send)
    found = rows_on(store, rows, torch.device(kind))
    ((gathered, pinned),) = made
    assert pinned == (kind == "cuda")
    assert sent == [(gathered, torch.device(kind), True)]
    assert torch.equal(found, store[rows])


def test_activations_are_kept_as_they_are_in_bf16() -> None:
    tower = tower_of("text/bert_tiny", tuning="top").eval()
    sizes = [
        cache.item_bytes
        for dtype in (torch.float32, torch.bfloat16)
        if (cache := tower.keep_prefixes(1 << 30, dtype, ALONE.device))
    ]
    masks = 2 * 12 * 8
    assert sizes[0] - masks == 2 * (sizes[1] - masks)
    tower.eval()
    for parameter in tower.parameters():  # as DeepSpeed has it: buffers stay in fp32
        parameter.data = parameter.data.bfloat16()
    media, yes = media_of(tower.specs[0], 4), torch.ones(4, dtype=torch.bool)
    vectors = tower.encode_kept(torch.arange(1, 5), media, yes, ~yes, add=True, device=ALONE.device)
    assert torch.equal(vectors, tower.encode(media, most=4))


def test_an_item_that_is_not_kept_after_all_is_left_out(video_config: Config, data: Data) -> None:
    model, dataset = item_of(data, video_config, tuning="top")
    model(dataset[0])
    batch = next(
        batch
        for batch in map(dataset.__getitem__, range(1, 6))
        if 0 < batch.kept_O.sum() < len(batch.kept_O)
    )
    lost = int(batch.kept_O.nonzero()[0])
    expected = model(replace(batch, valid_O=torch.arange(len(batch.items_O)) != lost))
    rows_N1 = model.tower.prefixes.rows_N1
    rows_N1[batch.items_O[lost]] = -1
    torch.testing.assert_close(model(batch), expected, atol=0, rtol=0)
    assert rows_N1[batch.items_O[lost]] == -1, "what was not read is not kept"


def test_where_nothing_is_kept_after_all_there_is_a_vector() -> None:
    tower = tower_of("video/tiny", tuning="top").eval()
    assert tower.keep_prefixes(1 << 30, torch.float32, ALONE.device) is not None
    media = {spec: tensor[:0] for spec, tensor in media_of(tower.specs[0], 1).items()}
    yes = torch.ones(2, dtype=torch.bool)
    vectors = tower.encode_kept(
        torch.tensor([7, 9]), media, yes, yes, add=True, device=ALONE.device
    )
    assert vectors.isfinite().all()


def test_a_budget_below_one_item_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert (
            tower_of("video/tiny", tuning="top").keep_prefixes(100, torch.float32, ALONE.device)
            is None
        )
    assert "item.prefix_cache_bytes is 100, less than the 2560 of one item" in caplog.text


def test_what_the_budget_holds_is_told() -> None:
    for budget, words in (
        (1 << 30, "of all items are kept"),
        (25 * 2560, "holds the frozen prefixes of 50% of the items"),
    ):
        cache = tower_of("video/tiny", tuning="top").keep_prefixes(
            budget, torch.float32, ALONE.device
        )
        assert cache is not None
        assert words in cache.room_in_words(ranks=1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_stream_reads_an_item_once(video_config: Config, data: Data, num_workers: int) -> None:
    model, dataset = item_of(data, video_config, tuning="top")
    assert dataset.kept is not None
    (spec,) = model.tower.specs
    seen: set[int] = set()
    for batch in stream_steps(dataset, 0, 6, num_workers, pin_memory=False):
        items = batch.items_U.tolist()
        assert batch.kept_O.tolist() == [item in seen for item in items]
        assert len(batch.media[spec]) == len(set(items) - seen)
        assert (batch.bytes_read == 0) == (set(items) <= seen)
        seen |= set(items)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_losses_are_those_without(video_config: Config, data: Data, num_workers: int) -> None:
    plain = build_model(
        replace(video_config, item=replace(video_config.item, tuning="top")), data, 0
    ).eval()
    model, dataset = item_of(data, video_config, tuning="top")
    model.eval()
    for batch in stream_steps(dataset, 0, 6, num_workers, pin_memory=False):
        expected = StepDataset(data, dataset.plan, 0, plain.tower.specs, False)[batch.step]
        torch.testing.assert_close(model(batch), plain(expected), atol=1e-5, rtol=0)
        assert batch.step < 3 or batch.kept_O.any()


def test_an_unreadable_item_is_tried_again_and_not_kept(
    video_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset = item_of(data, video_config, tuning="top")
    read = data.store.read_many
    bad = int(dataset.plan.step(0).items_U[0])

    def damaged(items: Any, names: Any) -> Any:
        return (
            (item, "damaged" if item == bad else members) for item, members in read(items, names)
        )

    monkeypatch.setattr(data.store, "read_many", damaged)
    steps = [step for step in range(6) if bad in dataset.plan.step(step).items_U]
    assert len(steps) > 1
    batches: list[Batch] = [dataset[step] for step in range(6)]
    for step in steps:
        place = batches[step].items_U.tolist().index(bad)
        assert not batches[step].kept_O[place]
        assert not batches[step].valid_O[place]
        assert batches[step].bad_items == {bad: "damaged"}
        assert model(batches[step]).isfinite()
    assert model.tower.prefixes.rows_N1[bad] == -1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_catalogue_is_encoded_from_what_is_kept(
    video_config: Config, data: Data, num_workers: int
) -> None:
    config = replace(video_config, data=replace(video_config.data, num_workers=num_workers))
    fused = {"encoders": ("video/tiny", "id/embedding"), "tuning": "top"}
    config = replace(config, item=replace(config.item, **fused))
    plain = build_model(config, data, 0).eval()
    expected = encode_catalogue(plain, data, config, ALONE)
    model, dataset = item_of(data, config)
    model(dataset[0])
    model.eval()
    ran: list[int] = []
    model.tower.encoders[0].stem[0].register_forward_hook(
        lambda module, inputs, output: ran.append(len(output))
    )
    kept = int((model.tower.prefixes.rows_N1 >= 0).sum())
    found = encode_catalogue(model, data, config, ALONE)
    torch.testing.assert_close(found.items_ND, expected.items_ND, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.readable_N, expected.readable_N)
    assert 0 < kept < len(found.items_ND)
    assert sum(ran) == len(found.items_ND) - kept
