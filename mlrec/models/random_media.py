"""Random media: made-up items that look like the stream's, to try encoders on."""

from __future__ import annotations

import torch

from mlrec.data.schema import BYTE_TOKENS, InputSpec, Modality
from mlrec.data.titles import load_tokenizer


def random_media(spec: InputSpec, count: int) -> torch.Tensor:
    """Return media of `count` items in the stream's shape and dtype; the same in every call."""
    generator = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(low, high, (count, *shape), generator=generator, dtype=dtype)

    if spec.modality is Modality.TITLE:
        # every title is one token shorter than the one before, so that an ignored mask shows
        lengths = spec.length - 1 - torch.arange(count)
        mask = (torch.arange(spec.length) < lengths[:, None]).long()
        last_token = BYTE_TOKENS - 1
        if spec.tokenizer:
            # a vocabulary of characters or of few words is smaller than that of bytes
            last_token = min(last_token, max(load_tokenizer(spec.tokenizer).get_vocab().values()))
        tokens = integers(min(3, last_token), last_token + 1, spec.length, dtype=torch.int64)
        return torch.stack([tokens * mask, mask], dim=1)
    if spec.modality is Modality.AUDIO:
        return integers(-999, 999, spec.length, dtype=torch.int16)
    if spec.modality is Modality.VIDEO:
        return integers(0, 256, spec.frames, spec.size, spec.size, 3, dtype=torch.uint8)
    if spec.modality is Modality.FEATURES:
        return torch.randn(count, spec.length, generator=generator)
    if spec.modality is Modality.COVER:
        return integers(0, 256, spec.size, spec.size, 3, dtype=torch.uint8)
    raise ValueError(f"There are no random media of modality {spec.modality.value!r}")
