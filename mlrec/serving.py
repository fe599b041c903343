"""What a service loads: a run's sequence model, the vectors and raw ids of all items, and an index; no encoder, no data set."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mlrec import config as configuration
from mlrec import storage
from mlrec.config import Config
from mlrec.data.stream import open_data
from mlrec.distributed import World
from mlrec.engine import item_ids
from mlrec.evaluate import encode_catalogue, load_model
from mlrec.exported import (
    FEATURES_FILE,
    INDEX_FILE,
    ITEMS_FILE,
    RAW_IDS_FILE,
    REMEDY,
    SEARCH_DEPTH,
    SERVING_FILE,
    Export,
    load_faiss,
)
from mlrec.feature_files import INFO_FILE, Maker, write_info
from mlrec.index_file import check_index_file
from mlrec.models.recommenders import RECOMMENDERS, build_user_model, check_recommender, scores_by_product
from mlrec.progress import track
from mlrec.ranking import Ranking
from mlrec.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.schema import lookup
from mlrec.settings import WITHOUT_EFFECT, check_model_settings, differences, model_settings

ADDED_ITEMS = 8192
"""Of a call that adds to the index."""
LINKS, BUILD_DEPTH = 32, 200
CUT_OFF = 10
COMPARED_USERS = 1000


def check_index(config: Config) -> None:
    """
    Raises:
        ValueError: the recommender has no index of its items, or the package for it is not installed.
    """
    load_faiss()
    if not scores_by_product(lookup(RECOMMENDERS, config.recommender.name, "recommender")):
        raise ValueError(
            f"{config.recommender.name} does not score by the product of a history's state and an item's vector, which is what "
            "an index searches; export it without --index"
        )


def export_index(config: Config, path: Path, out: str, weights_sha256: str, world: World) -> float:
    """Encodes the catalogue with the checkpoint at `path` and writes vectors, raw ids and index to `out`, any URL.

    Args:
        weights_sha256: of the same checkpoint's weights, which `export` wrote to `out`.

    Returns:
        recall@10: of the ten best items by exact search, over up to 1,000 users' test histories, the share that the index finds.
    """
    faiss = load_faiss()
    data = open_data(config.data)
    model = load_model(config, data, world, path).eval()
    with torch.no_grad():
        catalogue = encode_catalogue(model, data, config, world)
        ranking = Ranking(model, data, catalogue.items_ND, catalogue.readable_N)
        readable_N = catalogue.readable_N.cpu().numpy()
        ids_N, scored_NX = ranking.ids_N[readable_N], _array(ranking.vectors.items_UX)[readable_N]
        graph = faiss.IndexHNSWFlat(scored_NX.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILD_DEPTH, SEARCH_DEPTH
        index = faiss.IndexIDMap2(graph)
        runs = np.split(np.arange(len(ids_N)), range(ADDED_ITEMS, len(ids_N), ADDED_ITEMS))
        for run_n in track(runs, "indexing items", len(ids_N), amount=len):
            index.add_with_ids(scored_NX[run_n], ids_N[run_n])
        users_B = np.unique(np.linspace(0, data.sequences.num_users - 1, COMPARED_USERS).astype(np.int64))
        exact_BK = ranking.top(users_B, "test", CUT_OFF)
        states_BX, seen_BS = _array(ranking.states(users_B, "test")), data.sequences.seen(users_B, "test")
    users = track(list(zip(states_BX, seen_BS, strict=True)), "comparing users with exact search")
    found = [_search(index, state_X, seen_S, CUT_OFF)[0] for state_X, seen_S in users]
    shares = [np.isin(best_K[best_K > 0], items).mean() for best_K, items in zip(exact_BK, found, strict=True)]
    recall = float(np.mean(shares))
    vectors_ND = _array(catalogue.items_ND)[readable_N]
    if not (np.isfinite(vectors_ND).all() and np.isfinite(scored_NX).all()):
        raise RuntimeError(
            "the item tower gives vectors that are not finite, so no index is written; look for NaN in the run's losses"
        )
    sha256 = {WEIGHTS_FILE: weights_sha256}
    for name in (INFO_FILE, ITEMS_FILE):  # ids of an older export must not stand beside new vectors
        storage.remove(storage.join(out, name))
    with tempfile.TemporaryDirectory() as folder:
        faiss.write_index(index, f"{folder}/{INDEX_FILE}")
        check_index_file(Path(folder, INDEX_FILE).read_bytes(), ids_N, scored_NX)  # another faiss may write another layout
        np.save(f"{folder}/{FEATURES_FILE}", vectors_ND, allow_pickle=False)
        np.save(f"{folder}/{ITEMS_FILE}", ids_N, allow_pickle=False)
        raw_ids = data.catalogue.table["raw_id"].take(pa.array(ids_N - 1)).to_pylist()
        Path(folder, RAW_IDS_FILE).write_text(json.dumps(raw_ids), encoding="utf-8")
        for name in (INDEX_FILE, FEATURES_FILE, RAW_IDS_FILE, ITEMS_FILE):
            sha256[name] = storage.sha256_of(f"{folder}/{name}")
            storage.publish(Path(folder, name), storage.join(out, name))
    facts = {
        "history_length": data.info.split.history_length,
        "recall@10": recall,
        "dataset": data.info.fingerprint,
        "sha256": sha256,
        "settings": model_settings(config),
    }
    maker = Maker(f"item tower of {config.name}", str(path))
    write_info(out, vectors_ND.shape, sha256, item_ids(data), maker)  # the vectors are features for another run too
    storage.write_bytes(storage.join(out, SERVING_FILE), (json.dumps(facts, indent=1) + "\n").encode())
    return recall


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
                raise ValueError(f"{url}: {FEATURES_FILE} has vectors of width {found}, not {width}. {REMEDY}.")
            self._model = export.read_sequence_model(lambda: build_user_model(self.config.recommender, self._length)).eval()
            with torch.no_grad():
                self._vectors = self._model.prepare(torch.tensor(self.items_N), torch.tensor(items.vectors_ND))
            self._index = export.read_index(self.items_N, _array(self._vectors.items_UX))

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
        states_BX = self._model.last_states(self._vectors, torch.zeros(1, dtype=torch.int64), slots_BL)
        if not torch.isfinite(states_BX).all():
            raise ValueError(f"{self.url}: the state after this history is not finite. {REMEDY}.")
        items_K, scores_K = _search(self._index, _array(states_BX)[0], self.items_N[slots], count)
        return [self.raw_ids_N[slot] for slot in np.searchsorted(self.items_N, items_K)], scores_K


def _exported_config(export: Export, overrides: Sequence[str]) -> Config:
    file = export.config_file()
    config = configuration.load_saved(file, overrides)
    if changed := differences(configuration.load_saved(file), config, WITHOUT_EFFECT):
        raise ValueError(f"{export.url}: cannot override settings fixed at training time ({changed}). Leave these out")
    check_model_settings(config, export.facts.settings, storage.join(export.url, CONFIG_FILE), "this export")
    check_recommender(config.recommender)
    check_index(config)
    return config


def _search(index: Any, state_X: np.ndarray, seen_S: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The best items of the index and their scores, without the seen ones."""
    wanted = min(index.ntotal, count + len(seen_S))
    scores, items = (found[0] for found in index.search(state_X[None], wanted))
    left = (items >= 0) & ~np.isin(items, seen_S)
    return items[left][:count], scores[left][:count]


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy())
