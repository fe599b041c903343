"""States of an encoder's stages: one vector per item and stage, the last the encoder's own."""

import pytest
import torch
from small_encoders import DISTINCT, TABLES, media_of, small_tower
from torch import nn

from mlrec.data.schema import Modality
from mlrec.models.encoders import Encoder
from mlrec.models.stage_states import StageStates

MEDIA_ENCODERS = [name for name in DISTINCT if name not in TABLES]
SHUFFLES = {"image/vit_mae"}
"""ViT-MAE puts the patches into a random order; sums of other orders round differently."""


def encoder_of(name: str) -> Encoder:
    encoder = small_tower(name, tuning="frozen").encoders[0].eval()
    assert isinstance(encoder, Encoder)
    return encoder


@pytest.mark.parametrize("name", MEDIA_ENCODERS)
def test_stage_states_of_any_encoder_are_one_vector_per_item_and_stage(name: str) -> None:
    encoder = encoder_of(name)
    states = StageStates(encoder, name).eval()
    media = media_of(encoder.spec, 3)[encoder.spec]
    together = states(media)
    assert [tuple(state.shape) for state in together] == [(3, width) for width in states.widths]
    assert len(together) == len(encoder.stages())
    tolerance = 1e-3 if name in SHUFFLES else 1e-5
    torch.testing.assert_close(together[-1], encoder(media), atol=tolerance, rtol=1e-4)
    alone = states(media[1:2])
    for of_all, of_one in zip(together, alone, strict=True):
        torch.testing.assert_close(of_all[1:2], of_one, atol=tolerance, rtol=1e-4)
        assert not torch.equal(of_all[0], of_all[2])


def test_stage_states_of_a_title_are_the_means_of_its_hidden_states() -> None:
    encoder = encoder_of("text/bert_tiny")
    titles = media_of(encoder.spec, 4)[encoder.spec]
    tokens, mask = titles.unbind(dim=1)
    output = encoder.backbone(tokens, mask, output_hidden_states=True)
    states = StageStates(encoder, "text/bert_tiny")(titles)
    for state, hidden in zip(states, output.hidden_states, strict=True):
        for item in range(4):
            expected = hidden[item, mask[item].bool()].mean(dim=0)
            torch.testing.assert_close(state[item], expected)


@pytest.mark.parametrize("name", ["video/videomae", "image/clip_vit_b32"])
def test_stage_states_of_a_transformer_are_the_means_of_its_hidden_states(name: str) -> None:
    encoder = encoder_of(name)
    media = media_of(encoder.spec, 2)[encoder.spec]
    values = encoder.normalize(media, torch.float32)
    output = encoder.backbone(values, output_hidden_states=True)
    states = StageStates(encoder, name)(media)
    for state, hidden in zip(states[:-1], output.hidden_states[:-1], strict=True):
        torch.testing.assert_close(state, hidden.mean(dim=1))


def test_stage_states_of_frames_are_averaged_over_the_frames_of_an_item() -> None:
    name = "video/image_frames"
    encoder = encoder_of(name)
    states = StageStates(encoder, name)
    frames = media_of(encoder.spec, 2)[encoder.spec]
    swapped = states(frames.flip(1))
    for state, expected in zip(swapped, states(frames), strict=True):
        torch.testing.assert_close(state, expected)


def test_stage_states_leave_no_hook_and_no_gradient() -> None:
    encoder = encoder_of("video/tiny").requires_grad_(True)
    states = StageStates(encoder, "video/tiny")
    media = media_of(encoder.spec, 2)[encoder.spec]
    assert not any(state.requires_grad for state in states(media))
    assert not any(module._forward_pre_hooks for module in encoder.modules())


def test_stage_states_of_an_encoder_without_stages_are_refused() -> None:
    (encoder,) = small_tower("id/embedding").encoders
    encoder.stages = list
    with pytest.raises(ValueError, match=r"^id/embedding has no stages"):
        StageStates(encoder, "id/embedding")


class _Transposed(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.movedim(1, -1)


def test_stage_states_with_channels_last_are_refused() -> None:
    encoder = encoder_of("video/tiny")
    assert encoder.spec.modality is Modality.VIDEO
    encoder.blocks[1] = _Transposed()
    encoder.blocks[2] = nn.Identity()
    with pytest.raises(ValueError, match=r"no average state after stage 2: .* channels first"):
        StageStates(encoder, "video/tiny")
