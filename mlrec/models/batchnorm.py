"""Batch normalisation for chunks, activation checkpointing, several ranks and bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from mlrec.config.encoder_options import Tuning
from mlrec.models.encoders.base import Encoder


class _Affine(NamedTuple):
    """Copies of a frozen scale and shift in another dtype."""

    source: tuple[tuple[torch.device, int, int], ...]
    """Device, address and version of the tensors that they were copied from."""
    weight: torch.Tensor
    bias: torch.Tensor


class BatchNorm(_BatchNorm):
    """Batch normalisation of any number of dimensions, in training over all ranks' chunks.

    So all ranks have the same running statistics. In a bf16 run DeepSpeed leaves these in fp32,
    which torch's own module refuses together with bf16 parameters. Parameters and statistics are
    those of the module that it replaces.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        # the same objects, not copies: optimizers and checkpoints keep their names
        for name, value in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(self, name, value)
        self.repeats = False
        """Whether the forward is a recomputation, which must not update the statistics again."""
        self._frozen_affine: _Affine | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.running_mean is None or self.running_var is None:
            raise ValueError(
                "Cannot encode a catalogue with a batch normalisation without running statistics: "
                "a vector would depend on the other items. Choose another encoder"
            )
        weight, bias = self._affine(self.running_mean.dtype)
        # Every rank takes the same branch, for all ranks train or evaluate at the same time.
        if self.training and _over_ranks():
            return self._normalize_over_ranks(
                values, self.running_mean, self.running_var, weight, bias
            )
        if self.training:
            self._count_batch()
        return functional.batch_norm(
            values,
            self.running_mean,
            self.running_var,
            weight,
            bias,
            self.training,
            self._momentum() if self.training else 0.0,
            self.eps,
        )

    def _normalize_over_ranks(
        self,
        values: torch.Tensor,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """Normalize by the moments of all ranks' values; collective, backward as well."""
        self._count_batch()
        moments = _moments(values)
        if not self.repeats:
            # running statistics have the unbiased variance, as in torch
            unbiased = moments.variance * (moments.number / (moments.number - 1).clamp(min=1))
            with torch.no_grad():
                running_mean.lerp_(moments.mean.to(running_mean.dtype), self._momentum())
                running_var.lerp_(unbiased.to(running_var.dtype), self._momentum())
        # normalization and affine map in one multiply-add per value
        scale = (moments.variance + self.eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        shift = -moments.mean * scale if bias is None else bias - moments.mean * scale
        shape = (1, -1, *(1,) * (values.ndim - 2))
        normal = values.float() * scale.view(shape) + shift.view(shape)
        return normal.to(values.dtype)

    def _affine(self, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return scale and shift in the dtype of the statistics: fp32, also in a bf16 run."""
        weight, bias = self.weight, self.bias
        if weight is None or bias is None or weight.dtype == dtype:
            return weight, bias
        if weight.requires_grad or bias.requires_grad:
            return weight.to(dtype), bias.to(dtype)
        # Frozen ones are cast once, not in every chunk: casts were a third of a SlowFast's kernels.
        # They are cast again after weights are loaded or moved, and whenever ZeRO-3 gathers them.
        source = tuple(
            (tensor.device, tensor.data_ptr(), tensor._version) for tensor in (weight, bias)
        )
        if self._frozen_affine is None or self._frozen_affine.source != source:
            self._frozen_affine = _Affine(source, weight.to(dtype), bias.to(dtype))
        return self._frozen_affine.weight, self._frozen_affine.bias

    def _momentum(self) -> float:
        # 0 leaves the running statistics as they are
        return 0.0 if self.repeats else self.momentum or 0.1

    def _count_batch(self) -> None:
        if not self.repeats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def _over_ranks() -> bool:
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


class _SumOfRanks(torch.autograd.Function):
    """The sum of all ranks' tensors.

    Every rank's loss depends on it, so its gradient is the sum of all ranks' gradients.
    """

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        # the all-reduce is in place, and autograd may hold `values`
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        # all ranks run their backward passes over the same chunks in the same order
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


class _Moments(NamedTuple):
    """Moments of all ranks' values, per channel."""

    mean: torch.Tensor
    variance: torch.Tensor
    number: torch.Tensor
    """Number of values of a channel."""


def _moments(values: torch.Tensor) -> _Moments:
    """Return the moments [C] of all ranks' values [n, C, ...]; collective."""
    # sums of squares in bf16 would lose the variance
    exact = values.float()
    dims = [0, *range(2, values.ndim)]
    number = exact.new_tensor([values.numel() / values.shape[1]])
    # one all-reduce for both sums and the number of values
    sums = torch.cat([exact.sum(dims), exact.square().sum(dims), number])
    total: torch.Tensor = _SumOfRanks.apply(sums)  # type: ignore[no-untyped-call]
    count = total[-1].detach()
    mean, square = (total[:-1] / count).chunk(2)
    # rounding may make the difference negative
    variance = (square - mean.square()).clamp(min=0)
    return _Moments(mean, variance, count)


def prepare_batch_norms(encoder: Encoder, name: str, tuning: Tuning, frozen: bool) -> None:
    """Replace the encoder's batch normalisations by BatchNorm.

    Frozen ones keep the statistics, scales and shifts of the checkpoint. So an item's vector
    depends neither on the other items of the chunk nor on the number of ranks.

    Raises:
        ValueError: they are frozen, but there are no statistics to keep.
    """
    # all modules are listed first, for replacing one changes the list
    for parent in list(encoder.modules()):
        for child_name, child in list(parent.named_children()):
            if not isinstance(child, _BatchNorm):
                continue
            if frozen and tuning == "scratch":
                raise ValueError(
                    f"{name} has batch normalisation and item.tuning='scratch'. With "
                    "item.batchnorm=frozen it would use the statistics of no data. Set "
                    "item.batchnorm=sync"
                )
            if frozen:
                child.requires_grad_(False)
            setattr(parent, child_name, BatchNorm(child))


def frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost parts of `module` that have parameters, all of them frozen."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from frozen_parts(child)


@contextmanager
def repeated(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics as they are within the context, for a recomputation."""
    norms = [child for child in module.modules() if isinstance(child, BatchNorm)]
    for norm in norms:
        norm.repeats = True
    try:
        yield
    finally:
        for norm in norms:
            norm.repeats = False


class BatchNormStatistics:
    """Running statistics of trained batch norms, which a skipped step must leave as they were."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[torch.Tensor] = []
        self._saved: list[torch.Tensor] = []
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                self._buffers += module.buffers()

    def save(self) -> None:
        """Copy the statistics before a forward pass changes them."""
        self._saved = [buffer.clone() for buffer in self._buffers]

    def restore(self) -> None:
        """Write the copies back."""
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(saved)
