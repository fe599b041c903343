"""The catalogue pass: stream all media once, split over ranks by position."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mlrec.data.cached_items import CachedItems, decode_partly_cached, partial_inputs
from mlrec.data.decode import check_inputs, empty_media, item_bytes, members_of
from mlrec.data.format import item_key
from mlrec.data.host_memory import PREFETCHED_CHUNKS, check_shared_memory, host_bytes
from mlrec.data.samples import Sample, is_optional, stored
from mlrec.data.schema import InputSpec
from mlrec.data.shard_streams import next_sample, stream_shard
from mlrec.data.stream import Data
from mlrec.data.workers import WorkerDiedError, log_replacement, workers_output
from mlrec.runtime.distributed import shares


@dataclass
class Chunk:
    """Neighbouring items of a rank's share of the catalogue."""

    start: int
    """Position of the first item in the share."""
    media: dict[InputSpec, torch.Tensor]
    valid_n: torch.Tensor
    """bool: the items that could be read; the others' media are zeros."""
    bad_items: dict[int, str]
    """Items that could not be read, with the reason."""
    remote_bytes: int
    """Bytes that the loader's process requested over the network since its last chunk."""
    cached_n: torch.Tensor
    """bool: items whose activations are cached.

    Their rows of `media` are arbitrary for an input of CachedItems, and may be missing at the end.
    """
    number: int
    """Number of the chunk in the pass, from 0."""

    def pin_memory(self) -> Chunk:
        """Copy the chunk's media to page-locked memory; torch's DataLoader calls this."""
        # Only the media: the other tensors are small.
        media = {spec: tensor.pin_memory() for spec, tensor in self.media.items()}
        return replace(self, media=media)


def ranked_items(data: Data) -> np.ndarray:
    """Return the ids of the items that ranking considers, ascending: all that were packed."""
    return np.flatnonzero(data.catalogue.ok_N1)


class _Share(NamedTuple):
    """The chunks of one loader worker."""

    numbers: list[int]
    """Numbers of the chunks, ascending."""
    places: np.ndarray
    """int64: positions of their items in the items of the pass, ascending."""


