"""Sequence shards: users' whole sequences in blocks of npy members."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.format import SEQUENCE_MEMBERS, FileInfo, npy_bytes, sequence_shard
from shards_tools.pack.output import Output
from shards_tools.pack.tar import TarWriter
from shards_tools.raw.split import Sequences

USERS_PER_SAMPLE = 8192
"""Users of a block, which has about 0.3 MB with MicroLens' lengths."""


def write_sequences(sequences: Sequences, users_per_shard: int, output: Output) -> list[FileInfo]:
    """Write the sequence shards, and return them.

    Args:
        sequences: All users' runs, whose items are catalogue ids.
    """
    files = []
    num_users = len(sequences.users)
    for shard, first in enumerate(range(0, num_users, users_per_shard)):
        last = min(first + users_per_shard, num_users)
        # one name for all: each shard is published before the next one is written
        staged = output.staging / "sequences.tar"
        with TarWriter(staged) as tar:
            for start in range(first, last, USERS_PER_SAMPLE):
                end = min(start + USERS_PER_SAMPLE, last)
                tar.write_sample(f"{start:09d}", _block_members(sequences, start, end))
        path = sequence_shard(shard)
        output.publish(staged, path)
        files.append(FileInfo(path, tar.size, tar.sha256))
    return files


def _block_members(sequences: Sequences, start: int, end: int) -> dict[str, bytes]:
    """Return the members of the block of users `start` to `end` - 1."""
    arrays = _block_arrays(sequences, start, end)
    members = {}
    # In the order of SEQUENCE_MEMBERS, which the packed bytes depend on.
    for name, dtype in SEQUENCE_MEMBERS.items():
        if name in arrays:
            members[f"{name}.npy"] = npy_bytes(arrays[name].astype(dtype))
    return members


def _block_arrays(sequences: Sequences, start: int, end: int) -> dict[str, np.ndarray]:
    offsets = sequences.offsets[start : end + 1]
    run = slice(offsets[0], offsets[-1])
    arrays = {
        "users": sequences.users[start:end],
        # a block can be read by itself: its offsets start at 0
        "offsets": offsets - offsets[0],
        "items": sequences.items[run],
    }
    if sequences.times is not None:
        arrays["times"] = sequences.times[run]
    if sequences.raw_users is not None:
        arrays |= _encode_ids(sequences.raw_users.slice(start, end - start))
    return arrays


def _encode_ids(raw_users: pa.LargeStringArray) -> dict[str, np.ndarray]:
    """Return the members that hold users' ids: their joined bytes, and where each begins."""
    joined = "".join(raw_users.to_pylist()).encode()
    lengths = pc.binary_length(raw_users).to_numpy()
    return {
        "raw_users": np.frombuffer(joined, np.uint8),
        "raw_user_offsets": np.concatenate([[0], np.cumsum(lengths)]),
    }
