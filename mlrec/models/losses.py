"""Training objectives: a target against the batch's items, a sample or the catalogue."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch.nn.functional import cross_entropy, softplus

from mlrec.config import LossConfig
from mlrec.data.schema import Batch, Scored
from mlrec.models.counter_random import random_keys


class InBatchSoftmax:
    """Cross-entropy of the target among the batch's items, with the logQ correction.

    A candidate j has the score s_j - log p_j, where p_j is its share of the training interactions
    (Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    2019). Without `logq` it has the score s_j. The user's own items are not negatives.

    With `multiplicity`, a negative that occurs c times counts c times (+ log c), as in MicroLens'
    loss, where every slot of the batch is a candidate. The target counts once.
    """

    whole_catalogue: ClassVar[bool] = False
    keys: ClassVar[tuple[str, ...]] = (
        "loss.negatives",
        "loss.multiplicity",
        "loss.logq",
        "loss.temperature",
    )

    def __init__(self, config: LossConfig, seed: int) -> None:
        self.multiplicity = config.multiplicity
        self.logq = config.logq

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses, float32 [P]."""
        scores_PU = scored.scores(None)
        target_P = scored.target_P
        log_q_U = _log_q(scored.batch, self.logq)
        bias_U = -log_q_U
        if self.multiplicity:
            # an item that is not a candidate has the count 0, and so the bias minus infinity
            bias_U = bias_U + scored.batch.count_U.float().log()
        is_target_PU = torch.zeros_like(scored.own_PU).scatter_(1, target_P[:, None], True)
        negatives_PU = (scores_PU + bias_U).masked_fill(~_negatives(scored), float("-inf"))
        # The target is one of the user's own items, so it is masked above. It counts once.
        logits_PU = torch.where(is_target_PU, scores_PU - log_q_U, negatives_PU)
        return cross_entropy(logits_PU, target_P, reduction="none")


class FullSoftmax:
    """Cross-entropy of the target among all items of the catalogue, for ids and frozen features."""

    whole_catalogue: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = ("loss.temperature",)

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        _refuse_without_logq(config)
        if config.negatives == "local":
            raise ValueError(
                "loss.negatives=local has no effect on loss.name=full_softmax, whose negatives are "
                "the catalogue. Leave it out"
            )

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses, float32 [P]."""
        # the batch's items are the whole catalogue here, the user's other items among the negatives
        logits_PU = scored.scores(None).masked_fill(~scored.valid_U, float("-inf"))
        return cross_entropy(logits_PU, scored.target_P, reduction="none")


class SampledSoftmax:
    """Cross-entropy of the target among items drawn for each position, with the logQ correction.

    `loss.sampled` items of the batch are drawn. The scores are those of InBatchSoftmax. An item
    that is drawn twice counts twice.
    """

    whole_catalogue: ClassVar[bool] = False
    keys: ClassVar[tuple[str, ...]] = (
        "loss.negatives",
        "loss.sampled",
        "loss.logq",
        "loss.temperature",
    )

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        self.seed = seed
        self.sampled = config.sampled
        self.logq = config.logq

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses, float32 [P]."""
        negatives = draw_negatives(scored, self.sampled, self.seed)
        # column 0 is the target, the others are negatives
        compared = torch.cat([scored.target_P[:, None], negatives.items_PK], dim=1)
        logits = scored.scores(compared) - _log_q(scored.batch, self.logq)[compared]
        is_negative = torch.arange(self.sampled + 1, device=logits.device) > 0
        missing = ~negatives.exist_P[:, None] & is_negative
        logits = logits.masked_fill(missing, float("-inf"))
        return cross_entropy(logits, torch.zeros_like(scored.target_P), reduction="none")


