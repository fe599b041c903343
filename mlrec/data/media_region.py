"""Memory of a rank's decoded media, which its loader workers and the training process share."""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
from collections.abc import Sequence

import torch

from mlrec.data.decode import item_shape
from mlrec.data.schema import InputSpec
from mlrec.runtime.units import rounded_size

STEPS_IN_MEMORY = 2
"""Steps in memory with loader workers: one in training, one being decoded."""

_ALIGNMENT = 64
"""Multiple of bytes at which a tensor starts."""

log = logging.getLogger(__name__)


def steps_in_memory(num_workers: int) -> int:
    """Return the number of steps whose media a rank holds."""
    # Without workers the training process decodes a step after it has trained on the last one.
    return STEPS_IN_MEMORY if num_workers else 1


class MediaRegion:
    """Memory of the media of one or two steps of a rank.

    Invariant: row i of an input's tensor is about the i-th item that the rank owns in the step.

    The memory is shared by the processes that are forked later, and it is not part of /dev/shm.
    """

    def __init__(self, inputs: Sequence[InputSpec], most_items: int, num_steps: int) -> None:
        """Reserve memory, which is taken when it is first written.

        Args:
            most_items: items that a step has room for.
            num_steps: steps in memory; step s + num_steps overwrites step s.
        """
        self.most_items = most_items
        self._inputs = tuple(inputs)
        self._num_steps = num_steps
        self._step_bytes = 0
        for spec in self._inputs:
            self._step_bytes += self._room_of(spec)
        # An anonymous map stays shared after a fork. An empty one is not possible.
        self._map = mmap.mmap(-1, max(1, num_steps * self._step_bytes))
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        self._is_page_locked = False

    def media(self, step: int, rows: slice) -> dict[InputSpec, torch.Tensor]:
        """Return the step's media of these items as views of the memory."""
        tensors = {}
        start = step % self._num_steps * self._step_bytes
        for spec in self._inputs:
            shape, dtype = item_shape(spec)
            num_bytes = self.most_items * math.prod(shape) * dtype.itemsize
            whole = self._bytes[start : start + num_bytes].view(dtype)
            tensors[spec] = whole.view(self.most_items, *shape)[rows]
            start += self._room_of(spec)
        return tensors

    def _room_of(self, spec: InputSpec) -> int:
        """Return the bytes of an input of a step, up to where the next input starts."""
        shape, dtype = item_shape(spec)
        num_bytes = self.most_items * math.prod(shape) * dtype.itemsize
        return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT

    def lock_pages(self) -> None:
        """Lock the pages in memory, so that a GPU copies from them without blocking the host.

        Without it the driver copies through a buffer of its own, and training is only slower.
        """
        try:
            _check_cuda("cudaHostRegister", self._bytes.data_ptr(), self._bytes.nbytes, 0)
        except RuntimeError as error:
            log.warning(
                "cannot lock %s of media in memory (%s); copies to the GPU will block the host",
                rounded_size(self._bytes.nbytes),
                error,
            )
            _clear_cuda_error()
        else:
            self._is_page_locked = True

    def unlock_pages(self) -> None:
        """Undo lock_pages, before the memory is released."""
        if self._is_page_locked:
            _check_cuda("cudaHostUnregister", self._bytes.data_ptr())
            self._is_page_locked = False

    def discard(self) -> None:
        """Give the memory back at once; media that are still held read as zeros."""
        self.unlock_pages()
        # Elsewhere than on Linux the memory is released with the last tensor.
        if hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE)


def _check_cuda(name: str, *arguments: int) -> None:
    """Call a function of the CUDA runtime.

    Raises:
        RuntimeError: it failed.
    """
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(getattr(runtime, name)(*arguments))


def _clear_cuda_error() -> None:
    """Take up the error of a failed call, which the next kernel launch would report once more."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device="cuda")
