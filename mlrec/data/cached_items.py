"""Skip the media of items whose activations the item tower has cached.

The item tower runs in the main process and the loader's workers in others. They share one table of
booleans: the tower sets an item's entry after caching its activations, and a worker that builds a
step reads the entries of the step's items.

Timing cannot lose an item. Nothing is evicted, so an entry stays set, and the media that a worker
skips are never needed. A worker that reads an entry just before the tower sets it delivers media
that the tower ignores, because it encodes the item from the cache. So prefetching changes how much
is read, by at most the steps in flight. It changes no vector and no loss.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlrec.data.decode import Decoded, decode_rows
from mlrec.data.format import MediaInfo
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec


@dataclass(frozen=True)
class CachedItems:
    """The items whose activations this rank has cached, as the loader's workers see them."""

    inputs: frozenset[InputSpec]
    """Inputs to skip for a cached item: all encoders that read them have a cached prefix."""
    cached_N1: np.ndarray
    """True for cached items, by item id (bool); False at first.

    The array is in memory that forked workers share.
    """

    @classmethod
    def none_of(cls, catalogue_size: int, inputs: frozenset[InputSpec]) -> CachedItems:
        """Return a table in which no item is cached."""
        # An anonymous map is zeros and stays shared after a fork. The operating system would copy
        # numpy's own memory on the first write, so workers would never see a new entry.
        # Item ids start at 1, so there is one byte more than items.
        memory = mmap.mmap(-1, catalogue_size + 1)
        return cls(inputs, np.frombuffer(memory, dtype=bool))


@dataclass(frozen=True)
class PartialInputs:
    """The inputs of a rank's items, some of which are skipped for cached items."""

    all: tuple[InputSpec, ...]
    """Inputs of an item that is not cached."""
    of_cached: tuple[InputSpec, ...]
    """Inputs of a cached item."""


def partial_inputs(inputs: Sequence[InputSpec], skipped: frozenset[InputSpec]) -> PartialInputs:
    """Return the inputs to read for uncached and for cached items."""
    remaining_inputs = []
    for spec in inputs:
        # Inputs outside `skipped` are also read by an encoder without a cached prefix.
        if spec not in skipped:
            remaining_inputs.append(spec)
    return PartialInputs(tuple(inputs), tuple(remaining_inputs))


def decode_partly_cached(
    uncached_samples: Iterable[Sample],
    cached_samples: Iterable[Sample],
    cached_n: np.ndarray,
    inputs: PartialInputs,
    media_by_input: dict[InputSpec, torch.Tensor],
    media: MediaInfo,
) -> Decoded:
    """Decode n items to their rows of the media, but only the remaining inputs of cached ones.

    Args:
        uncached_samples: samples of the uncached items in order, with the members of all inputs.
        cached_samples: samples of the cached items in order, with the members of the remaining
            inputs.
        cached_n: which items are cached, bool.
        media_by_input: where to write. The rows of cached items are left as they are for inputs
            that are skipped.
    """
    decoded = Decoded(media_by_input, torch.ones(len(cached_n), dtype=torch.bool), {})
    decode_rows(uncached_samples, np.flatnonzero(~cached_n), inputs.all, decoded, media)
    # A cached item is unreadable only if one of its remaining inputs is.
    decode_rows(cached_samples, np.flatnonzero(cached_n), inputs.of_cached, decoded, media)
    return decoded
