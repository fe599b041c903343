"""Sequence shards: users' whole sequences in blocks of npy members."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format import SEQUENCE_MEMBERS, FileInfo, npy_bytes, sequence_shard
from shards_tools.pack.output import Output
from shards_tools.pack.tar import TarWriter
from shards_tools.raw.split import Sequences

USERS_PER_SAMPLE = 8192
"""About 0.3 MB with MicroLens' lengths."""


def write_sequences(sequences: Sequences, users_per_shard: int, output: Output) -> list[FileInfo]:
    """Writes the sequence shards; items are ids of the catalogue."""
    files = []
    num_users = len(sequences.users)
    for shard, first in enumerate(range(0, num_users, users_per_shard)):
        staged = output.staging / "sequences.tar"
        with TarWriter(staged) as tar:
            for start, members in _samples(
                sequences, first, min(first + users_per_shard, num_users)
            ):
                tar.write_sample(f"{start:09d}", members)
        output.publish(staged, sequence_shard(shard))
        files.append(FileInfo(sequence_shard(shard), tar.size, tar.sha256))
    return files


def _samples(sequences: Sequences, first: int, last: int) -> Iterator[tuple[int, dict[str, bytes]]]:
    for start in range(first, last, USERS_PER_SAMPLE):
        end = min(start + USERS_PER_SAMPLE, last)
        offsets = sequences.offsets[start : end + 1]
        run = slice(offsets[0], offsets[-1])
        arrays = {
            "users": sequences.users[start:end],
            "offsets": offsets - offsets[0],
            "items": sequences.items[run],
        }
        if sequences.times is not None:
            arrays["times"] = sequences.times[run]
        if sequences.raw_users is not None:
            arrays |= _encoded(sequences.raw_users.slice(start, end - start))
        ordered = (name for name in SEQUENCE_MEMBERS if name in arrays)
        yield (
            start,
            {
                f"{name}.npy": npy_bytes(arrays[name].astype(SEQUENCE_MEMBERS[name]))
                for name in ordered
            },
        )


def _encoded(raw_users: pa.LargeStringArray) -> dict[str, np.ndarray]:
    """Return users' ids as the members that hold them: their bytes and where each begins."""
    lengths = pc.binary_length(raw_users).to_numpy()
    joined = "".join(raw_users.to_pylist()).encode()
    return {
        "raw_users": np.frombuffer(joined, np.uint8),
        "raw_user_offsets": np.concatenate([[0], np.cumsum(lengths)]),
    }
