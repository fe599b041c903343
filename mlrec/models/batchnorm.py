"""Batch normalisation in a tower that runs in chunks, with activation checkpointing, on several ranks and in bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from mlrec.config.encoder_options import Tuning
from mlrec.models.encoders.base import Encoder


class BatchNorm(_BatchNorm):
    """Batch normalisation of any number of dimensions; in training over the chunks of all ranks.

    So all ranks keep the same running statistics. In a bf16 run these stay in fp32, as DeepSpeed leaves them; torch's own module
    refuses parameters in bf16 beside them. Parameters and statistics are those of the module in whose place it is.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        for name, value in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(self, name, value)
        self.repeats = False
        """Whether a forward is repeated, for activation checkpointing: it does not count again in the running statistics."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        mean, variance = self.running_mean, self.running_var
        if mean is None or variance is None:
            raise ValueError(
                "a batch normalisation without running statistics cannot encode a catalogue: choose another encoder"
            )
        weight = None if self.weight is None else self.weight.to(mean.dtype)
        bias = None if self.bias is None else self.bias.to(mean.dtype)
        if not self.training:
            return functional.batch_norm(values, mean, variance, weight, bias, False, 0.0, self.eps)
        momentum = 0.0 if self.repeats else self.momentum or 0.1
        if not self.repeats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if not (
            distributed.is_available()
            and distributed.is_initialized()
            and distributed.get_world_size() > 1
        ):
            return functional.batch_norm(
                values, mean, variance, weight, bias, True, momentum, self.eps
            )
        found_mean, found_variance, count = _moments(values)
        if not self.repeats:
            with torch.no_grad():
                mean.lerp_(found_mean.to(mean.dtype), momentum)
                variance.lerp_(
                    (found_variance * (count / (count - 1).clamp(min=1))).to(mean.dtype), momentum
                )
        scale = (found_variance + self.eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -found_mean * scale if bias is None else bias - found_mean * scale
        shape = (1, -1, *(1,) * (values.ndim - 2))
        normal: torch.Tensor = (values.float() * scale.view(shape) + shift.view(shape)).to(
            values.dtype
        )
        return normal


class _SumOfRanks(torch.autograd.Function):
    """The sum of all ranks' tensors; as every rank's loss depends on it, its gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and variance [C] of all ranks' values [n, C, ...], and their number."""
    exact = values.float()
    dims = [0, *range(2, values.ndim)]
    number = exact.new_tensor([values.numel() / values.shape[1]])
    sums = torch.cat([exact.sum(dims), exact.square().sum(dims), number])
    total: torch.Tensor = _SumOfRanks.apply(sums)  # type: ignore[no-untyped-call]
    count = total[-1].detach()
    mean, square = (total[:-1] / count).chunk(2)
    return mean, (square - mean.square()).clamp(min=0), count


def prepare_batch_norms(encoder: Encoder, name: str, tuning: Tuning, frozen: bool) -> None:
    """Puts BatchNorm in the place of the encoder's own.

    Frozen ones keep the statistics, scales and shifts of the checkpoint: a vector depends on its own item alone, and neither on
    the chunk nor on the number of ranks.

    Raises:
        ValueError: they are frozen, but there are no statistics to keep.
    """
    places = [
        (parent, child, norm)
        for parent in list(encoder.modules())
        for child, norm in list(parent.named_children())
        if isinstance(norm, _BatchNorm)
    ]
    if places and frozen and tuning == "scratch":
        raise ValueError(
            f"{name} has batch normalisation and item.tuning is 'scratch': with item.batchnorm=frozen it would keep the "
            "statistics of no data; set item.batchnorm=sync"
        )
    for parent, child, norm in places:
        if frozen:
            norm.requires_grad_(False)
        setattr(parent, child, BatchNorm(norm))


def still_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost parts of `module` that have parameters of which none is trained."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from still_parts(child)


@contextmanager
def repeated(module: nn.Module) -> Iterator[None]:
    """Within it, batch normalisations work as they do but leave their running statistics as they are."""
    norms = [child for child in module.modules() if isinstance(child, BatchNorm)]
    for norm in norms:
        norm.repeats = True
    try:
        yield
    finally:
        for norm in norms:
            norm.repeats = False
