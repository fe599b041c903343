"""Streams of whole item shards, front to back, through webdataset."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator
from typing import IO, Any

import webdataset as wds

from mlrec import storage
from mlrec.runtime.redact import scrub
from mlrec.runtime.urls import scheme_of

log = logging.getLogger(__name__)


def stream_shard(url: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, sample) of a shard up to its end, or until it cannot be read further."""
    # webdataset would open an s3 or http URL with a command-line tool, without retries. mlrec's
    # storage layer opens it instead.
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
        # No error for the caller: the store reads the remaining items one by one.
        log.warning("%s ends early: %s", scrub(url), scrub(str(error)))


def _open(url: str, mode: str = "rb", bufsize: int = 8192, **options: Any) -> IO[bytes]:
    return storage.open_stream(url)


def _all(urls: Iterator[Any]) -> Iterator[Any]:
    return urls


def next_sample(stream: Iterator[tuple[str, dict[str, bytes]]], key: str) -> dict[str, bytes]:
    """Return the next sample of a stream with this key, {} if the stream ends before."""
    # Skips samples of items that are not wanted here: cached ones, or of another worker's chunks.
    for sample_key, sample in stream:
        if sample_key == key:
            return sample
    return {}
