"""Build modules on the meta device, for the names and shapes of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLING = (torch.Tensor.normal_, torch.Tensor.uniform_)
"""Methods that fill a tensor with random values."""


_READ = (torch.linspace, torch.ones)
"""Functions whose values MViT reads while it is built: rates of stochastic depth, and factors of
widths. Where they make parameters or buffers, those have few values."""


class _SkipInitialization(TorchFunctionMode):
    """Mode in which initial weights are left unset.

    On the meta device a random fill imports torch._dynamo, in 1.2 CPU seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FILLING or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in _READ:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextmanager
def skeletons() -> Iterator[None]:
    """Let modules built within have weights with shapes, but without memory or values."""
    with torch.device("meta"), _SkipInitialization():
        yield
