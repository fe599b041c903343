"""Attention masks of language models are made without reading them, with the same results."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from small_encoders import SMALL
from small_towers import tower_of
from transformers import AttentionMaskInterface, AutoConfig, AutoModel
from transformers.masking_utils import eager_mask, sdpa_mask

from mlrec.models.encoders.attention_masks import make_masks_without_reads
from mlrec.models.trial import check_runs, without_values

SMALL_MODEL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PADDED = (torch.arange(12) < torch.tensor([[12], [5], [3]])).long()
FULL = torch.ones_like(PADDED)


# MiniLM is a BERT. MPNet has its own attention, and GPT-2 reads earlier tokens only.
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet", "gpt2"])
@pytest.mark.parametrize("mask", [FULL, PADDED], ids=["full", "padded"])
def test_language_model_masks_without_reads_give_the_same_states(
    kind: str, mask: torch.Tensor
) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **SMALL_MODEL)).eval()
    tokens = torch.randint(3, 50, mask.shape) * mask

    def states() -> torch.Tensor:
        with torch.no_grad():
            hidden: torch.Tensor = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return hidden * mask[..., None]

    make_masks_without_reads()
    found = states()
    own_masks = {"sdpa": sdpa_mask, "eager": eager_mask}
    with patch.dict(AttentionMaskInterface._global_mapping, own_masks):
        expected = states()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in SMALL if name.startswith("text/")])
def test_title_encoder_without_values_runs_forward_and_backward(name: str) -> None:
    encoder = tower_of(name, tuning="full").encoders[0]
    double = without_values(encoder).requires_grad_().train()
    titles = torch.zeros(3, 2, encoder.spec.length, dtype=torch.int64, device="meta")
    vectors = double(titles)
    vectors.sum().backward()
    assert vectors.shape == (3, encoder.width)
    for parameter in double.parameters():
        assert parameter.grad is not None


def test_check_runs_of_title_encoder_with_wrong_width_names_both_widths() -> None:
    encoder = tower_of("text/embedding_bag").encoders[0]
    width = encoder.width
    encoder.width = 5
    reason = (
        rf"returns \[1, {width}\] for one item, expected vectors of \[1, 5\], "
        r"because its width is 5\. Correct mlrec\.models\.encoders\..*\.forward, or "
        "the width in the encoder's row"
    )
    with pytest.raises(ValueError, match=reason):
        check_runs(encoder, "text/embedding_bag")


def test_check_runs_of_encoder_without_a_tensor_names_what_it_returns() -> None:
    encoder = tower_of("text/embedding_bag").encoders[0]
    with (
        patch.object(type(encoder), "forward", lambda self, titles: (titles,)),
        pytest.raises(ValueError, match="text/embedding_bag returns a tuple for one item"),
    ):
        check_runs(encoder, "text/embedding_bag")
