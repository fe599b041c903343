"""Where a held-out item ranks among the whole catalogue, counted without sorting it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.format import Split
from mlrec.data.stream import Data
from mlrec.models.recommender import Recommender
from mlrec.models.recommenders import readable_slots
from mlrec.runtime.flops import ELEMENTWISE_VALUES

LOWEST = torch.finfo(torch.float32).min


class TargetCounts(NamedTuple):
    """The items that compete with each user's target, under one way of scoring."""

    better_B: torch.Tensor
    """Items with a higher score than the target, int64."""
    tied_B: torch.Tensor
    """Other items with the target's score, int64."""


class RankCounts(NamedTuple):
    """Each user's target ranked by the model and by both baselines."""

    by_model: TargetCounts
    by_popularity: TargetCounts
    by_chance: TargetCounts
    """Every item has the same score, so all of them tie."""

    def pack(self) -> torch.Tensor:
        """Return all counts as int64 [B, 6], so that one all-gather carries them."""
        return torch.stack([*self.by_model, *self.by_popularity, *self.by_chance], dim=1)

    @classmethod
    def unpack(cls, counts_B6: torch.Tensor) -> RankCounts:
        """Return the counts that `pack` packed."""
        columns = counts_B6.unbind(dim=1)
        return cls(
            by_model=TargetCounts(*columns[0:2]),
            by_popularity=TargetCounts(*columns[2:4]),
            by_chance=TargetCounts(*columns[4:6]),
        )


class _Scored(NamedTuple):
    """The scores of some users, and the rows of the catalogue to leave out or to rank."""

    score_BN: torch.Tensor
    """float32."""
    seen_BS: torch.Tensor
    """Rows of the items in each user's history, int64; 0 where `is_excluded_BS` is false."""
    is_excluded_BS: torch.Tensor
    """Whether the slot of `seen_BS` takes an item out of the ranking, bool."""
    target_B1: torch.Tensor
    """Rows of the targets, int64."""


