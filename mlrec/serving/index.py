"""Write the vectors of all items and an HNSW index of them beside an export."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mlrec import storage
from mlrec.config import Config
from mlrec.config.run_files import WEIGHTS_FILE
from mlrec.data.features.info import (
    INFO_FILE,
    ITEMS_FILE,
    RAW_IDS_FILE,
    VECTORS_FILE,
    Maker,
    write_info,
)
from mlrec.data.schema import lookup
from mlrec.data.spacing import evenly_spaced
from mlrec.data.stream import open_data
from mlrec.evaluation.evaluate import encode_catalogue
from mlrec.evaluation.ranking import Ranking
from mlrec.evaluation.trained_model import load_model
from mlrec.models.building import item_ids
from mlrec.models.recommenders import RECOMMENDERS, scores_by_product
from mlrec.runs.compatibility import model_settings
from mlrec.runtime.distributed import World
from mlrec.runtime.progress import track
from mlrec.serving.exported import INDEX_FILE, SEARCH_DEPTH, SERVING_FILE, load_faiss
from mlrec.serving.index_file import check_index_file

ADDED_ITEMS = 8192
"""Of a call that adds to the index."""
LINKS = 32
BUILD_DEPTH = 200
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
        ids_N, scored_NX = ranking.ids_N[readable_N], as_array(ranking.vectors.items_UX)[readable_N]
        graph = faiss.IndexHNSWFlat(scored_NX.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILD_DEPTH, SEARCH_DEPTH
        index = faiss.IndexIDMap2(graph)
        runs = np.split(np.arange(len(ids_N)), range(ADDED_ITEMS, len(ids_N), ADDED_ITEMS))
        for run_n in track(runs, "indexing items", len(ids_N), amount=len):
            index.add_with_ids(scored_NX[run_n], ids_N[run_n])
        users_B = evenly_spaced(data.sequences.num_users, COMPARED_USERS)
        exact_BK = ranking.top(users_B, "test", CUT_OFF)
        states_BX, seen_BS = (
            as_array(ranking.states(users_B, "test")),
            data.sequences.seen(users_B, "test"),
        )
    users = track(list(zip(states_BX, seen_BS, strict=True)), "comparing users with exact search")
    found = [search(index, state_X, seen_S, CUT_OFF)[0] for state_X, seen_S in users]
    shares = [
        np.isin(best_K[best_K > 0], items).mean()
        for best_K, items in zip(exact_BK, found, strict=True)
    ]
    recall = float(np.mean(shares))
    vectors_ND = as_array(catalogue.items_ND)[readable_N]
    if not (np.isfinite(vectors_ND).all() and np.isfinite(scored_NX).all()):
        raise RuntimeError(
            "the item tower gives vectors that are not finite, so no index is written; look for NaN in the run's losses"
        )
    sha256 = {WEIGHTS_FILE: weights_sha256}
    for name in (INFO_FILE, ITEMS_FILE):  # ids of an older export must not stand beside new vectors
        storage.remove(storage.join(out, name))
    with tempfile.TemporaryDirectory() as folder:
        faiss.write_index(index, f"{folder}/{INDEX_FILE}")
        check_index_file(
            Path(folder, INDEX_FILE).read_bytes(), ids_N, scored_NX
        )  # another faiss may write another layout
        np.save(f"{folder}/{VECTORS_FILE}", vectors_ND, allow_pickle=False)
        np.save(f"{folder}/{ITEMS_FILE}", ids_N, allow_pickle=False)
        raw_ids = data.catalogue.table["raw_id"].take(pa.array(ids_N - 1)).to_pylist()
        Path(folder, RAW_IDS_FILE).write_text(json.dumps(raw_ids), encoding="utf-8")
        for name in (INDEX_FILE, VECTORS_FILE, RAW_IDS_FILE, ITEMS_FILE):
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
    write_info(
        out, vectors_ND.shape, sha256, item_ids(data), maker
    )  # the vectors are features for another run too
    storage.write_bytes(
        storage.join(out, SERVING_FILE), (json.dumps(facts, indent=1) + "\n").encode()
    )
    return recall


def search(
    index: Any, state_X: np.ndarray, seen_S: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best items of the index and their scores, without the seen ones."""
    wanted = min(index.ntotal, count + len(seen_S))
    scores, items = (found[0] for found in index.search(state_X[None], wanted))
    left = (items >= 0) & ~np.isin(items, seen_S)
    return items[left][:count], scores[left][:count]


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy())
