"""Softmax cross-entropy of products of states and items, without the matrix of all scores.

Scores are computed for some positions at a time, and turned into their gradient at once. So memory
holds a part of them, each is computed once, and on a CPU a part stays in the cache. The idea is
that of Liger Kernel's fused linear cross-entropy (Hsu et al., 2024).

Shape letters: P positions, U items, X width of what is scored, T slots of a user's sequence,
c positions of a part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from mlrec.runtime.flops import ELEMENTWISE_VALUES


class SoftmaxTerms(NamedTuple):
    """What a softmax adds to scores, and which items it leaves out."""

    of_negatives_U: torch.Tensor
    """Term of an item as a negative, float32; minus infinity for no candidate."""
    of_targets_U: torch.Tensor
    """Term of an item as the target, float32."""
    masks_own: bool
    """Whether the user's own items are left out of the negatives."""


def sum_of_cross_entropies(
    states_PX: torch.Tensor,
    items_UX: torch.Tensor,
    target_P: torch.Tensor,
    own_PT: torch.Tensor,
    terms: SoftmaxTerms,
    temperature: float,
) -> torch.Tensor:
    """Return the sum over the positions of the cross-entropy of the target, float32.

    Args:
        target_P: rows of the targets, int64.
        own_PT: rows of the user's own items, int64; -1 for padding.
        temperature: divides the scores, not the terms.
    """
    total: torch.Tensor = _ProductSoftmax.apply(  # type: ignore[no-untyped-call]
        states_PX, items_UX, target_P, own_PT, terms, 1 / temperature
    )
    return total


class _ProductSoftmax(torch.autograd.Function):
    """The forward pass computes the gradients too; the backward pass multiplies them."""

    @staticmethod
    def forward(
        ctx: Any,
        states_PX: torch.Tensor,
        items_UX: torch.Tensor,
        target_P: torch.Tensor,
        own_PT: torch.Tensor,
        terms: SoftmaxTerms,
        scale: float,
    ) -> torch.Tensor:
        total = states_PX.new_zeros((), dtype=torch.float32)
        states_gradient = torch.empty_like(states_PX)
        # fp32, because every part adds to it
        items_gradient = torch.zeros_like(items_UX, dtype=torch.float32)
        size = max(1, ELEMENTWISE_VALUES[items_UX.device.type] // max(1, len(items_UX)))
        for start in range(0, len(states_PX), size):
            part = slice(start, start + size)
            states_cX = states_PX[part]
            scores_cU = (states_cX @ items_UX.T).float()
            softmax = _softmax(scores_cU, target_P[part], own_PT[part], terms, scale)
            total += softmax.loss_c.sum()
            gradient_cU = softmax.gradient_cU.to(states_PX.dtype)
            # by factors on [c, X], which is smaller than [c, U]
            factor_c1 = (scale / softmax.normalizer_c1).to(states_PX.dtype)
            states_gradient[part] = (gradient_cU @ items_UX) * factor_c1
            items_gradient += gradient_cU.T @ (states_cX * factor_c1)
        ctx.save_for_backward(states_gradient, items_gradient.to(items_UX.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states_gradient, items_gradient = ctx.saved_tensors
        return gradient * states_gradient, gradient * items_gradient, None, None, None, None


class _Softmax(NamedTuple):
    """Losses of some positions and their gradient."""

    loss_c: torch.Tensor
    gradient_cU: torch.Tensor
    """Gradient by the logits times the normalizer."""
    normalizer_c1: torch.Tensor


def _softmax(
    scores_cU: torch.Tensor,
    target_c: torch.Tensor,
    own_cT: torch.Tensor,
    terms: SoftmaxTerms,
    scale: float,
) -> _Softmax:
    """Return losses and gradient, computed in place of the scores."""
    target_c1 = target_c[:, None]
    logits_cU = scores_cU.mul_(scale) if scale != 1 else scores_cU
    target_logit_c1 = logits_cU.gather(1, target_c1) + terms.of_targets_U[target_c1]
    logits_cU += terms.of_negatives_U
    if terms.masks_own:
        # padding goes to the target, which is one of the user's own items
        logits_cU.scatter_(1, torch.where(own_cT >= 0, own_cT, target_c1), float("-inf"))
    logits_cU.scatter_(1, target_c1, target_logit_c1)
    # less the largest, so that exp cannot overflow
    largest_c1 = logits_cU.amax(dim=1, keepdim=True)
    exponential_cU = logits_cU.sub_(largest_c1).exp_()
    normalizer_c1 = exponential_cU.sum(dim=1, keepdim=True)
    loss_c1 = largest_c1 + normalizer_c1.log() - target_logit_c1
    # the softmax, less 1 at the target
    gradient_cU = exponential_cU.scatter_add_(1, target_c1, -normalizer_c1)
    return _Softmax(loss_c1[:, 0], gradient_cU, normalizer_c1)
