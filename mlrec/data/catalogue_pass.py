"""The catalogue pass: stream all media once, split over ranks by position."""

from __future__ import annotations

import itertools
import logging
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import torch
import webdataset as wds
from torch.utils.data import IterableDataset, get_worker_info

from mlrec import storage
from mlrec.data.cached_items import CachedItems, decode_partly_cached, partial_inputs
from mlrec.data.decode import check_inputs, item_bytes, members_of
from mlrec.data.format import item_key
from mlrec.data.samples import OPTIONAL, Sample, stored
from mlrec.data.schema import InputSpec
from mlrec.data.shared_buffers import check_shared_memory
from mlrec.data.stream import Data, WorkerDiedError, log_replacement, workers_output
from mlrec.runtime.distributed import shares
from mlrec.runtime.redact import scrub
from mlrec.runtime.urls import scheme_of

PREFETCHED_CHUNKS = 2
"""Chunks that each loader worker prepares ahead."""

log = logging.getLogger(__name__)


@dataclass
class Chunk:
    """Neighbouring items of a rank's share of the catalogue."""

    start: int
    """Position of the first one in the share."""
    media: dict[InputSpec, torch.Tensor]
    valid_n: torch.Tensor
    """bool: the items that could be read; the others' media are zeros."""
    bad_items: dict[int, str]
    """Items that could not be read, with the reason."""
    remote_bytes: int
    """That the loader's process asked of the network since its last chunk."""
    cached_n: torch.Tensor
    """Items whose activations are cached, bool. `media` has no rows of them for an input of
    CachedItems."""
    number: int
    """Of the chunk in the pass, from 0."""

    def pin_memory(self) -> Chunk:
        """Copy the chunk's media to page-locked memory; torch's DataLoader calls this."""
        return replace(
            self, media={spec: tensor.pin_memory() for spec, tensor in self.media.items()}
        )


def ranked_items(data: Data) -> np.ndarray:
    """Return the ids of the items that ranking considers, ascending: all that were packed."""
    return np.flatnonzero(data.catalogue.ok_N1)


class CataloguePass(IterableDataset[Chunk]):
    """A run of items in chunks of nearly equal size."""

    def __init__(
        self,
        data: Data,
        inputs: Sequence[InputSpec],
        items: np.ndarray,
        num_chunks: int,
        cached_items: CachedItems | None = None,
    ) -> None:
        """
        Args:
            items: ids, ascending.
            cached_items: the items whose activations the item tower has cached; None without a
                cache. The tower caches no more items during the pass.
        """
        check_inputs(inputs, data.info.media, data.url)
        self.data, self.inputs = data, tuple(dict.fromkeys(inputs))
        skipped = cached_items.inputs if cached_items else frozenset()
        self.partial_inputs = partial_inputs(self.inputs, skipped)
        self.items, self.num_chunks = items, num_chunks
        self.cached_n = (
            cached_items.cached_N1[items] if cached_items else np.zeros(len(items), dtype=bool)
        )
        self.delivered: set[int] = set()
        """Numbers of the chunks that a pass whose worker died need not make again."""

    def __iter__(self) -> Iterator[Chunk]:
        worker = get_worker_info()
        index, count = (worker.id, worker.num_workers) if worker else (0, 1)
        starts = np.cumsum((0, *shares(len(self.items), self.num_chunks)))
        chunks = shares(self.num_chunks, count)
        first = sum(chunks[:index])
        own = [
            number for number in range(first, first + chunks[index]) if number not in self.delivered
        ]
        places = np.concatenate(
            [np.arange(0), *(np.arange(starts[number], starts[number + 1]) for number in own)]
        )
        items, cached = self.items[places], self.cached_n[places]
        # cached items have a stream of their own, of the inputs that are still read: often none
        uncached_samples = self._samples(items[~cached], self.partial_inputs.all)
        cached_samples = self._samples(items[cached], self.partial_inputs.of_cached)
        timed = self.data.clock.timed
        for number in own:
            cached_n = self.cached_n[starts[number] : starts[number + 1]]
            decoded = decode_partly_cached(
                timed(itertools.islice(uncached_samples, int((~cached_n).sum()))),
                timed(itertools.islice(cached_samples, int(cached_n.sum()))),
                cached_n,
                self.partial_inputs,
                self.data.info.media,
            )
            yield Chunk(
                int(starts[number]),
                *decoded,
                remote_bytes=self.data.store.take_remote_bytes(),
                cached_n=torch.from_numpy(cached_n),
                number=number,
            )

    def _samples(self, items: np.ndarray, inputs: Sequence[InputSpec]) -> Iterator[Sample]:
        """Yield the items' samples in order, each compared with the catalogue.

        If the stream of a shard delivers damaged members or ends early, the store reads the items
        again, one by one. It gives the reason for an item that cannot be read.
        """
        store, names = self.data.store, members_of(inputs, self.data.info.media)
        in_shards = stored(names)
        if not in_shards:
            for item in items.tolist():
                yield Sample(item, store.with_title(item, {}, names))
            return
        shards = self.data.catalogue.shard_N1[items]
        for shard in np.unique(shards).tolist():
            stream = _stream_shard(store.shard_url(store.shards[shard]))
            for item in items[shards == shard].tolist():
                sample = _next_sample(stream, item_key(item))
                crcs = {member.name: member.crc32 for member in self.data.catalogue.members(item)}
                wanted = [name for name in in_shards if name in crcs or name not in OPTIONAL]
                if all(
                    name in sample and zlib.crc32(sample[name]) == crcs.get(name) for name in wanted
                ):
                    yield Sample(item, store.with_title(item, sample, names))
                else:
                    yield Sample(item, store.try_read(item, names))


