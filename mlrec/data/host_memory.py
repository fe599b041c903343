"""Host memory that the loader of a rank takes: for training steps and for evaluation chunks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from mlrec.data.decode import item_bytes
from mlrec.data.media_region import steps_in_memory
from mlrec.data.schema import InputSpec
from mlrec.runtime.hardware import free_host_bytes
from mlrec.runtime.printable import counted
from mlrec.runtime.units import megabytes_or_gigabytes

SHARED_FOLDER = "/dev/shm"

PREFETCHED_CHUNKS = 2
"""Evaluation chunks that each loader worker prepares: one in the making, one ready to encode."""


@dataclass(frozen=True)
class HostBytes:
    """Host memory of a rank's loader (bytes)."""

    steps: int
    """Steps whose media are in memory."""
    media: int
    """Media of these steps, in memory that is page-locked on a GPU."""
    chunks: int
    """Evaluation chunks in /dev/shm."""
    pinned: int
    """Page-locked copies of evaluation chunks; 0 without a GPU."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.media + self.chunks + self.pinned

    def as_json(self) -> dict[str, int]:
        """Return the parts for programs; units are in the keys."""
        return {
            "steps": self.steps,
            "media_bytes": self.media,
            "shared_memory_bytes": self.chunks,
            "pinned_bytes": self.pinned,
        }

    def in_words(self) -> str:
        """Return the parts, as a list."""
        steps = counted(self.steps, "step")
        parts = [
            f"{steps} of media {megabytes_or_gigabytes(self.media)}",
            f"evaluation {megabytes_or_gigabytes(self.chunks)} of {SHARED_FOLDER}",
        ]
        if self.pinned:
            parts.append(f"{megabytes_or_gigabytes(self.pinned)} of page-locked copies")
        return ", ".join(parts)


def host_bytes(
    item_bytes: int, most_items: int, num_workers: int, ranked_items: int, chunk: int, on_gpu: bool
) -> HostBytes:
    """Return the host memory of a rank's loader.

    media  = steps * most_items * item_bytes, with 2 steps, or 1 without workers
    chunks = min(ranked_items, (2 * num_workers + 1) * chunk) * item_bytes, or 0 without workers
    pinned = (2 * num_workers + 1) * power_of_two(min(ranked_items, chunk) * item_bytes) on a GPU

    Each worker prepares two chunks of an evaluation, and one more is being encoded. torch copies
    each of them to page-locked memory, and rounds that up to a power of two.

    Args:
        item_bytes: decoded media of an item.
        most_items: most items that the rank owns in a training step.
        ranked_items: items that the rank encodes in an evaluation.
        chunk: items of an evaluation chunk.
    """
    steps = steps_in_memory(num_workers)
    num_chunks = PREFETCHED_CHUNKS * num_workers + 1
    chunk_bytes = min(ranked_items, chunk) * item_bytes
    shared_items = min(ranked_items, num_chunks * chunk) if num_workers else 0
    return HostBytes(
        steps=steps,
        media=steps * most_items * item_bytes,
        chunks=shared_items * item_bytes,
        pinned=num_chunks * (1 << (chunk_bytes - 1).bit_length()) if on_gpu and chunk_bytes else 0,
    )


def loader_bytes(
    inputs: Sequence[InputSpec],
    most_items: int,
    num_workers: int,
    catalogue_size: int,
    ranks: int,
    chunk: int,
    on_gpu: bool,
) -> HostBytes:
    """Return the host memory of each rank's loader, in a run of `ranks` ranks."""
    ranked_items = -(-catalogue_size // ranks)
    return host_bytes(
        item_bytes(inputs), most_items, num_workers, ranked_items, chunk, on_gpu=on_gpu
    )


def check_host_memory(rank_bytes: HostBytes, ranks: int) -> None:
    """Check that this machine has room for what the loaders of its `ranks` ranks take.

    The kernel kills a process that writes where there is no room.

    Raises:
        RuntimeError: it does not fit.
    """
    check_shared_memory(rank_bytes.chunks, ranks)
    needed = ranks * rank_bytes.total
    free = free_host_bytes()
    if needed > free:
        raise RuntimeError(
            "Cannot hold the loader's batches in host memory: they take "
            f"{megabytes_or_gigabytes(needed)} for {counted(ranks, 'rank')} of this machine, and "
            f"{megabytes_or_gigabytes(free)} are free. Each rank takes: {rank_bytes.in_words()}. "
            "Lower train.global_batch, data.num_workers or item.chunk, or spread the ranks over "
            "more machines"
        )


def check_shared_memory(rank_bytes: int, ranks: int) -> None:
    """Check that /dev/shm has room for the evaluation chunks of this machine's ranks.

    Raises:
        RuntimeError: it does not have it.
    """
    # Other systems than Linux have no such folder, and another limit.
    if not os.path.isdir(SHARED_FOLDER):
        return
    room = os.statvfs(SHARED_FOLDER)
    free = room.f_bavail * room.f_frsize
    if ranks * rank_bytes > free:
        raise RuntimeError(
            f"loader workers share evaluation chunks of up to {ranks * rank_bytes / 1e6:,.0f} MB "
            f"in {SHARED_FOLDER} ({counted(ranks, 'rank')}), which has {free / 1e6:,.0f} MB left. "
            "Make it larger (docker run --shm-size=8g), or lower data.num_workers or item.chunk"
        )
