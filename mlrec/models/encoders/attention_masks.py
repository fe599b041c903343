"""Attention masks of language models that the host makes without reading the titles' lengths."""

from __future__ import annotations

from typing import Any

import torch


def make_masks_without_reads() -> None:
    """Let transformers make an attention mask wherever it gets a mask of tokens.

    By default it asks in every forward whether a title has padding, and leaves the mask out if none
    has. The host of a GPU would wait for the answer, and tensors without values have none. The
    results are the same.
    """
    from transformers import AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    def sdpa_without_read(*arguments: Any, **options: Any) -> torch.Tensor | None:
        mask: torch.Tensor | None = sdpa_mask(*arguments, **_never_left_out(options))
        return mask

    def eager_without_read(*arguments: Any, **options: Any) -> torch.Tensor | None:
        mask: torch.Tensor | None = eager_mask(*arguments, **_never_left_out(options))
        return mask

    AttentionMaskInterface.register("sdpa", sdpa_without_read)
    AttentionMaskInterface.register("eager", eager_without_read)


def _never_left_out(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a mask function, by which a mask of tokens is always used."""
    if options.get("attention_mask") is None:
        # images have none, and transformers reads nothing
        return options
    return {**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
