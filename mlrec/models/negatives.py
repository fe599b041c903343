"""Items drawn as negatives, for losses that compare a target with a few of the batch's items."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mlrec.data.schema import Batch, Scored
from mlrec.models.counter_random import random_keys


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
    # candidates are numbered in the order of the items
    candidates_U = candidates(scored.batch, scored.valid_U)
    number_U = candidates_U.cumsum(dim=0) - 1
    total = number_U[-1] + 1
    own_PT = _own_candidates(scored, candidates_U, number_U)
    num_negatives_P1 = total - (own_PT < total).sum(dim=1, keepdim=True)

    counters_PK = scored.key_P[:, None] * count + torch.arange(count, device=scored.key_P.device)
    # 31 random bits as a fraction of 2^31, times the number of negatives (Lemire, Fast Random
    # Integer Generation in an Interval, 2019)
    bits_PK = random_keys(counters_PK, seed, scored.batch.step) & ((1 << 31) - 1)
    numbers_PK = (bits_PK * num_negatives_P1) >> 31
    # from the number among the position's negatives to the one among all candidates: one more for
    # each own item before it
    before_PT = own_PT - torch.arange(own_PT.shape[1], device=own_PT.device)
    numbers_PK = numbers_PK + torch.searchsorted(before_PT, numbers_PK, right=True)
    # The item of each number. Other items write to an entry at the end, which a position without
    # negatives reads.
    num_items = len(candidates_U)
    item_of = torch.zeros(num_items + 1, dtype=torch.int64, device=candidates_U.device)
    places_U = torch.where(candidates_U, number_U, num_items)
    item_of.scatter_(0, places_U, torch.arange(num_items, device=candidates_U.device))
    drawn_PK = item_of[numbers_PK.clamp(max=num_items)]
    return Negatives(drawn_PK, num_negatives_P1[:, 0] > 0)


def _own_candidates(
    scored: Scored, candidates_U: torch.Tensor, number_U: torch.Tensor
) -> torch.Tensor:
    """Return the numbers of the user's own items among the candidates, int64 [P, T], ascending.

    Each own item counts once. What is left of T are numbers beyond all candidates.
    """
    own_PT = scored.own_PT.clamp(min=0)
    is_candidate_PT = (scored.own_PT >= 0) & candidates_U[own_PT]
    beyond = 2 * len(candidates_U) + own_PT.shape[1]
    numbers_PT = torch.where(is_candidate_PT, number_U[own_PT], beyond).sort(dim=1).values
    repeats_PT = numbers_PT[:, 1:] == numbers_PT[:, :-1]
    numbers_PT[:, 1:].masked_fill_(repeats_PT, beyond)
    return numbers_PT.sort(dim=1).values


def candidates(batch: Batch, valid_U: torch.Tensor) -> torch.Tensor:
    """Return the readable items that occur in the batch, bool [U]."""
    return (batch.count_U > 0) & valid_U