class CataloguePass(IterableDataset[Chunk]):
    """A run of items in chunks of nearly equal size.

    Each loader worker of a rank makes a run of neighbouring chunks, so that it streams few shards.
    """

    def __init__(
        self,
        data: Data,
        inputs: Sequence[InputSpec],
        items: np.ndarray,
        num_chunks: int,
        cached_items: CachedItems | None = None,
    ) -> None:
        """Check that the data set holds the inputs, and look up which items are cached.

        Args:
            items: item ids, ascending.
            cached_items: the items whose activations the item tower has cached; None without a
                cache. The tower caches no more items during the pass.
        """
        check_inputs(inputs, data.info.media, data.url)
        self.data = data
        self.inputs = tuple(dict.fromkeys(inputs))
        skipped = cached_items.inputs if cached_items else frozenset()
        self.partial_inputs = partial_inputs(self.inputs, skipped)
        self.items = items
        self.num_chunks = num_chunks
        # Copied in the main process, before the workers fork, so that all of them agree.
        if cached_items is None:
            self.cached_n = np.zeros(len(items), dtype=bool)
        else:
            self.cached_n = cached_items.cached_N1[items]
        # starts[i] is the position of chunk i's first item; the last entry is the number of items.
        self._starts = np.cumsum((0, *shares(len(items), num_chunks)))
        self.delivered: set[int] = set()
        """Numbers of the chunks that a pass whose worker died need not make again."""

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks of this loader worker that were not delivered before."""
        share = self._share_of_worker()
        items = self.items[share.places]
        is_cached = self.cached_n[share.places]
        # Cached items have a stream of their own, of the inputs that are still read: often none.
        # Both streams run over all chunks of the worker, so that each shard is opened once.
        uncached_samples = self._samples(items[~is_cached], self.partial_inputs.all)
        cached_samples = self._samples(items[is_cached], self.partial_inputs.of_cached)
        for number in share.numbers:
            yield self._chunk(number, uncached_samples, cached_samples)

    def _share_of_worker(self) -> _Share:
        """Return the chunks that this process makes: all of them outside a loader worker."""
        worker = get_worker_info()
        index = worker.id if worker else 0
        num_workers = worker.num_workers if worker else 1
        chunks_of_worker = shares(self.num_chunks, num_workers)
        first = sum(chunks_of_worker[:index])
        numbers: list[int] = []
        # Starts with an empty array, because numpy cannot concatenate nothing.
        places = [np.arange(0)]
        for number in range(first, first + chunks_of_worker[index]):
            # Delivered by a pass whose worker died.
            if number in self.delivered:
                continue
            numbers.append(number)
            places.append(np.arange(self._starts[number], self._starts[number + 1]))
        return _Share(numbers, np.concatenate(places))

    def _chunk(
        self, number: int, uncached_samples: Iterator[Sample], cached_samples: Iterator[Sample]
    ) -> Chunk:
        """Take a chunk's samples off the two streams, and decode them."""
        start = int(self._starts[number])
        cached_n = self.cached_n[start : self._starts[number + 1]]
        num_cached = int(cached_n.sum())
        num_uncached = len(cached_n) - num_cached
        timed = self.data.clock.timed
        decoded = decode_partly_cached(
            timed(itertools.islice(uncached_samples, num_uncached)),
            timed(itertools.islice(cached_samples, num_cached)),
            cached_n,
            self.partial_inputs,
            self._empty_media(cached_n),
            self.data.info.media,
        )
        return Chunk(
            start=start,
            media=decoded.media,
            valid_n=decoded.valid_n,
            bad_items=decoded.bad_items,
            remote_bytes=self.data.store.take_remote_bytes(),
            cached_n=torch.from_numpy(cached_n),
            number=number,
        )

    def _empty_media(self, cached_n: np.ndarray) -> dict[InputSpec, torch.Tensor]:
        """Return memory for the media of a chunk's items."""
        media = {}
        rows_of_uncached = np.flatnonzero(~cached_n)
        for spec in self.inputs:
            count = len(cached_n)
            # Often all items are cached. Rows that are never written need not be sent.
            if spec not in self.partial_inputs.of_cached:
                count = int(rows_of_uncached[-1]) + 1 if len(rows_of_uncached) else 0
            media[spec] = empty_media(spec, count)
        return media

    def _samples(self, items: np.ndarray, inputs: Sequence[InputSpec]) -> Iterator[Sample]:
        """Yield the items' samples in order, each compared with the catalogue.

        If the stream of a shard delivers damaged members or ends early, the store reads the items
        again, one by one. It gives the reason for an item that cannot be read.
        """
        store = self.data.store
        names = members_of(inputs, self.data.info.media)
        stored_names = stored(names)
        # Titles and ids come from the catalogue, so no shard is opened for them alone.
        if not stored_names:
            for item in items.tolist():
                yield Sample(item, store.with_title(item, {}, names))
            return
        # Shard numbers ascend with item ids, so going shard by shard keeps the order of the items.
        shards = self.data.catalogue.shard_N1[items]
        for shard in np.unique(shards).tolist():
            stream = stream_shard(store.shard_url(store.shards[shard]))
            for item in items[shards == shard].tolist():
                sample = next_sample(stream, item_key(item))
                if self._is_intact(item, sample, stored_names):
                    yield Sample(item, store.with_title(item, sample, names))
                else:
                    yield Sample(item, store.try_read(item, names))

    def _is_intact(self, item: int, sample: dict[str, bytes], names: Sequence[str]) -> bool:
        """Return whether a streamed sample has all members that it needs, each with its crc32."""
        crcs = {member.name: member.crc32 for member in self.data.catalogue.members(item)}
        for name in names:
            # An optional member that the catalogue lacks too was never packed.
            if name not in crcs and is_optional(name):
                continue
            if name not in sample or zlib.crc32(sample[name]) != crcs.get(name):
                return False
        return True


def pass_of_rank(
    data: Data,
    inputs: Sequence[InputSpec],
    chunk: int,
    rank: int,
    owned_W: tuple[int, ...],
    cached_items: CachedItems | None = None,
) -> CataloguePass:
    """Return the pass over the rank's share of `ranked_items`, of which rank r takes owned_W[r].

    Every rank gets the same number of chunks, because encoding a chunk is collective under ZeRO-3.
    """
    start = sum(owned_W[:rank])
    items = ranked_items(data)[start : start + owned_W[rank]]
    # Computed from the largest share, not from this rank's own: all ranks get the same number.
    num_chunks = max(1, -(-max(owned_W) // chunk))
    return CataloguePass(data, inputs, items, num_chunks, cached_items)


def stream_catalogue(
    catalogue: CataloguePass, num_workers: int, pin_memory: bool
) -> Iterator[Chunk]:
    """Yield all chunks of the pass, in any order; a worker that dies is replaced.

    Raises:
        RuntimeError: workers die again and again, or a chunk cannot be read.
    """
    # More workers than chunks would have nothing to do.
    num_workers = min(num_workers, catalogue.num_chunks)
    deaths = 0
    largest = -(-len(catalogue.items) // catalogue.num_chunks)
    needed = host_bytes(
        item_bytes(catalogue.inputs), 0, num_workers, len(catalogue.items), largest, pin_memory
    )
    check_shared_memory(needed.chunks, ranks=1)
    # Cleared here and not at the end: a caller may abandon a pass and start another one.
    catalogue.delivered.clear()
    while True:
        try:
            for chunk in workers_output(
                catalogue, None, num_workers, pin_memory, prefetch_factor=PREFETCHED_CHUNKS
            ):
                # The next pass forks new workers, which see this set of the main process.
                catalogue.delivered.add(chunk.number)
                deaths = 0
                yield chunk
            return
        except WorkerDiedError as error:
            deaths += 1
            log_replacement(catalogue.data.clock, "in the catalogue pass", deaths, error)
