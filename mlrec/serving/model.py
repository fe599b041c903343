"""What a service loads of an export: sequence model, item vectors and index, but no encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from mlrec import config as configuration
from mlrec import storage
from mlrec.config import Config
from mlrec.config.run_files import CONFIG_FILE
from mlrec.data.features.info import VECTORS_FILE
from mlrec.models.recommenders import build_user_model, check_recommender
from mlrec.runs.compatibility import WITHOUT_EFFECT, check_model_settings, differences
from mlrec.runtime.printable import printable
from mlrec.serving.exported import REMEDY, Export
from mlrec.serving.index import as_array, check_index, search


class ServedModel:
    """An exported run, ready to recommend. It needs no data set and no encoder."""

    def __init__(self, url: str, overrides: Sequence[str] = ()) -> None:
        """Load an export.

        Args:
            url: folder or URL that `mlrec export RUN OUT --index` wrote.
            overrides: "key=value" settings that replace those of the export, such as data.url.

        Raises:
            ValueError: `url` is no export with an index, or its files are damaged or do not belong
                together.
        """
        self.url = url
        # copies of remote files are needed only until everything is in memory
        with tempfile.TemporaryDirectory() as folder:
            export = Export(url, Path(folder))
            self.config = _exported_config(export, overrides)
            self._history_length = export.facts.history_length
            self.dataset = export.facts.dataset
            """Fingerprint of the data set that the run was trained on."""
            items = export.read_items()
            self.items_N = items.ids_N
            """int64, ascending: ids, in that data set, of the items that can be recommended."""
            self.raw_ids_N = items.raw_ids_N
            """Raw ids of the same items."""
            self._row_of = {raw_id: row for row, raw_id in enumerate(self.raw_ids_N)}
            self.vectors_ND = items.vectors_ND
            """Vectors of these items by the item tower, float32."""
            _check_width(url, items.vectors_ND, self.config.recommender.width)
            self._model = export.read_sequence_model(
                lambda: build_user_model(self.config.recommender, self._history_length)
            ).eval()
            with torch.no_grad():
                self._vectors = self._model.prepare(
                    torch.tensor(self.items_N), torch.tensor(items.vectors_ND)
                )
            self._index = export.read_index(self.items_N, as_array(self._vectors.items_UX))

    @torch.no_grad()
    def recommend(self, history: Sequence[str], count: int) -> tuple[list[str], np.ndarray]:
        """Return the best items after a history, without the items of the history.

        Args:
            history: raw ids of items, oldest first. Items without a vector are ignored.
            count: how many items to return at most.

        Returns:
            Raw ids, best first, and their scores, float32 [K].

        Raises:
            TypeError: the history is not a sequence of strings, or the count not a whole number.
            ValueError: the count is below 1, or no item of the history has a vector, so the user
                has no state. A service then recommends popular items.
        """
        check_history(history)
        count = as_count(count)
        rows = self._rows_of(history)
        state_X = as_array(self._states([rows]))[0]
        # the whole history is excluded, also what is too old for the model to see
        hits = search(self._index, state_X, self.items_N[rows], count)
        rows_K = np.searchsorted(self.items_N, hits.items_K)
        return [self.raw_ids_N[row] for row in rows_K], hits.scores_K

    @torch.no_grad()
    def scores(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the score of every item after each history, float32 [B, N], without the index.

        Items of the history have -inf.

        Raises:
            TypeError, ValueError: as `recommend`.
        """
        rows = [self._rows_of(history) for history in histories]
        if not rows:
            return np.empty((0, len(self.items_N)), dtype=np.float32)
        score_BN = as_array(self._model.score(self._states(rows), self._vectors.items_UX))
        for score_N, seen in zip(score_BN, rows, strict=True):
            score_N[seen] = -np.inf
        return score_BN

    def _rows_of(self, history: Sequence[str]) -> list[int]:
        """Return the rows of a history's items, without those that have no vector."""
        check_history(history)
        rows = [self._row_of[raw_id] for raw_id in history if raw_id in self._row_of]
        if not len(history):
            raise ValueError("Cannot recommend after an empty history. Give at least one item")
        if not rows:
            raise ValueError(
                f"Cannot recommend after this history: none of its {len(history)} items (newest "
                f"{list(history[-3:])}) has a vector in {self.url}, so the user has no state. Pass "
                "raw ids as strings, or recommend the most popular items"
            )
        return rows

    def _states(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Return the states [B, X] after histories that are given as rows of items."""
        # padded with -1 on the left, as histories are in training
        longest = min(self._history_length, max(map(len, rows)))
        history_BL = torch.full((len(rows), longest), -1)
        for history_L, seen in zip(history_BL, rows, strict=True):
            newest = torch.tensor(seen[-longest:])
            history_L[longest - len(newest) :] = newest
        users_B = torch.zeros(len(rows), dtype=torch.int64)
        states_BX = self._model.last_states(self._vectors, users_B, history_BL)
        if not torch.isfinite(states_BX).all():
            raise ValueError(f"{self.url}: the state after this history is not finite. {REMEDY}.")
        return states_BX


def check_history(history: object) -> None:
    """Check the history of a request, which no type checker may have seen.

    Raises:
        TypeError: it is no sequence of strings.
    """
    # a string is a sequence of strings too, its letters
    if isinstance(history, str) or not isinstance(history, Sequence | np.ndarray):
        raise TypeError(
            f"Cannot recommend after the history {printable(repr(history), 60)}: it is of type "
            f"{type(history).__name__}. Pass a list of raw ids, oldest first"
        )
    for raw_id in history:
        if not isinstance(raw_id, str):
            raise TypeError(
                f"Cannot recommend after a history with {printable(repr(raw_id), 60)}, which is of "
                f"type {type(raw_id).__name__}. Pass raw ids as strings"
            )


def as_count(count: object) -> int:
    """Return how many items a request asks for.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below 1.
    """
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise TypeError(
            f"Cannot recommend {printable(repr(count), 60)} items. Pass a whole number as count"
        )
    if count < 1:
        raise ValueError(f"Cannot recommend {count} items. Pass a count of at least 1")
    return int(count)


def _check_width(url: str, vectors_ND: np.ndarray, expected: int) -> None:
    width = vectors_ND.shape[1]
    if width != expected:
        raise ValueError(
            f"{url}: {VECTORS_FILE} has vectors of width {width}, not {expected}. {REMEDY}."
        )


def _exported_config(export: Export, overrides: Sequence[str]) -> Config:
    """Return the configuration of an export, which must describe the exported model.

    Raises:
        ValueError: an override changes the model, or the file was edited.
    """
    file = export.config_file()
    config = configuration.load_saved(file, overrides)
    changed = differences(configuration.load_saved(file), config, WITHOUT_EFFECT)
    if changed:
        raise ValueError(
            f"{export.url}: cannot override settings fixed at training time ({changed}). "
            "Leave these out"
        )
    place = storage.join(export.url, CONFIG_FILE)
    check_model_settings(config, export.facts.settings, place, "this export")
    check_recommender(config.recommender)
    check_index(config)
    return config
