"""Where a held-out item ranks among the whole catalogue, counted without sorting it."""

from __future__ import annotations

import numpy as np
import torch

from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.sequences import Split
from mlrec.data.stream import Data
from mlrec.models.recommender import Recommender
from mlrec.models.recommenders import readable_slots
from mlrec.runtime.flops import ELEMENTWISE_VALUES

LOWEST = torch.finfo(torch.float32).min


class Ranking:
    """Counts the items that rank above a user's target."""

    def __init__(
        self, model: Recommender, data: Data, items_ND: torch.Tensor, readable_N: torch.Tensor
    ) -> None:
        """Prepares the catalogue.

        Args:
            items_ND: float32, the vectors of `ranked_items`.
            readable_N: bool, an item that could not be read is never recommended.
        """
        self.model, self.data, self.readable_N = model.sequence_model, data, readable_N
        self.ids_N = ranked = ranked_items(data)
        ids_N = torch.from_numpy(ranked).to(readable_N.device)
        self.vectors = model.prepare(ids_N, items_ND.to(next(model.parameters()).dtype), readable_N)
        self.unreadable = torch.nonzero(~readable_N)[:, 0]
        self.row_N1 = np.full(data.catalogue.size + 1, -1, dtype=np.int64)
        """Item id to row of items_ND."""
        self.row_N1[ranked] = np.arange(len(ranked))
        self.popularity_N = torch.from_numpy(data.catalogue.popularity_N1[ranked]).to(
            readable_N.device
        )
        self.ascending_N = self.popularity_N.sort().values
        self.ones_N = torch.ones(len(ranked), device=readable_N.device)
        rows = max(1, ELEMENTWISE_VALUES[readable_N.device.type] // max(1, len(ranked)))
        self.compared_bN = torch.empty(rows, len(ranked), device=readable_N.device)

    def count(self, users_B: np.ndarray, split: Split) -> torch.Tensor:
        """int64 [B, 6]: items better than and tied with the target by the model's score, by popularity, by a constant score.

        The user's kept history is excluded.
        """
        score_BN, rows_BS, excluded_BS, target_B1 = self._scored(users_B, split)

        def columns(
            better_B: torch.Tensor,
            not_worse_B: torch.Tensor,
            target_value_B1: torch.Tensor,
            value_BS: torch.Tensor,
        ) -> list[torch.Tensor]:
            above_B = better_B - ((value_BS > target_value_B1) & excluded_BS).sum(dim=1)
            not_worse_B = not_worse_B - ((value_BS >= target_value_B1) & excluded_BS).sum(dim=1)
            return [above_B, not_worse_B - above_B - 1]  # the target is not worse than itself

        target_score_B1, popularity_B1, zero_B1 = (
            score_BN.gather(1, target_B1),
            self.popularity_N[target_B1],
            target_B1 * 0,
        )
        better_B, not_worse_B = self._compare(score_BN, target_score_B1)
        more_B, not_less_B = (self._more_popular(popularity_B1, right) for right in (True, False))
        by_score = columns(better_B, not_worse_B, target_score_B1, score_BN.gather(1, rows_BS))
        by_popularity = columns(more_B, not_less_B, popularity_B1, self.popularity_N[rows_BS])
        by_chance = columns(
            zero_B1[:, 0], zero_B1[:, 0] + len(self.readable_N), zero_B1, rows_BS * 0
        )
        return torch.stack(by_score + by_popularity + by_chance, dim=1)

    def top(self, users_B: np.ndarray, split: Split, count: int) -> np.ndarray:
        """The items with the highest scores, best first, without the user's kept history.

        Returns:
            ids, int64 [B, K]; 0 where there are no more.
        """
        score_BN, rows_BS, excluded_BS, _ = self._scored(users_B, split)
        users, slots = excluded_BS.nonzero(as_tuple=True)
        score_BN[users, rows_BS[users, slots]] = -torch.inf
        best = score_BN.topk(min(count, score_BN.shape[1]), dim=1)
        items_BK = self.ids_N[best.indices.cpu().numpy()]
        items_BK[best.values.isneginf().cpu().numpy()] = 0
        return np.pad(items_BK, ((0, 0), (0, count - items_BK.shape[1])))

    def states(self, users_B: np.ndarray, split: Split) -> torch.Tensor:
        """The users' states [B, X] after their history, float32."""
        return self.states_after(users_B, self.data.sequences.history(users_B, split))

    def states_after(self, users_B: np.ndarray, history_BL: np.ndarray) -> torch.Tensor:
        """The users' states [B, X] after a history of item ids, right-aligned, 0 for padding: float32."""
        slots_BL = torch.from_numpy(self.row_N1[history_BL]).to(self.readable_N.device)
        users = torch.from_numpy(users_B).to(slots_BL.device)
        return self.model.last_states(
            self.vectors, users, readable_slots(slots_BL, self.readable_N)
        ).float()

    def scores(self, states_BX: torch.Tensor) -> torch.Tensor:
        """Scores of all items, float32 [B, N]; -inf for those that could not be read."""
        # a score that is no number ties with all others of its kind: it earns chance, not the first rank
        score_BN = (
            self.model.score(states_BX, self.vectors.items_UX.float())
            .float()
            .nan_to_num_(nan=LOWEST)
        )
        return score_BN.index_fill_(1, self.unreadable, -torch.inf)

    def _scored(
        self, users_B: np.ndarray, split: Split
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores, float32 [B, N]; rows of the kept history, and whether they are excluded, [B, S]; the targets' rows, [B, 1]."""
        sequences, device = self.data.sequences, self.readable_N.device
        seen_BS = torch.from_numpy(self.row_N1[sequences.seen(users_B, split)]).to(device)
        target_B1 = torch.from_numpy(self.row_N1[sequences.target(users_B, split)]).to(device)[
            :, None
        ]
        score_BN = self.scores(self.states(users_B, split))
        seen_BS = seen_BS.sort(dim=1).values
        # an item may be held out although it was watched before, and may have been watched twice
        excluded_BS = (seen_BS >= 0) & (seen_BS != target_B1)
        excluded_BS[:, 1:] &= seen_BS[:, 1:] != seen_BS[:, :-1]
        return score_BN, seen_BS.clamp(min=0), excluded_BS, target_B1

    def _compare(
        self, score_BN: torch.Tensor, target_score_B1: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 [B] each: how many scores of a row are above its target's, and how many are not below it."""
        above: list[torch.Tensor] = []
        not_below: list[torch.Tensor] = []
        rows = len(self.compared_bN)
        for score_bN, target_score_b1 in zip(
            torch.split(score_BN, rows), torch.split(target_score_B1, rows), strict=True
        ):
            compared_bN = self.compared_bN[: len(score_bN)]
            for compare, counts in ((torch.gt, above), (torch.ge, not_below)):
                compare(score_bN, target_score_b1, out=compared_bN)
                counts.append(
                    compared_bN @ self.ones_N
                )  # float32 adds up five times as fast as booleans, exactly up to 2^24
        return torch.cat(above).long(), torch.cat(not_below).long()

    def _more_popular(self, popularity_B1: torch.Tensor, right: bool) -> torch.Tensor:
        """int64 [B]: items with more interactions, or with `right` false, with as many or more."""
        return (
            len(self.ascending_N)
            - torch.searchsorted(self.ascending_N, popularity_B1, right=right)[:, 0]
        )
