"""Token ids of titles."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from mlrec.runtime.printable import brief

PADDING, START, END, FIRST_BYTE = 0, 1, 2, 3
"""Token ids of a title without a tokenizer."""


def tokenize(title: str, length: int, tokenizer: str) -> np.ndarray:
    """Return token ids and the mask of real tokens, int64 [2, length]. A longer title is cut.

    Args:
        tokenizer: as in InputSpec.

    Raises:
        RuntimeError: there is no such tokenizer, or it fails.
    """
    if tokenizer:
        loaded = load_tokenizer(tokenizer)
        try:
            encoded = loaded(title, padding="max_length", truncation=True, max_length=length)
            return np.asarray([encoded["input_ids"], encoded["attention_mask"]], dtype=np.int64)
        # The tokenizers package raises plain Exceptions, such as for an unknown token.
        except Exception as error:
            raise _fault(tokenizer, "cannot read a title", error) from error
    ids = [START, *(FIRST_BYTE + byte for byte in title.encode()[: length - 2]), END]
    tokens = np.full((2, length), PADDING, dtype=np.int64)
    tokens[0, : len(ids)] = ids
    tokens[1, : len(ids)] = 1
    return tokens


@functools.cache
def load_tokenizer(tokenizer: str) -> Any:
    """Load a tokenizer of Hugging Face, without running code that it brings along.

    Args:
        tokenizer: as in InputSpec, not empty.

    Raises:
        RuntimeError: there is no such tokenizer, or it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except Exception as error:  # the tokenizers package raises plain Exceptions
        raise _fault(tokenizer, "cannot be loaded", error) from error
    # for a folder with config.json alone, transformers makes a tokenizer up
    if not set(loaded.get_vocab().values()) - set(loaded.all_special_ids):
        raise RuntimeError(
            f"the tokenizer {tokenizer!r} has no words, only special tokens; copy the checkpoint's "
            "tokenizer files, such as tokenizer.json, into its folder"
        )
    return loaded


def _fault(tokenizer: str, what: str, error: Exception) -> RuntimeError:
    """Return the error of a tokenizer."""
    # Not a ValueError: that would quarantine every item, one after the other.
    return RuntimeError(
        f"the tokenizer {tokenizer!r} {what} ({brief(error)}); the folder of a text encoder's "
        "checkpoint holds it too"
    )
