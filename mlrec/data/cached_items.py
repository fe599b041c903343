"""Skip the media of items whose activations the item tower has cached.

The item tower runs in the main process and the loader's workers in others. They share one table of
booleans: the tower sets an item's entry after caching its activations, and a worker that builds a
step reads the entries of the step's items.

Timing cannot lose an item. Nothing is evicted, so an entry stays set, and the media that a worker
skips are never needed. A worker that reads an entry just before the tower sets it delivers media
that are not needed: the tower encodes the item from the cache all the same. So prefetching changes
how much is read, by at most the steps in flight, but no vector and no loss.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlrec.data.decode import Decoded, decode_items
from mlrec.data.format import MediaInfo
from mlrec.data.samples import Sample
from mlrec.data.schema import InputSpec


@dataclass(frozen=True)
class CachedItems:
    """The items whose activations this rank has cached, as the loader's workers see them."""

    inputs: frozenset[InputSpec]
    """Inputs to skip for a cached item: those that no encoder without a cached prefix reads."""
    cached_N1: np.ndarray
    """bool: items that are cached, by item id; all False at first.

    It lies in memory that forked workers share.
    """

    @classmethod
    def none_of(cls, catalogue_size: int, inputs: frozenset[InputSpec]) -> CachedItems:
        """Return a table in which no item is cached."""
        # An anonymous map is zeros and stays shared after a fork. The operating system would copy
        # numpy's own memory on the first write, so workers would never see a new entry.
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
    """Return `inputs`, and those of them that are read of a cached item as well."""
    of_cached = []
    for spec in inputs:
        # An input stays if an encoder without a cached prefix reads it too.
        if spec not in skipped:
            of_cached.append(spec)
    return PartialInputs(tuple(inputs), tuple(of_cached))


def decode_partly_cached(
    uncached_samples: Iterable[Sample],
    cached_samples: Iterable[Sample],
    cached_n: np.ndarray,
    inputs: PartialInputs,
    media: MediaInfo,
) -> Decoded:
    """Decode n items as decode_items does, but only the remaining inputs of cached ones.

    A skipped input has rows of the uncached items alone. Every other input has all n rows.

    Args:
        uncached_samples: samples of the uncached items in order, with the members of all inputs.
        cached_samples: samples of the cached items in order, with the members of the remaining
            inputs.
        cached_n: which items are cached, bool.
    """
    # Two passes: rows of a skipped input exist for uncached items only.
    uncached_places = np.flatnonzero(~cached_n)
    cached_places = np.flatnonzero(cached_n)
    uncached = decode_items(uncached_samples, len(uncached_places), inputs.all, media)
    cached = decode_items(cached_samples, len(cached_places), inputs.of_cached, media)
    # Row i of the result is row order[i] of the uncached items followed by the cached ones.
    order = torch.from_numpy(np.argsort(np.concatenate([uncached_places, cached_places])))
    # A skipped input keeps the rows of the first pass: those of the uncached items alone.
    media_of = dict(uncached.media)
    for spec in inputs.of_cached:
        media_of[spec] = torch.cat([uncached.media[spec], cached.media[spec]])[order]
    # A cached item is unreadable only if one of its remaining inputs is.
    valid_n = torch.cat([uncached.valid_n, cached.valid_n])[order]
    return Decoded(media_of, valid_n, uncached.bad_items | cached.bad_items)
