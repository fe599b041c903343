"""What a service loads of a run: the best checkpoint, and the vectors of the whole catalogue.

Shape letters: B histories, N items that can be recommended, n items to encode, D width of vectors,
L positions of a history, S items of a history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mlrec.config.paths import with_absolute_paths
from mlrec.data.stream import open_data
from mlrec.evaluation.evaluate import encode_catalogue
from mlrec.evaluation.ranking import Ranking
from mlrec.evaluation.trained_model import load_model
from mlrec.runs import failures
from mlrec.runs.run import best_checkpoint, load_trained
from mlrec.runtime.distributed import World
from mlrec.runtime.printable import are, as_cell, counted, printable
from mlrec.runtime.terminal import say
from mlrec.serving.media import media_tensors
from mlrec.serving.model import as_count, check_history
from mlrec.serving.recommendation import Recommendation, described

MAX_SHOWN_CHARACTERS = 200


class HistoryError(ValueError):
    """A user or a history with which nothing can be recommended."""


class RankedCatalogue(NamedTuple):
    """The encoded catalogue, ready to score."""

    ranking: Ranking
    rows_N: np.ndarray
    """int64: rows of `ranking` that can be recommended."""
    vectors_ND: np.ndarray
    """float32: their vectors of the item tower."""


class TrainedModel:
    """The best checkpoint of a run. The first request encodes the whole catalogue."""

    def __init__(self, run: Path, world: World, overrides: Sequence[str] = ()) -> None:
        """Load the run's best checkpoint by validation, and open its data set.

        Args:
            overrides: "key=value" settings that replace those of the run, such as data.url.

        Raises:
            ValueError: the run does not exist or has no checkpoint, its data set cannot be read, or
                an override changes what was trained.
        """
        # the data set is read later too, and the working directory may change until then
        self.config = with_absolute_paths(load_trained(run, overrides))
        path = best_checkpoint(self.config)
        self.data = open_data(self.config.data)
        self.run = run
        self._world = world
        self._model = load_model(self.config, self.data, world, path).eval()

    @cached_property
    def catalogue(self) -> RankedCatalogue:
        """The catalogue, encoded at its first use; collective."""
        # every rank encodes its share, and then computes the same recommendations
        with torch.no_grad():
            encoded = encode_catalogue(self._model, self.data, self.config, self._world)
            ranking = Ranking(self._model, self.data, encoded.items_ND, encoded.readable_N)
        if encoded.bad_items:
            num_bad = len(encoded.bad_items)
            say(
                f"{num_bad:,} of {counted(len(encoded.readable_N), 'item')} of {self.data.url} "
                f"could not be read and {are(num_bad)} left out. "
                f"{failures.frequent_reason(encoded.bad_items.values())}",
                error=True,
            )
        rows_N = np.flatnonzero(encoded.readable_N.cpu().numpy())
        return RankedCatalogue(ranking, rows_N, encoded.items_ND.cpu().numpy()[rows_N])

    @cached_property
    def raw_ids(self) -> list[str]:
        """Raw ids of the items that can be recommended, in the order of the catalogue."""
        ids_N = self.catalogue.ranking.ids_N[self.catalogue.rows_N]
        return [self._all_raw_ids[item - 1] for item in ids_N.tolist()]

    @property
    def vectors(self) -> np.ndarray:
        """Vectors of these items, float32 [N, D]."""
        return self.catalogue.vectors_ND

    @cached_property
    def _all_raw_ids(self) -> list[str]:
        raw_ids: list[str] = self.data.catalogue.table["raw_id"].to_pylist()
        return raw_ids

    @cached_property
    def _number_of(self) -> dict[str, int]:
        # items are numbered from 1, in the order of the catalogue
        return {raw_id: item for item, raw_id in enumerate(self._all_raw_ids, start=1)}

    def recommend(
        self, history: Sequence[str], user: str | None, count: int
    ) -> list[Recommendation]:
        """Return the best items, without those of the history.

        Args:
            history: raw ids of items, oldest first; used if `user` is None.
            user: raw id. The history is then everything that the user has watched.
            count: how many items to return at most.

        Raises:
            HistoryError: the user or an item does not exist, no item of the history could be read,
                or the model can only score users seen in training.
            TypeError, ValueError: the history is no sequence of strings, or the count no whole
                number of at least 1.
        """
        count = as_count(count)
        if user is None:
            score_N = self._scores([self._items_of(history)], None)[0]
        else:
            number = self._number_of_user(user)
            seen = self.data.sequences.items_of(number)
            score_N = self._scores([seen], np.array([number]))[0]
        num_candidates = int(torch.isfinite(score_N).sum())
        best = score_N.topk(min(count, num_candidates))
        items_K = self.catalogue.ranking.ids_N[best.indices.cpu().numpy()]
        return described(self.data.catalogue, items_K, best.values.cpu().numpy())

    def scores(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the score of every item after each history, float32 [B, N].

        Items of the history have -inf.

        Raises:
            HistoryError, TypeError: as `recommend`.
        """
        items = [self._items_of(history) for history in histories]
        chunk = self.config.evaluate.user_chunk
        rows_N = self.catalogue.rows_N
        parts = [np.empty((0, len(rows_N)), dtype=np.float32)]
        for start in range(0, len(items), chunk):
            score_bN = self._scores(items[start : start + chunk], None)
            parts.append(score_bN.cpu().numpy()[:, rows_N])
        return np.concatenate(parts)

    @torch.no_grad()
    def encode(self, media: Mapping[str, Any]) -> np.ndarray:
        """Return the vectors of n new items by the item tower, float32 [n, D].

        Args:
            media: as in `media_tensors`.

        Raises:
            ValueError: the media are not those that the encoders read.
        """
        tower = self._model.tower
        delivered = tower.specs
        # media from Python are decoded, also where the loader leaves that to the device
        specs = tuple(replace(spec, jpegs=None) for spec in delivered)
        tensors = media_tensors(media, specs, tower.names, str(self.run))
        tower.specs = specs
        try:
            vectors_nD = tower.encode(tensors, most=1, device=self._world.device)
        finally:
            tower.specs = delivered
        return vectors_nD.float().cpu().numpy()

    @torch.no_grad()
    def _scores(self, histories: Sequence[np.ndarray], users_B: np.ndarray | None) -> torch.Tensor:
        """Return the scores of all ranked items, float32; -inf for unreadable ones and the history.

        Args:
            histories: B times int64 [S], items.
            users_B: numbers of the users; None if the histories belong to nobody.
        """
        ranking = self.catalogue.ranking
        knows_users = ranking.vectors.users_MX is not None
        if knows_users and users_B is None:
            raise HistoryError(
                f"{self.config.recommender.name} can only score users seen in training. "
                "Give a user instead of a history"
            )
        readable_N = ranking.ids_N[self.catalogue.rows_N]
        known = [seen_S[np.isin(seen_S, readable_N)] for seen_S in histories]
        # padded with 0 on the left, as histories are in training
        length = self.data.info.split.history_length
        history_BL = np.zeros((len(known), length), dtype=np.int64)
        for row, known_S in enumerate(known):
            if not len(histories[row]) and not knows_users:
                raise HistoryError(
                    "this history is empty, so there is nothing to recommend after. Give at least "
                    "one item"
                )
            if not len(known_S) and not knows_users:
                raise HistoryError(
                    f"no item of this history could be read: {self._in_words(histories[row])}. "
                    "Give another history"
                )
            newest = known_S[-length:]
            history_BL[row, length - len(newest) :] = newest
        # a model without users ignores the users' numbers
        users_B = np.zeros(len(known), dtype=np.int64) if users_B is None else users_B
        score_BN = ranking.scores(ranking.states_after(users_B, history_BL))
        for row, known_S in enumerate(known):
            # known items only, because row_N1 is -1 for others and would exclude the last item
            score_BN[row, ranking.row_N1[known_S]] = -torch.inf
        return score_BN

    def _in_words(self, seen_S: np.ndarray) -> str:
        cells = ",".join(as_cell(self._all_raw_ids[item - 1]) for item in seen_S.tolist())
        return printable(cells, MAX_SHOWN_CHARACTERS)

    def _items_of(self, history: Sequence[str]) -> np.ndarray:
        check_history(history)
        unknown = [raw_id for raw_id in history if raw_id not in self._number_of]
        if unknown:
            shown = printable(
                ", ".join(as_cell(raw_id) or '""' for raw_id in unknown), MAX_SHOWN_CHARACTERS
            )
            first = ", ".join(map(as_cell, self._all_raw_ids[:3]))
            raise HistoryError(
                f"{shown}: the catalogue has no such item. Its first items are {first}"
            )
        return np.array([self._number_of[raw_id] for raw_id in history], dtype=np.int64)

    def _number_of_user(self, user: str) -> int:
        try:
            return self.data.sequences.number_of(user)
        except ValueError as error:
            raise HistoryError(str(error)) from error
