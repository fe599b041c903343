"""What a service loads: a run's sequence model, the vectors and raw ids of all items, and an index; no encoder, no data set."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
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
from mlrec.serving.exported import REMEDY, Export
from mlrec.serving.index import as_array, check_index, search


class ServedModel:
    """An exported run, ready to recommend."""

    def __init__(self, url: str, overrides: Sequence[str] = ()) -> None:
        """
        Args:
            url: what `mlrec export RUN OUT --index` wrote.
            overrides: "key=value" over its settings, such as data.url.

        Raises:
            ValueError: it is no such folder, or its files are not of one export.
        """
        with tempfile.TemporaryDirectory() as folder:
            export = Export(url, Path(folder))
            self.config = _exported_config(export, overrides)
            self.url, self._length = url, export.facts.history_length
            self.dataset = export.facts.dataset
            """Fingerprint of the data set that the run was trained on."""
            items = export.read_items()
            self.items_N = items.ids_N
            """int64: numbers in that data set of the items that can be recommended, ascending."""
            self.raw_ids_N = items.raw_ids_N
            """Their raw ids."""
            self._slot_of = {raw_id: slot for slot, raw_id in enumerate(self.raw_ids_N)}
            found, width = items.vectors_ND.shape[1], self.config.recommender.width
            if found != width:
                raise ValueError(
                    f"{url}: {VECTORS_FILE} has vectors of width {found}, not {width}. {REMEDY}."
                )
            self._model = export.read_sequence_model(
                lambda: build_user_model(self.config.recommender, self._length)
            ).eval()
            with torch.no_grad():
                self._vectors = self._model.prepare(
                    torch.tensor(self.items_N), torch.tensor(items.vectors_ND)
                )
            self._index = export.read_index(self.items_N, as_array(self._vectors.items_UX))

    @torch.no_grad()
    def recommend(self, history: Sequence[str], count: int) -> tuple[list[str], np.ndarray]:
        """The best items after a history, without those of the history.

        Args:
            history: raw ids of items, oldest first; items without a vector are passed over.

        Returns:
            Raw ids, best first, at most `count`; and their scores, float32 [K].

        Raises:
            ValueError: no item of the history has a vector, so that there is no state: a service falls back to popular items.
        """
        slots = [self._slot_of[raw_id] for raw_id in history if raw_id in self._slot_of]
        if not slots:
            raise ValueError(
                f"none of the history's {len(history)} items (newest {list(history[-3:])}) has a vector in {self.url}; items are "
                "given by their raw ids, as strings; without a vector there is no state of the user; recommend what needs no "
                "history, such as the most popular items"
            )
        slots_BL = torch.tensor([slots[-self._length :]])
        states_BX = self._model.last_states(
            self._vectors, torch.zeros(1, dtype=torch.int64), slots_BL
        )
        if not torch.isfinite(states_BX).all():
            raise ValueError(f"{self.url}: the state after this history is not finite. {REMEDY}.")
        items_K, scores_K = search(self._index, as_array(states_BX)[0], self.items_N[slots], count)
        return [self.raw_ids_N[slot] for slot in np.searchsorted(self.items_N, items_K)], scores_K


def _exported_config(export: Export, overrides: Sequence[str]) -> Config:
    file = export.config_file()
    config = configuration.load_saved(file, overrides)
    if changed := differences(configuration.load_saved(file), config, WITHOUT_EFFECT):
        raise ValueError(
            f"{export.url}: cannot override settings fixed at training time ({changed}). Leave these out"
        )
    check_model_settings(
        config, export.facts.settings, storage.join(export.url, CONFIG_FILE), "this export"
    )
    check_recommender(config.recommender)
    check_index(config)
    return config