class PairLoss:
    """A loss of the target and of one negative drawn from the batch."""

    whole_catalogue: ClassVar[bool] = False
    keys: ClassVar[tuple[str, ...]] = ("loss.negatives", "loss.temperature")

    def __init__(self, config: LossConfig, seed: int) -> None:
        _refuse_multiplicity(config)
        _refuse_without_logq(config)
        self.seed = seed

    def scores_of_pair(self, scored: Scored) -> PairScores:
        """Draw a negative for each position and return the scores."""
        negatives = draw_negatives(scored, 1, self.seed)
        pair = torch.cat([scored.target_P[:, None], negatives.items_PK], dim=1)
        positive_P, negative_P = scored.scores(pair).unbind(dim=1)
        return PairScores(positive_P, negative_P, negatives.exist_P)


class BPR(PairLoss):
    """The target ranked above one item drawn from the batch.

    Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, 2009.
    """

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses, float32 [P]; 0 where the batch has no negative for the position."""
        pair = self.scores_of_pair(scored)
        # -log sigmoid(positive - negative), without overflow
        return softplus(pair.negative_P - pair.positive_P) * pair.exist_P


class BCE(PairLoss):
    """Binary cross-entropy of the target and of one drawn item, as in SASRec's paper."""

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses, float32 [P]; of the target alone where there is no negative."""
        pair = self.scores_of_pair(scored)
        # -log sigmoid(positive) - log(1 - sigmoid(negative)), without overflow
        return softplus(-pair.positive_P) + softplus(pair.negative_P) * pair.exist_P


class PairScores(NamedTuple):
    """Scores of the target and of a drawn negative, all [P]."""

    positive_P: torch.Tensor
    negative_P: torch.Tensor
    exist_P: torch.Tensor
    """Whether the position has a negative, bool."""


class Negatives(NamedTuple):
    """Negatives drawn for each position."""

    items_PK: torch.Tensor
    """Indices in the batch's items, int64."""
    exist_P: torch.Tensor
    """Whether the position has any negative, bool. Without one, items_PK means nothing."""


def draw_negatives(scored: Scored, count: int, seed: int) -> Negatives:
    """Draw `count` negatives of each position, uniformly and with replacement.

    What a position draws is a function of (seed, step, key). So neither the number of ranks nor the
    order of users matters.
    """
    ranks_PU = _negatives(scored).cumsum(dim=1)
    total_P1 = ranks_PU[:, -1:]
    counters_PK = scored.key_P[:, None] * count + torch.arange(count, device=scored.key_P.device)
    # 62 bits, so that the numbers are not negative
    numbers_PK = random_keys(counters_PK, seed, scored.batch.step) & ((1 << 62) - 1)
    # the item whose rank among the position's negatives is the drawn one
    drawn_PK = torch.searchsorted(ranks_PU, numbers_PK % total_P1.clamp(min=1) + 1)
    return Negatives(drawn_PK.clamp(max=ranks_PU.shape[1] - 1), total_P1[:, 0] > 0)


def _negatives(scored: Scored) -> torch.Tensor:
    """Return the readable candidates new to the position's user, bool [P, U]."""
    candidates_U = (scored.batch.count_U > 0) & scored.valid_U
    return ~scored.own_PU & candidates_U


def _log_q(batch: Batch, logq: bool) -> torch.Tensor:
    """Return what the correction subtracts from the scores, float32 [U]."""
    # minus infinity for an item that nobody watched; it is never a candidate
    return batch.log_p_U if logq else torch.zeros_like(batch.log_p_U)


def _refuse_multiplicity(config: LossConfig) -> None:
    if config.multiplicity:
        raise ValueError(
            "loss.multiplicity=true belongs to loss.name=in_batch_softmax, not to "
            f"{config.name}. Set it to false"
        )


def _refuse_without_logq(config: LossConfig) -> None:
    if not config.logq:
        raise ValueError(
            "loss.logq=false belongs to the in-batch and sampled softmax, not to "
            f"{config.name}. Leave it out"
        )


LOSSES: dict[str, type] = {
    "in_batch_softmax": InBatchSoftmax,
    "full_softmax": FullSoftmax,
    "sampled_softmax": SampledSoftmax,
    "bpr": BPR,
    "bce": BCE,
}
"""Constructors of losses by name. They take (LossConfig, seed). A loss maps Scored to losses
[P]. Its `keys` are those of a configuration that it depends on."""
