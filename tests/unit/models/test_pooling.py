"""Poolings: several vectors of an item become one, and training starts from their mean."""

import pytest
import torch
from small_encoders import SMALL, media_of
from small_towers import CPU, tower_of

from mlrec.models.encoders.pooling import POOLINGS
from mlrec.models.tower import ItemTower

LEARNED = ["mix", "attention", "latent"]
FRAMES = "video/image_frames"


def frames_tower(pooling: str, **changes: object) -> ItemTower:
    options = {FRAMES: {**SMALL[FRAMES], "pooling": pooling}}
    return tower_of(FRAMES, options=options, **changes)


@pytest.mark.parametrize("pooling", LEARNED)
@pytest.mark.parametrize("width", [16, 6, 7])
def test_pooling_starts_as_the_mean(pooling: str, width: int) -> None:
    vectors = torch.randn(5, 3, width)
    torch.testing.assert_close(POOLINGS[pooling](3, width)(vectors), vectors.mean(dim=1))


@pytest.mark.parametrize("pooling", LEARNED)
def test_pooling_after_a_step_has_left_the_mean_and_trains_all_parameters(pooling: str) -> None:
    torch.manual_seed(0)
    module = POOLINGS[pooling](3, 16)
    vectors = torch.randn(5, 3, 16)
    target = torch.randn(5, 16)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    # parameters behind a matrix of zeros get their first gradient in the second step
    for _ in range(2):
        optimizer.zero_grad()
        (module(vectors) * target).sum().backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert not torch.allclose(module(vectors), vectors.mean(dim=1), atol=1e-4)


@pytest.mark.parametrize("pooling", LEARNED)
def test_pooling_of_an_item_does_not_depend_on_the_others(pooling: str) -> None:
    torch.manual_seed(0)
    module = POOLINGS[pooling](3, 16)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    vectors = torch.randn(5, 3, 16)
    torch.testing.assert_close(module(vectors)[1:2], module(vectors[1:2]))
    # the order of frames matters
    assert not torch.allclose(module(vectors), module(vectors.flip(1)), atol=1e-3)


def test_pooling_mean_of_frames_equals_the_encoder_without_pooling() -> None:
    media = media_of(tower_of(FRAMES).specs[0], 3)
    plain = tower_of(FRAMES).eval()
    pooled = frames_tower("mean").eval()
    torch.testing.assert_close(pooled(media), plain(media))


@pytest.mark.parametrize("pooling", LEARNED)
def test_frozen_frames_with_a_trained_pooling_cache_one_vector_per_frame(pooling: str) -> None:
    tower = frames_tower(pooling, tuning="frozen")
    cache = tower.build_activation_cache(1 << 20, torch.float32, CPU)
    assert cache is not None
    encoder = tower.encoders[0]
    assert cache.item_bytes == encoder.spec.frames * encoder.width * 4
    media = media_of(tower.specs[0], 3)
    items = torch.tensor([4, 7, 9])
    ones = torch.ones(3, dtype=torch.bool)
    vectors = tower.encode_cached(items, media, ones, ~ones, add=True, device=CPU)
    torch.testing.assert_close(vectors, tower(media), atol=1e-5, rtol=1e-5)
    vectors.square().sum().backward()
    trained = [key for key, value in tower.named_parameters() if value.grad is not None]
    assert trained
    assert all(key.startswith("heads.") for key in trained)


def test_pooling_of_an_encoder_with_one_vector_is_an_error() -> None:
    options = {"video/tiny": {**SMALL["video/tiny"], "pooling": "latent"}}
    with pytest.raises(ValueError, match="pooling has no effect, because video/tiny has one"):
        tower_of("video/tiny", options=options)
    options = {FRAMES: {**SMALL[FRAMES], "frames": 1, "pooling": "attention"}}
    with pytest.raises(ValueError, match=f"{FRAMES} has one vector per item.* several frames"):
        tower_of(FRAMES, options=options)
