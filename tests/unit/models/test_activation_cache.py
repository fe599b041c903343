"""The activation cache: the same vectors and losses, within a budget, and fewer reads."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_encoders import media_of
from small_towers import CATALOGUE_SIZE, CPU, tower_of

from mlrec.config import Config
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import Data, StepDataset
from mlrec.evaluation.evaluate import encode_catalogue
from mlrec.models.activation_cache import ActivationCache
from mlrec.models.building import build_model
from mlrec.models.recommender import Recommender
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World

ALONE = World(rank=0, size=1, device=CPU, nodes=(1,))
TINY_ITEM_BYTES = 2560
"""Size of the cached activations of one item of video/tiny (bytes)."""
STEPS = 6
"""Steps of two epochs."""


def cache_of(tower: ItemTower, budget_bytes: int = 1 << 30) -> ActivationCache:
    cache = tower.build_activation_cache(budget_bytes, torch.float32, CPU)
    assert cache is not None
    return cache


def cached_run(data: Data, config: Config, **changes: Any) -> tuple[Recommender, StepDataset]:
    """Return a model with an activation cache, and its stream."""
    model = build_model(replace(config, item=replace(config.item, **changes)), data, 0).eval()
    cache = cache_of(model.tower, config.item.prefix_cache_bytes)
    plan = Plan(data.sequences, 0, 40, Owners((1,)))
    dataset = StepDataset(
        data, plan, 0, model.tower.specs, local_negatives=False, cached_items=cache.items
    )
    return model.eval(), dataset


@pytest.mark.parametrize("tuning", ["frozen", "top", "half"])
@pytest.mark.parametrize("budget_bytes", [1 << 30, 20_000])
def test_encode_cached_gives_the_vectors_of_encode(tuning: str, budget_bytes: int) -> None:
    tower = tower_of("video/x3d_xs", "text/bert_tiny", "id/embedding", tuning=tuning, chunk=3)
    tower.eval()
    items = torch.arange(1, 21)
    media = {spec: media_of(spec, 20)[spec] for spec in tower.specs}
    expected = tower.encode(media, most=20)
    cache = cache_of(tower, budget_bytes)
    tower.eval()
    valid = torch.ones(20, dtype=torch.bool)
    valid[4] = False
    none_cached = torch.zeros(20, dtype=torch.bool)
    first = tower.encode_cached(items, media, valid, none_cached, add=True, device=CPU)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-4)
    assert not cache.has(items)[4], "an item that could not be read is not cached"
    cached = cache.has(items)
    assert int(cached.sum()) == min(19, cache.capacity)
    assert cache.items.cached_N1.nonzero()[0].tolist() == items[cached].tolist()
    remaining_media = {}
    for spec, tensor in media.items():
        remaining_media[spec] = tensor.clone()
        if spec in cache.items.inputs:
            # What the loader leaves there is never used.
            remaining_media[spec][cached] = 7
    again = tower.encode_cached(items, remaining_media, valid, cached, add=True, device=CPU)
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-4)


def test_encode_cached_of_media_read_too_early_uses_the_cache() -> None:
    # a loader worker that prefetches reads an item before the tower caches it
    tower = tower_of("video/tiny", tuning="top").eval()
    cache = cache_of(tower)
    tower.eval()
    items = torch.tensor([7, 9])
    media = media_of(tower.specs[0], 2)
    yes = torch.ones(2, dtype=torch.bool)
    first = tower.encode_cached(items, media, yes, ~yes, add=True, device=CPU)
    other_media = {spec: torch.zeros_like(tensor) for spec, tensor in media.items()}
    second = tower.encode_cached(items, other_media, yes, ~yes, add=True, device=CPU)
    assert torch.equal(first, second)
    assert cache.room == CATALOGUE_SIZE - 2


def test_encode_cached_without_media_of_an_uncached_item_fails() -> None:
    tower = tower_of("video/tiny", tuning="top").eval()
    cache_of(tower)
    media = {spec: tensor[:0] for spec, tensor in media_of(tower.specs[0], 1).items()}
    yes = torch.ones(2, dtype=torch.bool)
    with pytest.raises(AssertionError, match="not cached"):
        tower.encode_cached(torch.tensor([7, 9]), media, yes, yes, add=True, device=CPU)


def test_cache_in_bf16_holds_activations_in_bf16() -> None:
    tower = tower_of("text/bert_tiny", tuning="top").eval()
    item_bytes = []
    for dtype in (torch.float32, torch.bfloat16):
        cache = tower.build_activation_cache(1 << 30, dtype, CPU)
        assert cache is not None
        item_bytes.append(cache.item_bytes)
    mask_bytes = 2 * 12 * 8
    assert item_bytes[0] - mask_bytes == 2 * (item_bytes[1] - mask_bytes)
    tower.eval()
    for parameter in tower.parameters():  # as DeepSpeed has it: buffers stay in fp32
        parameter.data = parameter.data.bfloat16()
    media = media_of(tower.specs[0], 4)
    yes = torch.ones(4, dtype=torch.bool)
    vectors = tower.encode_cached(torch.arange(1, 5), media, yes, ~yes, add=True, device=CPU)
    assert torch.equal(vectors, tower.encode(media, most=4))


def test_cache_budget_below_one_item_names_both_sizes(caplog: pytest.LogCaptureFixture) -> None:
    tower = tower_of("video/tiny", tuning="top")
    with caplog.at_level(logging.WARNING):
        assert tower.build_activation_cache(100, torch.float32, CPU) is None
    message = f"item.prefix_cache_bytes is 100, less than the {TINY_ITEM_BYTES} of one item"
    assert message in caplog.text


@pytest.mark.parametrize(
    ("budget_bytes", "words"),
    [
        (1 << 30, "are cached for all items"),
        (25 * TINY_ITEM_BYTES, "activations of 50% of the items"),
    ],
)
def test_cache_room_in_words_names_the_share_of_items(budget_bytes: int, words: str) -> None:
    cache = cache_of(tower_of("video/tiny", tuning="top"), budget_bytes)
    assert words in cache.room_in_words(ranks=1)


def test_stream_without_workers_reads_an_item_once(video_config: Config, data: Data) -> None:
    model, dataset = cached_run(data, video_config, tuning="top")
    (spec,) = model.tower.specs
    encoded: set[int] = set()
    most_items = dataset.plan.most_items(STEPS)
    for batch in stream_steps(dataset, 0, STEPS, 0, False, most_items):
        items = batch.items_U.tolist()
        assert batch.cached_O is not None
        assert batch.cached_O.tolist() == [item in encoded for item in items]
        assert len(batch.media[spec]) == len(items)
        assert (batch.bytes_read == 0) == (set(items) <= encoded)
        model(batch)
        encoded |= set(items)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_losses_with_a_cache_equal_those_without(
    video_config: Config, data: Data, num_workers: int
) -> None:
    item = replace(video_config.item, tuning="top")
    plain = build_model(replace(video_config, item=item), data, 0).eval()
    model, dataset = cached_run(data, video_config, tuning="top")
    plain_dataset = StepDataset(data, dataset.plan, 0, plain.tower.specs, local_negatives=False)
    (spec,) = model.tower.specs
    most_items = dataset.plan.most_items(STEPS)
    for batch in stream_steps(dataset, 0, STEPS, num_workers, False, most_items):
        assert batch.cached_O is not None
        # a worker ahead of the tower may read too much, and never too little
        assert model.tower.activation_cache.has(batch.items_O[batch.cached_O]).all()
        batch.media[spec][batch.cached_O] = 7
        expected = plain(plain_dataset[batch.step])
        torch.testing.assert_close(model(batch), expected, atol=1e-5, rtol=0)
    assert batch.cached_O.any(), "workers see what the tower has cached since they were forked"


def test_unreadable_item_is_read_in_each_step_and_never_cached(
    video_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset = cached_run(data, video_config, tuning="top")
    read_many = data.store.read_many
    bad = int(dataset.plan.step(0).items_U[0])

    def damaged(items: Any, names: Any) -> Any:
        for item, members in read_many(items, names):
            yield item, "damaged" if item == bad else members

    monkeypatch.setattr(data.store, "read_many", damaged)
    steps_with_bad = 0
    for step in range(STEPS):
        batch = dataset[step]
        assert model(batch).isfinite()
        if bad not in batch.items_U:
            continue
        steps_with_bad += 1
        place = batch.items_U.tolist().index(bad)
        assert batch.cached_O is not None
        assert not batch.cached_O[place]
        assert not batch.valid_O[place]
        assert batch.bad_items == {bad: "damaged"}
    assert steps_with_bad > 1
    assert not model.tower.activation_cache.has(torch.tensor([bad])).any()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_encode_catalogue_with_a_cache_runs_the_frozen_stages_for_the_rest_only(
    video_config: Config, data: Data, num_workers: int
) -> None:
    config = replace(video_config, data=replace(video_config.data, num_workers=num_workers))
    fused = {"encoders": ("video/tiny", "id/embedding"), "tuning": "top"}
    config = replace(config, item=replace(config.item, **fused))
    plain = build_model(config, data, 0).eval()
    expected = encode_catalogue(plain, data, config, ALONE)
    model, dataset = cached_run(data, config)
    model(dataset[0])
    stem_counts: list[int] = []
    model.tower.encoders[0].stem[0].register_forward_hook(
        lambda module, inputs, output: stem_counts.append(len(output))
    )
    num_cached = int(model.tower.activation_cache.items.cached_N1.sum())
    catalogue = encode_catalogue(model, data, config, ALONE)
    torch.testing.assert_close(catalogue.items_ND, expected.items_ND, atol=1e-5, rtol=1e-4)
    assert torch.equal(catalogue.readable_N, expected.readable_N)
    assert 0 < num_cached < len(catalogue.items_ND)
    assert sum(stem_counts) == len(catalogue.items_ND) - num_cached