class Ranking:
    """The encoded catalogue, ready to rank users' targets against all of it.

    Nothing here is collective: each rank ranks its own users against its copy of the catalogue.
    """

    def __init__(
        self, model: Recommender, data: Data, items_ND: torch.Tensor, readable_N: torch.Tensor
    ) -> None:
        """Prepare the catalogue.

        Args:
            items_ND: vectors of `ranked_items`, float32.
            readable_N: whether each item could be read, bool; unreadable ones are not recommended.
        """
        device = readable_N.device
        self.model = model.sequence_model
        self.data = data
        self.readable_N = readable_N
        self.unreadable = torch.nonzero(~readable_N)[:, 0]
        self.ids_N = ranked_items(data)
        num_items = len(self.ids_N)
        self.vectors = model.prepare(
            torch.from_numpy(self.ids_N).to(device),
            items_ND.to(next(model.parameters()).dtype),
            readable_N,
        )
        self.row_N1 = np.full(data.catalogue.size + 1, -1, dtype=np.int64)
        """Row of items_ND for each item id; -1 for padding and items that are not ranked."""
        self.row_N1[self.ids_N] = np.arange(num_items)
        popularity_N = data.catalogue.popularity_N1[self.ids_N]
        self.popularity_N = torch.from_numpy(popularity_N).to(device)
        self.ascending_N = self.popularity_N.sort().values
        self.ones_N = torch.ones(num_items, device=device)
        # The buffer of `_count_above` is allocated once and sized by the device, not the batch.
        rows = max(1, ELEMENTWISE_VALUES[device.type] // max(1, num_items))
        self.compared_bN = torch.empty(rows, num_items, device=device)

    def count(self, users_B: np.ndarray, split: Split) -> RankCounts:
        """Count the items that rank above or tie with each user's target.

        Items of the user's history are excluded.
        """
        scored = self._score(users_B, split)
        return RankCounts(
            by_model=self._count_by_model(scored),
            by_popularity=self._count_by_popularity(scored),
            by_chance=self._count_by_chance(scored),
        )

    def top(self, users_B: np.ndarray, split: Split, count: int) -> np.ndarray:
        """Return the items with the highest scores, best first, without the user's history.

        Returns:
            ids, int64 [B, K]; 0 where fewer than K items remain.
        """
        scored = self._score(users_B, split)
        score_BN = scored.score_BN
        users, slots = scored.is_excluded_BS.nonzero(as_tuple=True)
        score_BN[users, scored.seen_BS[users, slots]] = -torch.inf
        best = score_BN.topk(min(count, score_BN.shape[1]), dim=1)
        items_BK = self.ids_N[best.indices.cpu().numpy()]
        # topk fills up with excluded items where a user has fewer than K others.
        items_BK[best.values.isneginf().cpu().numpy()] = 0
        return np.pad(items_BK, ((0, 0), (0, count - items_BK.shape[1])))

    def states(self, users_B: np.ndarray, split: Split) -> torch.Tensor:
        """Return the users' states [B, X] after their history, float32."""
        return self.states_after(users_B, self.data.sequences.history(users_B, split))

    def states_after(self, users_B: np.ndarray, history_BL: np.ndarray) -> torch.Tensor:
        """Return the users' states [B, X] after a history, float32.

        Args:
            history_BL: item ids, right-aligned; 0 for padding.
        """
        slots_BL = torch.from_numpy(self.row_N1[history_BL]).to(self.readable_N.device)
        users = torch.from_numpy(users_B).to(slots_BL.device)
        readable_BL = readable_slots(slots_BL, self.readable_N)
        return self.model.last_states(self.vectors, users, readable_BL).float()

    def scores(self, states_BX: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, float32 [B, N]; -inf for unreadable ones."""
        # In fp32: with the 8 significant bits of bf16, many different scores would tie.
        score_BN = self.model.score(states_BX, self.vectors.items_UX.float()).float()
        # NaN compares false with everything, which would rank the target first. As the lowest
        # number it ties with all other NaN, and a model that gives only NaN earns chance.
        score_BN.nan_to_num_(nan=LOWEST)
        # After the NaN, so that an unreadable item ranks below a readable one without a score.
        return score_BN.index_fill_(1, self.unreadable, -torch.inf)

    def _score(self, users_B: np.ndarray, split: Split) -> _Scored:
        sequences = self.data.sequences
        device = self.readable_N.device
        seen_BS = torch.from_numpy(self.row_N1[sequences.seen(users_B, split)]).to(device)
        target_B = torch.from_numpy(self.row_N1[sequences.target(users_B, split)]).to(device)
        target_B1 = target_B[:, None]
        score_BN = self.scores(self.states(users_B, split))
        # Sorting puts equal items side by side: each item is excluded, and counted, once.
        seen_BS = seen_BS.sort(dim=1).values
        # A target that the user also watched before must stay in the ranking.
        is_excluded_BS = (seen_BS >= 0) & (seen_BS != target_B1)
        is_excluded_BS[:, 1:] &= seen_BS[:, 1:] != seen_BS[:, :-1]
        # gather refuses -1, so these slots read row 0, and is_excluded_BS keeps them from counting.
        return _Scored(score_BN, seen_BS.clamp(min=0), is_excluded_BS, target_B1)

    def _count_by_model(self, scored: _Scored) -> TargetCounts:
        target_B1 = scored.score_BN.gather(1, scored.target_B1)
        better_B, not_worse_B = self._count_above(scored.score_BN, target_B1)
        seen_BS = scored.score_BN.gather(1, scored.seen_BS)
        return _without_history(better_B, not_worse_B, target_B1, seen_BS, scored)

    def _count_by_popularity(self, scored: _Scored) -> TargetCounts:
        target_B1 = self.popularity_N[scored.target_B1]
        num_items = len(self.ascending_N)
        up_to_B1 = torch.searchsorted(self.ascending_N, target_B1, right=True)
        below_B1 = torch.searchsorted(self.ascending_N, target_B1, right=False)
        better_B = num_items - up_to_B1[:, 0]
        not_worse_B = num_items - below_B1[:, 0]
        seen_BS = self.popularity_N[scored.seen_BS]
        return _without_history(better_B, not_worse_B, target_B1, seen_BS, scored)

    def _count_by_chance(self, scored: _Scored) -> TargetCounts:
        target_B1 = torch.zeros_like(scored.target_B1)
        better_B = target_B1[:, 0]
        not_worse_B = better_B + len(self.readable_N)
        seen_BS = torch.zeros_like(scored.seen_BS)
        return _without_history(better_B, not_worse_B, target_B1, seen_BS, scored)

    def _count_above(
        self, score_BN: torch.Tensor, target_B1: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return per user how many scores are above the target's, and how many not below it.

        Returns:
            int64 [B] each.
        """
        above: list[torch.Tensor] = []
        not_below: list[torch.Tensor] = []
        rows = len(self.compared_bN)
        score_chunks = torch.split(score_BN, rows)
        target_chunks = torch.split(target_B1, rows)
        for score_bN, target_b1 in zip(score_chunks, target_chunks, strict=True):
            compared_bN = self.compared_bN[: len(score_bN)]
            # A float32 product sums five times as fast as booleans, and exactly up to 2^24.
            torch.gt(score_bN, target_b1, out=compared_bN)
            above.append(compared_bN @ self.ones_N)
            torch.ge(score_bN, target_b1, out=compared_bN)
            not_below.append(compared_bN @ self.ones_N)
        return torch.cat(above).long(), torch.cat(not_below).long()


def _without_history(
    better_B: torch.Tensor,
    not_worse_B: torch.Tensor,
    target_B1: torch.Tensor,
    seen_BS: torch.Tensor,
    scored: _Scored,
) -> TargetCounts:
    """Take the items of the history out of counts over the whole catalogue.

    Args:
        better_B: items with a higher score than the target.
        not_worse_B: items with at least the target's score, the target included.
        target_B1: scores of the targets.
        seen_BS: scores of the history's items.
    """
    is_excluded_BS = scored.is_excluded_BS
    seen_better_B = ((seen_BS > target_B1) & is_excluded_BS).sum(dim=1)
    seen_not_worse_B = ((seen_BS >= target_B1) & is_excluded_BS).sum(dim=1)
    better_B = better_B - seen_better_B
    not_worse_B = not_worse_B - seen_not_worse_B
    # The target itself is not worse than the target: it does not tie with itself.
    return TargetCounts(better_B, not_worse_B - better_B - 1)