def _next_sample(stream: Iterator[tuple[str, dict[str, bytes]]], key: str) -> dict[str, bytes]:
    """Return the next sample of a stream with this key, {} if the stream ends before."""
    for sample_key, sample in stream:
        if sample_key == key:
            return sample
    return {}


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
    num_chunks = max(1, -(-max(owned_W) // chunk))
    return CataloguePass(data, inputs, items, num_chunks, cached_items)


def shared_bytes_of_chunks(
    inputs: Sequence[InputSpec], items: int, chunk: int, num_workers: int
) -> int:
    """Return the bytes of shared memory for a rank's chunks: those prefetched, and one in use."""
    in_flight = min(items, (num_workers * PREFETCHED_CHUNKS + 1) * chunk)
    return in_flight * item_bytes(inputs) if num_workers else 0


def stream_catalogue(
    catalogue: CataloguePass, num_workers: int, pin_memory: bool
) -> Iterator[Chunk]:
    """Yield all chunks of the pass, in any order; a worker that dies is replaced.

    Raises:
        RuntimeError: workers die again and again, or a chunk cannot be read.
    """
    num_workers, deaths = min(num_workers, catalogue.num_chunks), 0
    largest = -(-len(catalogue.items) // catalogue.num_chunks)
    check_shared_memory(
        shared_bytes_of_chunks(catalogue.inputs, len(catalogue.items), largest, num_workers),
        ranks=1,
    )
    catalogue.delivered.clear()
    while True:
        try:
            for chunk in workers_output(
                catalogue, None, num_workers, pin_memory, prefetch_factor=PREFETCHED_CHUNKS
            ):
                catalogue.delivered.add(chunk.number)
                deaths = 0
                yield chunk
            return
        except WorkerDiedError as error:
            deaths += 1
            log_replacement(catalogue.data.clock, "in the catalogue pass", deaths, error)


def _stream_shard(url: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, sample) of a shard up to its end, or until it cannot be read further."""
    wds.gopen_schemes[scheme_of(url)] = _open
    # Every rank and worker already reads its own run of positions, so webdataset must not split it.
    stream = wds.WebDataset(
        [url],
        shardshuffle=False,
        nodesplitter=_all,
        workersplitter=_all,
        handler=wds.reraise_exception,
    )
    try:
        for sample in stream:
            yield sample["__key__"].rsplit("/", 1)[-1], sample
    except (tarfile.TarError, EOFError, OSError, RuntimeError, ValueError) as error:
        log.warning("%s ends early: %s", scrub(url), scrub(str(error)))


def _open(url: str, mode: str = "rb", bufsize: int = 8192, **options: Any) -> IO[bytes]:
    return storage.open_stream(url)


def _all(urls: Iterator[Any]) -> Iterator[Any]:
    return urls
