"""Batch normalisation and dropout in a tower that is trained in chunks."""

from typing import Any

import pytest
import torch
from small_encoders import media_of, small_tower
from torch.nn.modules.batchnorm import _BatchNorm

from mlrec.models.batchnorm import BatchNorm, repeated
from mlrec.models.tower import ItemTower


def tower_of(name: str, **changes: Any) -> ItemTower:
    return small_tower(name, **changes).train()


def statistics(tower: ItemTower) -> dict[str, torch.Tensor]:
    return {
        name: value.clone()
        for name, value in tower.state_dict().items()
        if "running" in name or "tracked" in name
    }


@pytest.mark.parametrize("name", ["image/resnet50", "video/x3d_xs"])
def test_checkpointing_counts_a_chunk_once_in_the_running_statistics(name: str) -> None:
    saving, plain = (
        tower_of(name, batchnorm="sync", chunk=2),
        tower_of(name, batchnorm="sync", chunk=2),
    )
    media = media_of(saving.specs[0], 4)
    vectors = saving.encode(media, most=4)
    vectors.square().sum().backward()
    (spec,) = media
    for start in (0, 2):
        expected = plain({spec: media[spec][start : start + 2]})
        expected.square().sum().backward()
        torch.testing.assert_close(vectors[start : start + 2], expected)
    repeated_statistics, once = statistics(saving), statistics(plain)
    assert repeated_statistics
    for key, value in once.items():
        torch.testing.assert_close(repeated_statistics[key], value, msg=key)
    for one, other in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_frozen_batch_norms_keep_the_statistics_of_the_checkpoint() -> None:
    tower = tower_of("image/resnet50")
    before = statistics(tower)
    tower.encode(media_of(tower.specs[0], 4), most=4).square().sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in statistics(tower).items())
    norms = [module for module in tower.modules() if isinstance(module, _BatchNorm)]
    assert not any(norm.training for norm in norms)
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())


def test_batch_norms_of_frozen_stages_keep_theirs_too() -> None:
    tower = tower_of("image/resnet50", batchnorm="sync", tuning="top")
    *frozen, top = tower.encoders[0].stages()
    assert not any(
        m.training for stage in frozen for m in stage.modules() if isinstance(m, _BatchNorm)
    )
    assert all(m.training for m in top.modules() if isinstance(m, _BatchNorm))


def test_checkpointing_with_an_error_leaves_the_statistics_on() -> None:
    tower = tower_of("image/resnet50", batchnorm="sync")
    with pytest.raises(RuntimeError, match="stop"), repeated(tower):
        raise RuntimeError("stop")
    assert not any(m.repeats for m in tower.modules() if isinstance(m, BatchNorm))


def test_frozen_encoder_in_training_has_no_dropout() -> None:
    for tuning, same in (("frozen", True), ("full", False)):
        tower = tower_of("text/bert_tiny", tuning=tuning)
        media = media_of(tower.specs[0], 3)
        assert torch.equal(tower(media), tower(media)) is same


def test_frozen_batch_norm_in_bf16_casts_its_scale_once() -> None:
    norm = BatchNorm(torch.nn.BatchNorm2d(3)).eval().requires_grad_(False)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.weight.data = norm.weight.data.bfloat16()
    norm.bias.data = norm.bias.data.bfloat16()
    values = torch.randn(2, 3, 4, 4).bfloat16()
    first = norm(values)
    assert norm._frozen_affine is not None
    scale = norm._frozen_affine.weight
    torch.testing.assert_close(norm(values), first, rtol=0, atol=0)
    assert norm._frozen_affine.weight is scale
    # Weights that a checkpoint loads are cast again.
    norm.load_state_dict({**norm.state_dict(), "weight": torch.full((3,), 5.0)})
    expected = values.float() / (1 + norm.eps) ** 0.5 * 5
    torch.testing.assert_close(norm(values), expected.bfloat16())
