"""Training objectives: the target of a position against the batch's items, some of them, or the whole catalogue."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy, softplus

from mlrec.config import LossConfig
from mlrec.data.schema import Batch, Scored
from mlrec.models.counter_random import random_keys


class InBatchSoftmax:
    """Cross-entropy of the target among the batch's items, with the logQ correction.

    A candidate j has the score s_j - log p_j (Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations, 2019), p being its share of the training interactions; s_j without `logq`. The user's own items are no
    negatives. With `multiplicity`, a negative that occurs c times counts c times (+ log c), as in MicroLens' loss, where every
    slot of the batch is a candidate; the target counts once.
    """

    whole_catalogue: ClassVar[bool] = False

    def __init__(self, config: LossConfig, seed: int) -> None:
        self.multiplicity, self.logq = config.multiplicity, config.logq

    def __call__(self, scored: Scored) -> torch.Tensor:
        """float32 [P]."""
        scores_PU, target_P, batch = scored.scores(None), scored.target_P, scored.batch
        log_q_U = _log_q(batch, self.logq)
        bias_U = -log_q_U
        if self.multiplicity:
            bias_U = (
                bias_U + batch.count_U.float().log()
            )  # an item that is no candidate has the count 0: minus infinity
        is_target_PU = torch.zeros_like(scored.own_PU).scatter_(1, target_P[:, None], True)
        negatives_PU = (scores_PU + bias_U).masked_fill(~_negatives(scored), float("-inf"))
        logits_PU = torch.where(is_target_PU, scores_PU - log_q_U, negatives_PU)
        return cross_entropy(logits_PU, target_P, reduction="none")


class FullSoftmax:
    """Cross-entropy of the target among all items of the catalogue; for ids and frozen features."""

    whole_catalogue: ClassVar[bool] = True

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        _refuse_without_logq(config)
        if config.negatives == "local":
            raise ValueError(
                "loss.negatives=local means nothing to loss.name=full_softmax, whose negatives are the catalogue"
            )

    def __call__(self, scored: Scored) -> torch.Tensor:
        """float32 [P]."""
        logits_PU = scored.scores(None).masked_fill(~scored.valid_U, float("-inf"))
        return cross_entropy(logits_PU, scored.target_P, reduction="none")


class SampledSoftmax:
    """Cross-entropy of the target among `loss.sampled` of the batch's items, drawn for each position, with the logQ correction.

    The scores are those of InBatchSoftmax; an item that is drawn twice counts twice.
    """

    whole_catalogue: ClassVar[bool] = False

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        self.seed, self.sampled, self.logq = seed, config.sampled, config.logq

    def __call__(self, scored: Scored) -> torch.Tensor:
        """float32 [P]."""
        drawn_PK, found_P = draw_negatives(scored, self.sampled, self.seed)
        compared = torch.cat([scored.target_P[:, None], drawn_PK], dim=1)
        logits = scored.scores(compared) - _log_q(scored.batch, self.logq)[compared]
        missing = ~found_P[:, None] & (torch.arange(self.sampled + 1, device=logits.device) > 0)
        logits = logits.masked_fill(missing, float("-inf"))
        return cross_entropy(logits, torch.zeros_like(scored.target_P), reduction="none")


class BPR:
    """The target above one item drawn from the batch.

    Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, 2009.
    """

    whole_catalogue: ClassVar[bool] = False

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        _refuse_without_logq(config)
        self.seed = seed

    def __call__(self, scored: Scored) -> torch.Tensor:
        """float32 [P]; 0 where the batch has no negative for the position."""
        positive_P, negative_P, found_P = _pair(scored, self.seed)
        return softplus(negative_P - positive_P) * found_P


class BCE:
    """Binary cross-entropy of the target and of one item drawn from the batch, as in SASRec's paper."""

    whole_catalogue: ClassVar[bool] = False

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        _refuse_without_logq(config)
        self.seed = seed

    def __call__(self, scored: Scored) -> torch.Tensor:
        """float32 [P]; of the target alone where the batch has no negative for the position."""
        positive_P, negative_P, found_P = _pair(scored, self.seed)
        return softplus(-positive_P) + softplus(negative_P) * found_P


def draw_negatives(scored: Scored, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws `count` of each position's negatives, each as likely as the other, with replacement.

    What a position draws is a function of (seed, step, key): neither the number of ranks nor the order of users matters.

    Returns:
        Positions in U, int64 [P, count], and whether the position has any negative, bool [P].
    """
    ranks_PU = _negatives(scored).cumsum(dim=1)
    total_P1 = ranks_PU[:, -1:]
    counters_PK = scored.key_P[:, None] * count + torch.arange(count, device=scored.key_P.device)
    numbers_PK = random_keys(counters_PK, seed, scored.batch.step) & ((1 << 62) - 1)
    # the item whose rank among the position's negatives is the drawn one
    drawn_PK = torch.searchsorted(ranks_PU, numbers_PK % total_P1.clamp(min=1) + 1)
    return drawn_PK.clamp(max=ranks_PU.shape[1] - 1), total_P1[:, 0] > 0


def _pair(scored: Scored, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores of target and drawn negative, and whether there is one, all [P]."""
    drawn_P1, found_P = draw_negatives(scored, 1, seed)
    pair = torch.cat([scored.target_P[:, None], drawn_P1], dim=1)
    positive_P, negative_P = scored.scores(pair).unbind(dim=1)
    return positive_P, negative_P, found_P


def _negatives(scored: Scored) -> torch.Tensor:
    """bool [P, U]: candidates that can be read and that the position's user has not watched."""
    return ~scored.own_PU & ((scored.batch.count_U > 0) & scored.valid_U)


def _log_q(batch: Batch, logq: bool) -> torch.Tensor:
    """What the correction takes from the scores, float32 [U]."""
    return (
        batch.log_p_U if logq else torch.zeros_like(batch.log_p_U)
    )  # an item that nobody watched has minus infinity


def _refuse_multiplicity(config: LossConfig) -> None:
    if config.multiplicity:
        raise ValueError(
            f"loss.multiplicity=true belongs to loss.name=in_batch_softmax, not to {config.name}; set it to false"
        )


def _refuse_without_logq(config: LossConfig) -> None:
    if not config.logq:
        raise ValueError(
            f"loss.logq=false belongs to the softmaxes over some items, not to {config.name}; leave it out"
        )


LOSSES: dict[str, type] = {
    "in_batch_softmax": InBatchSoftmax,
    "full_softmax": FullSoftmax,
    "sampled_softmax": SampledSoftmax,
    "bpr": BPR,
    "bce": BCE,
}
"""(LossConfig, seed) to a loss: Scored to losses [P]."""
