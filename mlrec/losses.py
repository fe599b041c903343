"""Training objectives over in-batch candidates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from mlrec.schema import Batch


def in_batch_softmax(
    scores_PU: torch.Tensor,
    target_P: torch.Tensor,
    own_PU: torch.Tensor,
    batch: Batch,
    valid_U: torch.Tensor,
    multiplicity: bool,
) -> torch.Tensor:
    """Cross-entropy of the target among the batch's items, float32 [P], with the logQ correction.

    A candidate j has the score s_j - log p_j (Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations, 2019), p being its share of the training interactions. The user's own items are no negatives. With
    `multiplicity`, a negative that occurs c times counts c times (+ log c), as in MicroLens' loss, where every slot of the batch
    is a candidate; the target counts once.

    Args:
        scores_PU: float32, of all items for every position that has a target.
        target_P: int64, positions in U.
        own_PU: bool, the items of the position's user.
    """
    bias_U = -batch.log_p_U
    if multiplicity:
        bias_U = bias_U + batch.count_U.float().log()  # an item that is no candidate has the count 0: minus infinity
    excluded_PU = own_PU | ((batch.count_U == 0) | ~valid_U)
    is_target_PU = torch.zeros_like(own_PU).scatter_(1, target_P[:, None], True)
    negatives_PU = (scores_PU + bias_U).masked_fill(excluded_PU, float("-inf"))
    logits_PU = torch.where(is_target_PU, scores_PU - batch.log_p_U, negatives_PU)
    return cross_entropy(logits_PU, target_P, reduction="none")


LOSSES: dict[str, Callable[..., torch.Tensor]] = {"in_batch_softmax": in_batch_softmax}
"""(scores_PU, target_P, own_PU, batch, valid_U, multiplicity=...) to losses [P]."""
