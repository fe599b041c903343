"""State of the pretended device: its generator, pinned memory, and what meta stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class DeviceGenerator:
    """The state of the device's random generator."""

    def __init__(self) -> None:
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Seed it otherwise than the CPU's generator, so that a mix-up shows."""
        self.state = torch.Generator().manual_seed(seed ^ 0x5EED).get_state()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let the CPU's operations draw from this generator."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.state)
        yield
        self.state = torch.get_rng_state()
        torch.set_rng_state(before)


class PinnedMemory:
    """Memory that counts as pinned: storages of tensors, and ranges of addresses.

    Its methods with long names are those of the CUDA runtime.
    """

    def __init__(self) -> None:
        # the tensors are held, so that no other memory gets the same address
        self._tensors: dict[int, torch.Tensor] = {}
        self._sizes: dict[int, int] = {}

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Pin the storage of a tensor, and return the tensor."""
        self._tensors[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def has(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor lies in pinned memory."""
        if tensor.is_sparse:
            return False
        if tensor.untyped_storage().data_ptr() in self._tensors:
            return True
        place = tensor.data_ptr()
        return any(start <= place < start + size for start, size in self._sizes.items())

    def cudaHostRegister(self, start: int, size: int, flags: int) -> int:  # noqa: N802
        """Pin a range of addresses."""
        del flags
        self._sizes[start] = size
        return 0

    def cudaHostUnregister(self, start: int) -> int:  # noqa: N802
        """Release a range of addresses."""
        del self._sizes[start]
        return 0

    def clear(self) -> None:
        """Forget the storages."""
        self._tensors.clear()


class MetaRequests:
    """How requests for the meta device are understood."""

    is_meant = False
    """Whether the meta device itself is meant, and not a pretended one."""


GENERATOR = DeviceGenerator()
META = MetaRequests()
PINNED = PinnedMemory()
