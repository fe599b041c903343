"""Training objectives: a target against the batch's items, a sample or the catalogue.

A loss is a function of scores. One with `of_products` is also a function of the products of states
and items, which needs less time and memory.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch.nn.functional import cross_entropy, softplus

from mlrec.config import LossConfig
from mlrec.data.schema import Batch, Scored
from mlrec.models.negatives import candidates, draw_negatives
from mlrec.models.product_losses import (
    LossOfPart,
    PartLosses,
    SoftmaxTerms,
    softmax_of_all,
    softmax_of_some,
)

DENSE_FACTOR = 32
"""Items per sampled item up to which all scores are computed and some are taken: one matrix product
is faster than reading the vectors of each position's own items."""


class Softmax:
    """Cross-entropy of the target among many items."""

    def terms(self, batch: Batch, valid_U: torch.Tensor) -> SoftmaxTerms:
        """Return the terms of the batch's items."""
        raise NotImplementedError

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Return the losses, float32 [P]."""
        scores_PU = scored.scores(None)
        target_P1 = scored.target_P[:, None]
        terms = self.terms(scored.batch, scored.valid_U)
        negatives_PU = scores_PU + terms.of_negatives_U
        if terms.masks_own:
            own_PT = torch.where(scored.own_PT >= 0, scored.own_PT, target_P1)
            negatives_PU = negatives_PU.scatter(1, own_PT, float("-inf"))
        target_logit_P1 = scores_PU.gather(1, target_P1) + terms.of_targets_U[target_P1]
        logits_PU = negatives_PU.scatter(1, target_P1, target_logit_P1)
        return cross_entropy(logits_PU, scored.target_P, reduction="none")

    def of_products(self, scored: Scored, temperature: float) -> LossOfPart:
        """Return the same losses as a function of the products of states and items."""
        terms = self.terms(scored.batch, scored.valid_U)

        def loss_of_part(part: slice, scores_cU: torch.Tensor) -> PartLosses:
            target_c, own_cT = scored.target_P[part], scored.own_PT[part]
            return softmax_of_all(scores_cU, target_c, own_cT, terms, 1 / temperature)

        return loss_of_part


class InBatchSoftmax(Softmax):
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

    def terms(self, batch: Batch, valid_U: torch.Tensor) -> SoftmaxTerms:
        """Return the terms of the batch's items."""
        log_q_U = _log_q(batch, self.logq)
        of_negatives_U = -log_q_U
        if self.multiplicity:
            of_negatives_U = of_negatives_U + batch.count_U.float().log()
        of_negatives_U = of_negatives_U.masked_fill(~candidates(batch, valid_U), float("-inf"))
        # the target counts once
        return SoftmaxTerms(of_negatives_U, of_targets_U=-log_q_U, masks_own=True)


class FullSoftmax(Softmax):
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

    def terms(self, batch: Batch, valid_U: torch.Tensor) -> SoftmaxTerms:
        """Return the terms of the batch's items, which are the whole catalogue here."""
        zeros_U = torch.zeros_like(batch.log_p_U)
        # the user's other items are among the negatives
        of_negatives_U = zeros_U.masked_fill(~valid_U, float("-inf"))
        return SoftmaxTerms(of_negatives_U, of_targets_U=zeros_U, masks_own=False)


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
        compared = self._compared(scored)
        logits_PK = scored.scores(compared.items_PK) + compared.terms_PK
        return cross_entropy(logits_PK, torch.zeros_like(scored.target_P), reduction="none")

    def of_products(self, scored: Scored, temperature: float) -> LossOfPart | None:
        """Return the same losses as a function of the products of states and items.

        None if so many items were not drawn that the function would be slower.
        """
        if len(scored.valid_U) > DENSE_FACTOR * self.sampled:
            return None
        compared = self._compared(scored)

        def loss_of_part(part: slice, scores_cU: torch.Tensor) -> PartLosses:
            items_cK, terms_cK = compared.items_PK[part], compared.terms_PK[part]
            return softmax_of_some(scores_cU, items_cK, terms_cK, 1 / temperature)

        return loss_of_part

    def _compared(self, scored: Scored) -> _Compared:
        """Return each position's target, in column 0, and its negatives."""
        negatives = draw_negatives(scored, self.sampled, self.seed)
        items_PK = torch.cat([scored.target_P[:, None], negatives.items_PK], dim=1)
        is_negative_K = torch.arange(self.sampled + 1, device=items_PK.device) > 0
        missing_PK = ~negatives.exist_P[:, None] & is_negative_K
        log_q_PK = _log_q(scored.batch, self.logq)[items_PK]
        return _Compared(items_PK, (-log_q_PK).masked_fill(missing_PK, float("-inf")))


class _Compared(NamedTuple):
    """Items that a position's target is compared with, itself first."""

    items_PK: torch.Tensor
    """Indices in the batch's items, int64."""
    terms_PK: torch.Tensor
    """What is added to their scores, float32; minus infinity for no candidate."""


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
