"""Title encoders: token ids and masks, int64 [n, 2, length], to vectors [n, width]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mlrec.models.encoders.base import EncoderContext, EncoderRow
from mlrec.models.encoders.huggingface import HuggingFace, has_own_files
from mlrec.models.encoders.pretrained import local_folder
from mlrec.schema import BYTE_TOKENS, InputSpec, Modality


class HuggingFaceText(HuggingFace):
    """A language model; its vector is the mean over a title's tokens.

    The tokenizer is the checkpoint's. Where there is none, the tokens are the title's bytes: with random weights they do as well.
    """

    rereads = True

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        own = has_own_files(row, context)
        bytewise: dict[str, Any] = {"vocab_size": BYTE_TOKENS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        super().__init__(row if own else replace(row, config={**bytewise, **row.config}), context, {})
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None
        self.spec = InputSpec(Modality.TITLE, length=row.length, tokenizer=local_folder(row.checkpoint) if own else "")

    def forward(self, titles: torch.Tensor) -> torch.Tensor:
        tokens, mask = titles.unbind(dim=1)
        vectors = self.backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.to(vectors.dtype)[..., None]
        mean: torch.Tensor = (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return mean


BERT = "Turc et al., Well-Read Students Learn Better: On the Importance of Pre-training Compact Models, 2019"


def _bert(layers: int, width: int, paper: str = BERT) -> EncoderRow:
    """A row of Google's family of BERT models: heads of 64, feed-forward layers four times as wide."""
    shape = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    return EncoderRow(
        build=HuggingFaceText,
        modality=Modality.TITLE,
        paper=paper,
        length=32,
        width=width,
        checkpoint=f"google/bert_uncased_L-{layers}_H-{width}_A-{width // 64}",
        licence="Apache-2.0",
        config={"model_type": "bert", **shape},
    )


TEXT_ENCODERS = {
    "text/huggingface": EncoderRow(
        build=HuggingFaceText, modality=Modality.TITLE, paper="of the checkpoint, any encoder for text", length=32
    ),
    "text/bert_tiny": _bert(2, 128),
    "text/bert_mini": _bert(4, 256),
    "text/bert_small": _bert(4, 512),
    "text/bert_medium": _bert(8, 512),
    "text/bert_base": _bert(12, 768),
    "text/bert_large": replace(
        _bert(24, 1024, "Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2019"),
        checkpoint="google-bert/bert-large-uncased",
    ),
    "text/roberta": EncoderRow(
        build=HuggingFaceText,
        modality=Modality.TITLE,
        paper="Liu et al., RoBERTa: A Robustly Optimized BERT Pretraining Approach, 2019",
        length=32,
        width=768,
        checkpoint="FacebookAI/roberta-base",
        licence="MIT",
        config={"model_type": "roberta"},
    ),
}
