"""Title encoders: token ids and masks, int64 [n, 2, length], to vectors [n, width]."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import embedding_bag

from mlrec.data.schema import BYTE_TOKENS, InputSpec, Modality
from mlrec.data.titles import END, PADDING, START, load_tokenizer, tokenize
from mlrec.models.encoders.architectures import has_own_files, read_architecture
from mlrec.models.encoders.attention_masks import make_masks_without_reads
from mlrec.models.encoders.base import EncoderContext, EncoderRow
from mlrec.models.encoders.huggingface import HuggingFace
from mlrec.models.encoders.id import EmbeddingTable
from mlrec.models.encoders.pretrained import local_folder

TOKENIZER_FOLDER = "tokenizer"
"""Name of the folder in a run's folder that holds the tokenizer; absent for titles as bytes."""
MIN_TITLE_TOKENS = 3
"""A start token, an end token and one between them."""
BERT_TOKENS = 30_522
"""Number of tokens of bert-base-uncased, whose tokenizer text/embedding_bag has by default."""
MAX_TITLE_TOKENS = 1 << 14
"""Upper bound for models without a table of positions."""


class HuggingFaceText(HuggingFace):
    """A language model, averaged over a title's tokens: int64 [n, 2, length] to [n, width].

    The tokenizer is the checkpoint's. Without a checkpoint, the tokens are the title's bytes.
    """

    rereads = True
    inputs = ("input_ids",)

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        # titles as bytes: 256 byte values after padding, start and end
        bytewise: dict[str, Any] = {
            "vocab_size": BYTE_TOKENS,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        # a checkpoint that is not here has the vocabulary of its model type
        has_unread_tokenizer = context.shapes_only and row.checkpoint
        defaults = {} if has_unread_tokenizer else bytewise
        architecture = read_architecture(row, context, defaults)
        # T5 and others would need tokens for their decoder in each forward
        if getattr(architecture.config, "is_encoder_decoder", False):
            raise ValueError(
                f"{context.name}: a {architecture.config.model_type} has a decoder too; choose an "
                "encoder, such as BERT"
            )
        make_masks_without_reads()
        super().__init__(architecture, {})
        # the mean over tokens does not use it, so its parameters would get no gradient
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None
        tokenizer = tokenizer_of(row, context)
        check_titles(self.backbone, row.length, tokenizer, context.name)
        self.spec = InputSpec(Modality.TITLE, length=row.length, tokenizer=tokenizer)

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        save_tokenizer(self.spec, folder)

    def forward(self, titles: torch.Tensor) -> torch.Tensor:
        tokens, mask = titles.unbind(dim=1)
        output = self.backbone(input_ids=tokens, attention_mask=mask)
        return mean_over_tokens(output.last_hidden_state, mask)


class EmbeddingBag(EmbeddingTable):
    """One trained vector per token, summed over a title: int64 [n, 2, length] to [n, width].

    Items share what their words have learned, so a cold item has vectors for the words of its
    title. Sums are divided by the square root of the number of tokens, without special ones.

    The tokenizer is the checkpoint's, whose weights are not read. Without a checkpoint, the tokens
    are the title's bytes.
    """

    reads_weights = False

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        tokenizer = tokenizer_of(row, context)
        check_length(row.length, MAX_TITLE_TOKENS, context.name)
        num_tokens, special = BYTE_TOKENS, [PADDING, START, END]
        if tokenizer:
            try:
                loaded = load_tokenizer(tokenizer)
            except RuntimeError as error:
                raise ValueError(f"{context.name}: {error}") from error
            num_tokens = max(loaded.get_vocab().values()) + 1
            special = loaded.all_special_ids
        elif context.shapes_only and row.checkpoint:
            num_tokens = BERT_TOKENS
        super().__init__(num_tokens, row, context)
        self.spec = InputSpec(Modality.TITLE, length=row.length, tokenizer=tokenizer)
        self.special: torch.Tensor
        self.register_buffer("special", torch.tensor(special), persistent=False)

    def save_files(self, folder: Path) -> None:
        save_tokenizer(self.spec, folder)

    def forward(self, titles: torch.Tensor) -> torch.Tensor:
        tokens, mask = titles.unbind(dim=1)
        counted = mask.bool() & ~torch.isin(tokens, self.special)
        # 0 for tokens that do not count
        weights = counted / counted.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        table = self.embedding.weight
        # never holds the vectors of all tokens, n x length x width
        return embedding_bag(tokens, table, mode="sum", per_sample_weights=weights.to(table.dtype))


def mean_over_tokens(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the means [n, width] of vectors [n, length, width] where the mask is 1.

    The mean of no token is zeros, not NaN.
    """
    weights = mask.to(vectors.dtype)[..., None]
    mean: torch.Tensor = (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return mean


def tokenizer_of(row: EncoderRow, context: EncoderContext) -> str:
    """Return the folder or hub name of the tokenizer; "" for titles as bytes."""
    if context.files is not None:
        own = context.files / TOKENIZER_FOLDER
        return str(own) if own.is_dir() else ""
    return local_folder(row.checkpoint) if has_own_files(row, context) else ""


def save_tokenizer(spec: InputSpec, folder: Path) -> None:
    """Write the tokenizer of an input into `folder`, where `tokenizer_of` finds it."""
    if spec.tokenizer:
        load_tokenizer(spec.tokenizer).save_pretrained(folder / TOKENIZER_FOLDER)


def check_length(length: int, longest: int, encoder: str) -> None:
    """Check that titles of `length` tokens can be read.

    Raises:
        ValueError: they are too short or too long.
    """
    if not MIN_TITLE_TOKENS <= length <= longest:
        raise ValueError(
            f"item.options.{encoder}.length is {length}; the model reads titles of "
            f"{MIN_TITLE_TOKENS} to {longest:,} tokens"
        )


def check_titles(model: Any, length: int, tokenizer: str, encoder: str) -> None:
    """Check that titles of `length` tokens can be read.

    Raises:
        ValueError: the length does not fit the model's positions, the tokenizer cannot be loaded,
            or it has more tokens than the model's embedding.
    """
    check_length(length, _positions(model), encoder)
    try:
        tokens = tokenize("a title", length, tokenizer)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{encoder}: {error}") from error
    largest = max(load_tokenizer(tokenizer).get_vocab().values()) if tokenizer else BYTE_TOKENS - 1
    embedded = model.get_input_embeddings().num_embeddings
    # On a GPU, a token beyond the embedding fails asynchronously with an error that names neither
    # the token nor the embedding.
    if max(largest, int(tokens[0].max())) >= embedded:
        raise ValueError(
            f"{encoder}: the tokenizer {tokenizer or 'of bytes'!r} has {largest + 1:,} tokens, and "
            f"the model's embedding {embedded:,}: they belong to different checkpoints. Copy this "
            "checkpoint's own tokenizer into its folder"
        )


def _positions(model: Any) -> int:
    """Return the length in tokens of the longest text that the model has positions for."""
    longest: int = getattr(model.config, "max_position_embeddings", 0) or MAX_TITLE_TOKENS
    tables = (
        module for name, module in model.named_modules() if name.endswith("position_embeddings")
    )
    # RoBERTa's positions start after the number of its padding token
    offsets = [
        table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None
    ]
    return min(longest - max(offsets, default=0), MAX_TITLE_TOKENS)


BERT = (
    "Turc et al., Well-Read Students Learn Better: On the Importance of Pre-training Compact "
    "Models, 2019"
)


def _bert(layers: int, width: int, paper: str = BERT) -> EncoderRow:
    """Return a row of Google's BERT family: heads of width 64, feed-forward layers of 4 x width."""
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
    "text/embedding_bag": EncoderRow(
        build=EmbeddingBag,
        modality=Modality.TITLE,
        paper="Joulin et al., Bag of Tricks for Efficient Text Classification, 2016",
        length=32,
        checkpoint="google-bert/bert-base-uncased",
        licence="Apache-2.0",
        tuning="full",
    ),
    "text/huggingface": EncoderRow(
        build=HuggingFaceText,
        modality=Modality.TITLE,
        paper="of the checkpoint, any encoder for text",
        length=32,
    ),
    "text/bert_tiny": _bert(2, 128),
    "text/bert_mini": _bert(4, 256),
    "text/bert_small": _bert(4, 512),
    "text/bert_medium": _bert(8, 512),
    "text/bert_base": _bert(12, 768),
    "text/bert_large": replace(
        _bert(
            24, 1024, "Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2019"
        ),
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
