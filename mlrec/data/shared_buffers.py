"""Memory that a loader worker builds batches in: shared with the training process, and used again."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable

import torch

SHARED_FOLDER = "/dev/shm"

ROOM = 1.2
"""How much more is taken than a batch needs, so that the next, a little larger one finds room too."""


BATCHES_PER_WORKER = 2


def shared_bytes_of_steps(item_bytes: int, most_items: int, num_workers: int) -> int:
    """Return the shared memory that the batches of a rank take."""
    return int(num_workers * BATCHES_PER_WORKER * ROOM * most_items * item_bytes)


def check_shared_memory(rank_bytes: int, ranks: int) -> None:
    """Compare what the loader workers of this machine's ranks will share with the room for it.

    The kernel kills a worker that writes where there is no room.

    Raises:
        RuntimeError: it does not fit.
    """
    if not os.path.isdir(SHARED_FOLDER):
        return
    room = os.statvfs(SHARED_FOLDER)
    free = room.f_bavail * room.f_frsize
    if ranks * rank_bytes > free:
        raise RuntimeError(
            f"loader workers share batches of up to {ranks * rank_bytes / 1e6:,.0f} MB in {SHARED_FOLDER} ({ranks} ranks), which "
            f"has {free / 1e6:,.0f} MB left. Make it larger (docker run --shm-size=8g), or lower data.num_workers, item.chunk "
            "or train.global_batch"
        )


class BatchMemory:
    """Tensors of two batches in turn: the one that the training process is at, and the one that is being built.

    A tensor that a worker sends is otherwise copied into shared memory that is new each time, and the kernel clears such memory
    page by page: for 224 x 224 frames that took as long as decoding them.
    """

    def __init__(self) -> None:
        self._held: tuple[dict[Hashable, torch.UntypedStorage], ...] = ({}, {})
        self._turn = 0

    def next_batch(self) -> BatchMemory:
        """This, after which `tensor` hands out the memory of the batch before the last one."""
        self._turn = 1 - self._turn
        return self

    def tensor(self, key: Hashable, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor whose content is left over from an earlier batch; `key` tells a batch's tensors apart."""
        size = math.prod(shape) * dtype.itemsize
        held = self._held[self._turn]
        if key not in held or held[key].nbytes() < size:
            held[key] = torch.UntypedStorage._new_shared(
                dtype.itemsize * int(1 + ROOM * math.prod(shape))
            )  # type: ignore[no-untyped-call]
        return torch.empty(0, dtype=dtype).set_(held[key])[: math.prod(shape)].view(shape)
