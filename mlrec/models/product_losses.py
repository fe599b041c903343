"""Sums of losses of products of states and items, without the matrix of all scores.

Scores are computed for some positions at a time, and turned into their gradient at once. So memory
holds a part of them, each is computed once, and on a CPU a part stays in the cache. The idea is
that of Liger Kernel's fused linear cross-entropy (Hsu et al., 2024).

Shape letters: P positions, U items, X width of what is scored, T slots of a user's sequence,
K compared items of a position, c positions of a part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from mlrec.runtime.flops import ELEMENTWISE_VALUES


class PartLosses(NamedTuple):
    """Losses of some positions and their gradient."""

    loss_c: torch.Tensor
    """float32."""
    gradient_cU: torch.Tensor
    """Gradient by the scores divided by `factor_c1`, float32."""
    factor_c1: torch.Tensor


LossOfPart = Callable[[slice, torch.Tensor], PartLosses]
"""Function from a part of the positions and its scores, float32 [c, U], to the losses. It may
overwrite the scores."""


def sum_of_losses(
    states_PX: torch.Tensor, items_UX: torch.Tensor, loss_of_part: LossOfPart
) -> torch.Tensor:
    """Return the sum of the losses of products of states and items, float32."""
    total: torch.Tensor = _SumOfLosses.apply(states_PX, items_UX, loss_of_part)  # type: ignore[no-untyped-call]
    return total


class _SumOfLosses(torch.autograd.Function):
    """The forward pass computes the gradients too; the backward pass multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, states_PX: torch.Tensor, items_UX: torch.Tensor, loss_of_part: LossOfPart
    ) -> torch.Tensor:
        total = states_PX.new_zeros((), dtype=torch.float32)
        states_gradient = torch.empty_like(states_PX)
        # fp32, because every part adds to it
        items_gradient = torch.zeros_like(items_UX, dtype=torch.float32)
        size = max(1, ELEMENTWISE_VALUES[items_UX.device.type] // max(1, len(items_UX)))
        for start in range(0, len(states_PX), size):
            part = slice(start, start + size)
            states_cX = states_PX[part]
            losses = loss_of_part(part, (states_cX @ items_UX.T).float())
            total += losses.loss_c.sum()
            gradient_cU = losses.gradient_cU.to(states_PX.dtype)
            # the factor multiplies [c, X], which is smaller than [c, U]
            factor_c1 = losses.factor_c1.to(states_PX.dtype)
            states_gradient[part] = (gradient_cU @ items_UX) * factor_c1
            items_gradient += gradient_cU.T @ (states_cX * factor_c1)
        ctx.save_for_backward(states_gradient, items_gradient.to(items_UX.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states_gradient, items_gradient = ctx.saved_tensors
        return gradient * states_gradient, gradient * items_gradient, None


class SoftmaxTerms(NamedTuple):
    """What a softmax adds to scores, and which items it leaves out."""

    of_negatives_U: torch.Tensor
    """Term of an item as a negative, float32; minus infinity for no candidate."""
    of_targets_U: torch.Tensor
    """Term of an item as the target, float32."""
    masks_own: bool
    """Whether the user's own items are left out of the negatives."""


def softmax_of_all(
    scores_cU: torch.Tensor,
    target_c: torch.Tensor,
    own_cT: torch.Tensor,
    terms: SoftmaxTerms,
    scale: float,
) -> PartLosses:
    """Return the cross-entropies of the targets among all items.

    Args:
        scores_cU: overwritten.
        target_c: rows of the targets, int64.
        own_cT: rows of the user's own items, int64; -1 for padding.
        scale: factor on the scores, not on the terms.
    """
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
    # the softmax times the normalizer, less that at the target
    gradient_cU = exponential_cU.scatter_add_(1, target_c1, -normalizer_c1)
    return PartLosses(loss_c1[:, 0], gradient_cU, scale / normalizer_c1)


def softmax_of_some(
    scores_cU: torch.Tensor, compared_cK: torch.Tensor, terms_cK: torch.Tensor, scale: float
) -> PartLosses:
    """Return the cross-entropies of each position's first item among its own K items.

    Args:
        scores_cU: overwritten.
        compared_cK: rows of the items, int64.
        terms_cK: what is added to their scores, float32; minus infinity for no candidate.
        scale: factor on the scores, not on the terms.
    """
    log_softmax_cK = (scores_cU.gather(1, compared_cK) * scale + terms_cK).log_softmax(dim=1)
    gradient_cK = log_softmax_cK.exp()
    gradient_cK[:, 0] -= 1
    gradient_cU = scores_cU.zero_().scatter_add_(1, compared_cK, gradient_cK)
    return PartLosses(-log_softmax_cK[:, 0], gradient_cU, scores_cU.new_full((1, 1), scale))
