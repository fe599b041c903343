"""The catalogue pass: the whole catalogue's media streamed once, front to back, split over ranks by position."""

from __future__ import annotations

import itertools
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
import webdataset as wds
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mlrec import storage
from mlrec.data.decode import Sample, check_inputs, decode_items, members_of
from mlrec.data.format import item_key
from mlrec.data.stream import Data
from mlrec.distributed import shares
from mlrec.schema import InputSpec


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


def ranked_items(data: Data) -> np.ndarray:
    """The ids of the items that ranking considers, ascending: all that the packer could read."""
    return np.flatnonzero(data.catalogue.ok_N1)


class CataloguePass(IterableDataset[Chunk]):
    """This rank's share of the catalogue in chunks; every rank has the same number of them."""

    def __init__(self, data: Data, inputs: Sequence[InputSpec], chunk: int, rank: int, world_size: int) -> None:
        check_inputs(inputs, data.info.media, data.url)
        self.data, self.inputs = data, tuple(dict.fromkeys(inputs))
        items = ranked_items(data)
        owned_W = shares(len(items), world_size)
        start = sum(owned_W[:rank])
        self.items = items[start : start + owned_W[rank]]
        self.num_chunks = max(1, -(-max(owned_W) // chunk))

    def __iter__(self) -> Iterator[Chunk]:
        worker = get_worker_info()
        index, count = (worker.id, worker.num_workers) if worker else (0, 1)
        sizes = shares(len(self.items), self.num_chunks)
        chunks = shares(self.num_chunks, count)
        first = sum(chunks[:index])
        position = sum(sizes[:first])
        own = sizes[first : first + chunks[index]]
        samples = self._samples(self.items[position : position + sum(own)])
        for size in own:
            yield Chunk(position, *decode_items(itertools.islice(samples, size), size, self.inputs, self.data.info.media))
            position += size

    def _samples(self, items: np.ndarray) -> Iterator[Sample]:
        """The items' samples in order, compared with the index: a stream that ends early is an error, not fewer items."""
        names = members_of(self.inputs, self.data.info.media)
        if not names or not len(items):
            yield from ((item, {}) for item in items.tolist())
            return
        shards = sorted(set(self.data.catalogue.shard_N1[items].tolist()))
        paths = [self.data.store.shards[shard].path for shard in shards]
        stream = iter(_open_webdataset([storage.join(self.data.url, path) for path in paths]))
        for item in items.tolist():
            try:
                sample = next((found for found in stream if found["__key__"].rsplit("/", 1)[-1] == item_key(item)), None)
            except (tarfile.TarError, EOFError) as error:
                raise RuntimeError(f"{self.data.url}: {', '.join(paths)} cannot be read up to item {item}: {error}") from error
            if sample is None:
                raise RuntimeError(f"{self.data.url}: item {item} is in the catalogue, but {', '.join(paths)} end before it")
            crcs = {member.name: member.crc32 for member in self.data.catalogue.members(item)}
            if all(name in sample and zlib.crc32(sample[name]) == crcs.get(name) for name in names):
                yield item, sample
            else:  # damaged on the way, or where it lies: the store reads it again and knows the reason
                yield item, self.data.store.try_read(item, names)


def stream_catalogue(catalogue: CataloguePass, num_workers: int) -> Iterator[Chunk]:
    """All chunks of the rank's share, in any order."""
    return iter(DataLoader(catalogue, batch_size=None, num_workers=min(num_workers, catalogue.num_chunks)))


def _open_webdataset(urls: list[str]) -> Any:
    for scheme in {storage.scheme_of(url) for url in urls} - {"file"}:
        wds.gopen_schemes[scheme] = _open
    # every rank and worker reads the shards of its own run of positions: nothing for webdataset to split
    return wds.WebDataset(urls, shardshuffle=False, nodesplitter=_all, workersplitter=_all, handler=wds.reraise_exception)


def _open(url: str, mode: str = "rb", bufsize: int = 8192, **options: Any) -> IO[bytes]:
    return storage.open_stream(url)


def _all(urls: Iterator[Any]) -> Iterator[Any]:
    return urls
