"""Memory in which batches are built, used again for later batches."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Hashable

import numpy as np
import torch

SHARED_FOLDER = "/dev/shm"

ROOM = 1.2
"""Factor of memory allocated above the need of a batch, so that a slightly larger one fits too."""


BATCHES_PER_WORKER = 2
"""Batches in memory per worker: one in training, one being built."""


def shared_bytes_of_steps(item_bytes: int, most_items: int, num_workers: int) -> int:
    """Return the shared memory that the batches of a rank take."""
    return int(num_workers * BATCHES_PER_WORKER * ROOM * most_items * item_bytes)


def check_shared_memory(rank_bytes: int, ranks: int) -> None:
    """Check that the shared memory of this machine has room for its ranks' loader workers.

    The kernel kills a worker that writes where there is no room.

    Raises:
        RuntimeError: it does not fit.
    """
    # Other systems than Linux have no such folder, and another limit.
    if not os.path.isdir(SHARED_FOLDER):
        return
    room = os.statvfs(SHARED_FOLDER)
    free = room.f_bavail * room.f_frsize
    if ranks * rank_bytes > free:
        raise RuntimeError(
            f"loader workers share batches of up to {ranks * rank_bytes / 1e6:,.0f} MB in "
            f"{SHARED_FOLDER} ({ranks} ranks), which has {free / 1e6:,.0f} MB left. Make it larger "
            "(docker run --shm-size=8g), or lower data.num_workers, item.chunk or "
            "train.global_batch"
        )


class BatchMemory:
    """Memory of two batches in turn: one in use by the training process, one being built.

    Without it, torch copies each tensor that a worker sends into new shared memory. The kernel
    clears new memory page by page, which took as long as decoding 224 x 224 frames.
    """

    def __init__(self) -> None:
        # Never freed: the storages live as long as the worker, which is a whole run.
        self._held: tuple[dict[Hashable, torch.UntypedStorage], ...] = ({}, {})
        self._turn = 0

    def next_batch(self) -> BatchMemory:
        """Switch to the memory of the batch before the last one, and return this object."""
        self._turn = 1 - self._turn
        return self

    def tensor(self, key: Hashable, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor with arbitrary content.

        Args:
            key: what distinguishes the tensors of a batch.
        """
        num_values = math.prod(shape)
        held = self._held[self._turn]
        if key not in held or held[key].nbytes() < num_values * dtype.itemsize:
            # The number of items varies from step to step. With some room to spare, a slightly
            # larger batch needs no new memory, which the kernel would clear. torch has no public
            # function for it: Tensor.share_memory_ allocates twice and copies.
            num_bytes = dtype.itemsize * int(1 + ROOM * num_values)
            held[key] = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
        # A tensor of the whole storage, then its first values. A worker sends the whole storage by
        # its handle, not by copy.
        return torch.empty(0, dtype=dtype).set_(held[key])[:num_values].view(shape)


class ReleasedMemory:
    """Memory of batches that nobody holds any more, for a process without loader workers.

    The kernel clears new memory page by page, which takes half as long as decoding small frames.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, list[np.ndarray]] = {}
        """Up to BATCHES_PER_WORKER arrays of bytes by key, in use or not."""

    def tensor(self, key: Hashable, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor with arbitrary content, whose memory no other tensor uses.

        Args:
            key: what distinguishes the tensors of a batch.
        """
        num_bytes = math.prod(shape) * dtype.itemsize
        memory = self._take(key, num_bytes)
        # The tensor and all its views hold a reference to `memory`.
        return torch.from_numpy(memory)[:num_bytes].view(dtype).view(shape)

    def _take(self, key: Hashable, num_bytes: int) -> np.ndarray:
        """Return an array that is not in use, of at least `num_bytes`."""
        arrays = self._held.setdefault(key, [])
        for index in range(len(arrays)):
            # Two references are the list's and that of the call itself.
            is_free = sys.getrefcount(arrays[index]) == 2
            if is_free and len(arrays[index]) >= num_bytes:
                return arrays[index]
        # A dropped array lives on in its batch. A caller that keeps all batches holds no others.
        if len(arrays) == BATCHES_PER_WORKER:
            del arrays[0]
        # The number of items varies from step to step, so a slightly larger batch should fit too.
        arrays.append(np.empty(1 + int(ROOM * num_bytes), dtype=np.uint8))
        return arrays[-1]
