"""Frozen prefixes: an encoder's two halves compute what the whole computes, or it is not cut."""

import logging

import pytest
import torch
from small_encoders import DISTINCT, SMALL, TABLES, media_of
from small_towers import CPU, tower_of
from torch import nn

from mlrec.data.stream import Data
from mlrec.models.chunks import gather_rows
from mlrec.models.prefix import Prefix, find_prefix
from mlrec.models.random_media import random_media
from mlrec.models.tower import ItemTower

MEDIA_ENCODERS = [name for name in DISTINCT if name not in TABLES]
DEEPER_TWINS = {"video/slowfast_r101", "video/x3d_l"}
"""The same modules as slowfast_r50 and x3d_xs, only more of them."""
SHUFFLES = {"image/vit_mae"}
"""ViT-MAE puts the patches into a random order even where it masks none."""
EVERY_CUT = ["video/x3d_xs", "video/videomae", "image/swin", "text/bert_tiny", "audio/ast"]
"""One encoder per family: convolutions, transformer, hierarchy, masked text, spectrogram."""
CUTS = [(name, "top") for name in MEDIA_ENCODERS if name not in DEEPER_TWINS]
CUTS += [(name, tuning) for name in EVERY_CUT for tuning in ("half", "frozen")]
CUTS += [(name, "lora") for name in EVERY_CUT if name != "video/x3d_xs"]


def prefix_of(tower: ItemTower) -> Prefix:
    prefix = find_prefix(tower.encoders[0], tower.train)
    assert prefix is not None
    return prefix


def gradients_of(tower: ItemTower, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    tower.zero_grad()
    vectors.square().sum().backward()
    gradients = {}
    for name, parameter in tower.encoders[0].named_parameters():
        if parameter.grad is not None:
            gradients[name] = parameter.grad.clone()
    return gradients


@pytest.mark.parametrize(("name", "tuning"), CUTS)
def test_prefix_and_rest_of_any_encoder_equal_the_whole(name: str, tuning: str) -> None:
    # adapters in the last stage only: those in all stages would leave no prefix
    changes = {"lora": {"stages": 1}} if tuning == "lora" else {}
    tower = tower_of(name, tuning=tuning, options={name: {**SMALL[name], **changes}})
    (encoder,) = tower.encoders
    if name in SHUFFLES:
        with pytest.raises(ValueError, match="depends on chance"):
            find_prefix(encoder, tower.train)
        return
    prefix = prefix_of(tower)
    tower.eval()
    media = media_of(encoder.spec, 3)[encoder.spec]
    activations = [tensor.clone() for tensor in prefix.run(media)]
    shapes = [tensor.shape for tensor in activations]
    assert shapes == [(3, leaf.rows, *leaf.shape) for leaf in prefix.leaves]
    resumed = prefix.resume(activations)
    whole = encoder(media)
    torch.testing.assert_close(resumed, whole, atol=1e-5, rtol=1e-4)
    if tuning == "frozen":
        return
    gradients = gradients_of(tower, resumed)
    expected = gradients_of(tower, whole)
    trained = {key for key, value in encoder.named_parameters() if value.requires_grad}
    assert gradients.keys() == expected.keys() == trained
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["video/videomae", "image/resnet50", "text/bert_tiny"])
def test_prefix_resume_runs_no_frozen_module(name: str) -> None:
    tower = tower_of(name, tuning="top")
    (encoder,) = tower.encoders
    prefix = prefix_of(tower)
    media = media_of(encoder.spec, 2)[encoder.spec]
    activations = prefix.run(media)
    *frozen_stages, _ = encoder.stages()
    ran: list[nn.Module] = []
    for stage in frozen_stages:
        for module in stage.modules():
            # the stages themselves are called, and answer with what is cached
            if module is not stage and not list(module.children()):
                module.register_forward_hook(lambda module, inputs, output: ran.append(module))
    prefix.resume(activations)
    assert ran == []
    prefix.run(media)
    assert ran


@pytest.mark.parametrize("tuning", ["full", "scratch"])
def test_prefix_of_an_encoder_trained_as_a_whole_does_not_exist(tuning: str) -> None:
    # frozen batch norms of x3d are no prefix either
    batchnorm = "sync" if tuning == "scratch" else "frozen"
    for name in ("video/videomae", "video/x3d_xs", "id/embedding"):
        tower = tower_of(name, tuning=tuning, batchnorm=batchnorm)
        assert tower.build_activation_cache(1 << 30, torch.float32, CPU) is None


def test_prefix_with_trained_batch_norms_after_it_is_cached() -> None:
    tower = tower_of("image/resnet50", tuning="top", batchnorm="sync")
    assert tower.build_activation_cache(1 << 30, torch.float32, CPU) is not None


class _Noisy(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.rand_like(values)


class _Across(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values - values.mean(dim=0)


@pytest.mark.parametrize("module", [_Noisy(), _Across(), nn.Dropout(0.5)])
def test_prefix_that_depends_on_chance_or_other_items_is_not_cached(
    module: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    tower = tower_of("video/tiny", tuning="top")
    tower.encoders[0].blocks.insert(1, module)
    with caplog.at_level(logging.WARNING):
        assert tower.build_activation_cache(1 << 30, torch.float32, CPU) is None
    assert "cannot cache the activations of video/tiny" in caplog.text
    assert "depends on chance or on the other items" in caplog.text


def test_random_media_have_the_shape_of_the_streams(data: Data) -> None:
    for name in MEDIA_ENCODERS:
        (spec,) = tower_of(name).specs
        expected = media_of(spec, 2)[spec]
        media = random_media(spec, 2)
        assert (media.shape, media.dtype) == (expected.shape, expected.dtype)
        assert not torch.equal(media[0], media[1])


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_gather_rows_for_a_gpu_uses_pinned_memory(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = torch.randn(9, 4, 2)
    rows = torch.tensor([7, 0, 7])
    torch_empty = torch.empty
    allocated: list[tuple[torch.Tensor, bool]] = []
    sent: list[tuple[torch.Tensor, torch.device, bool]] = []

    def allocate(*size: int, pin_memory: bool, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch_empty(*size, dtype=dtype)
        allocated.append((tensor, pin_memory))
        return tensor

    def send(tensor: torch.Tensor, device: torch.device, non_blocking: bool) -> torch.Tensor:
        sent.append((tensor, device, non_blocking))
        return tensor

    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(torch.Tensor, "to", send)
    copied = gather_rows(store, rows, torch.device(kind))
    ((gathered, pinned),) = allocated
    assert pinned == (kind == "cuda")
    assert sent == [(gathered, torch.device(kind), True)]
    assert torch.equal(copied, store[rows])
