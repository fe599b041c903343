"""Write the vectors of all items, and an HNSW index over them, next to an export.

Shape letters: N items with a vector, D width of item vectors, X width of what states are scored
with, B users, K recommendations, S items of a history.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from mlrec.data.stream import Data, open_data
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

ITEMS_PER_CALL = 8192
"""Items that one call adds to the index, between two updates of the progress bar."""
LINKS_PER_ITEM = 32
"""M of HNSW (Malkov and Yashunin, 2016)."""
BUILD_DEPTH = 200
"""efConstruction of HNSW: candidates that are kept while an item is added."""
RECALL_CUT_OFF = 10
MAX_RECALL_USERS = 1000


class Hits(NamedTuple):
    """What a search of the index returns."""

    items_K: np.ndarray
    """int64 ids, best first."""
    scores_K: np.ndarray
    """float32."""


@dataclass(frozen=True)
class IndexedItems:
    """The items of an index; row i of every array belongs to the same item."""

    ids_N: np.ndarray
    """int64, ascending."""
    vectors_ND: np.ndarray
    """float32: vectors of the item tower."""
    scored_NX: np.ndarray
    """float32: what states are scored with, made from the vectors by the recommender."""


def check_index(config: Config) -> None:
    """Check that an index can be built for a run.

    Raises:
        ValueError: the recommender does not score by a product, or faiss is not installed.
    """
    load_faiss()
    if not scores_by_product(lookup(RECOMMENDERS, config.recommender.name, "recommender")):
        raise ValueError(
            f"Cannot index the items of {config.recommender.name}: it does not score by the "
            "product of a history's state and an item's vector, which is what an index searches. "
            "Export it without --index"
        )


@torch.no_grad()
def export_index(config: Config, path: Path, out: str, weights_sha256: str, world: World) -> float:
    """Encode the catalogue with a checkpoint, and write vectors, raw ids and index to `out`.

    Args:
        path: the checkpoint.
        out: any URL.
        weights_sha256: SHA-256 of the weights that `export` wrote to `out`.

    Returns:
        recall@10: the share of the ten best items by exact search that the index returns, over the
        test histories of up to 1,000 users.

    Raises:
        RuntimeError: the item tower gives vectors that are not finite.
    """
    data = open_data(config.data)
    model = load_model(config, data, world, path).eval()
    # collective: every rank encodes its share of the items and gets the vectors of all
    catalogue = encode_catalogue(model, data, config, world)
    ranking = Ranking(model, data, catalogue.items_ND, catalogue.readable_N)
    readable_N = catalogue.readable_N.cpu().numpy()
    items = IndexedItems(
        ids_N=ranking.ids_N[readable_N],
        vectors_ND=as_array(catalogue.items_ND)[readable_N],
        scored_NX=as_array(ranking.vectors.items_UX)[readable_N],
    )
    # checked before building: an index over NaN is useless, and measuring its recall fails late
    if not (np.isfinite(items.vectors_ND).all() and np.isfinite(items.scored_NX).all()):
        raise RuntimeError(
            "No index was written: the item tower gives vectors that are not finite. "
            "Look for NaN in the losses of the run"
        )
    index = _build_index(items)
    # measured before publishing: if it fails, the item files at `out` are still of one export
    recall = _recall(index, ranking, data)
    sha256 = {WEIGHTS_FILE: weights_sha256} | _publish(index, items, data, out)
    # item vectors are also features that another run can read
    maker = Maker(f"item tower of {config.name}", str(path))
    write_info(out, items.vectors_ND, sha256, item_ids(data), maker)
    facts = {
        "history_length": data.info.split.history_length,
        "recall@10": recall,
        "dataset": data.info.fingerprint,
        "sha256": sha256,
        "settings": model_settings(config),
    }
    # written last: an export without it is not served
    content = json.dumps(facts, indent=1) + "\n"
    storage.write_bytes(storage.join(out, SERVING_FILE), content.encode())
    return recall


def _build_index(items: IndexedItems) -> Any:
    """Return a faiss index that maps states to ids of items by inner product."""
    faiss = load_faiss()
    width = items.scored_NX.shape[1]
    graph = faiss.IndexHNSWFlat(width, LINKS_PER_ITEM, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILD_DEPTH
    graph.hnsw.efSearch = SEARCH_DEPTH
    # HNSW numbers its vectors from 0, and the map turns these numbers into item ids
    index = faiss.IndexIDMap2(graph)
    count = len(items.ids_N)
    calls = np.split(np.arange(count), range(ITEMS_PER_CALL, count, ITEMS_PER_CALL))
    for rows_n in track(calls, "indexing items", count, amount=len):
        index.add_with_ids(items.scored_NX[rows_n], items.ids_N[rows_n])
    return index


def _recall(index: Any, ranking: Ranking, data: Data) -> float:
    """Return the share of the best items by exact search that the index returns."""
    evaluated_V = data.sequences.evaluated_users("test")
    users_B = evaluated_V[evenly_spaced(len(evaluated_V), MAX_RECALL_USERS)]
    exact_BK = ranking.top(users_B, "test", RECALL_CUT_OFF)
    states_BX = as_array(ranking.states(users_B, "test"))
    seen_BS = data.sequences.seen(users_B, "test")
    users = list(zip(states_BX, seen_BS, exact_BK, strict=True))
    shares = []
    for state_X, seen_S, exact_K in track(users, "comparing users with exact search"):
        hits = search(index, state_X, seen_S, RECALL_CUT_OFF)
        # 0 pads the exact items of users who have seen nearly all of the catalogue
        shares.append(np.isin(exact_K[exact_K > 0], hits.items_K).mean())
    return float(np.mean(shares))


def _publish(index: Any, items: IndexedItems, data: Data, out: str) -> dict[str, str]:
    """Write an index and its items to `out`, and return the SHA-256 of each file."""
    faiss = load_faiss()
    # while files are replaced, old ids must not describe new vectors
    for name in (INFO_FILE, ITEMS_FILE):
        storage.remove(storage.join(out, name))
    sha256 = {}
    with tempfile.TemporaryDirectory() as folder:
        faiss.write_index(index, f"{folder}/{INDEX_FILE}")
        # another version of faiss may write a layout that ServedModel would refuse
        raw = Path(folder, INDEX_FILE).read_bytes()
        check_index_file(raw, items.ids_N, items.scored_NX)
        np.save(f"{folder}/{VECTORS_FILE}", items.vectors_ND, allow_pickle=False)
        np.save(f"{folder}/{ITEMS_FILE}", items.ids_N, allow_pickle=False)
        raw_ids = data.catalogue.table["raw_id"].take(pa.array(items.ids_N - 1)).to_pylist()
        Path(folder, RAW_IDS_FILE).write_text(json.dumps(raw_ids), encoding="utf-8")
        for name in (INDEX_FILE, VECTORS_FILE, RAW_IDS_FILE, ITEMS_FILE):
            sha256[name] = storage.sha256_of(f"{folder}/{name}")
            storage.publish(Path(folder, name), storage.join(out, name))
    return sha256


def search(index: Any, state_X: np.ndarray, seen_S: np.ndarray, count: int) -> Hits:
    """Return the best items of an index for a state, without those that the user has seen.

    Args:
        seen_S: int64, ids of items.
        count: how many items to return at most.
    """
    # the index cannot exclude items, so the search returns as many more as may be dropped
    num_candidates = min(index.ntotal, count + len(seen_S))
    scores_1K, items_1K = index.search(state_X[None], num_candidates)
    scores_K = scores_1K[0]
    items_K = items_1K[0]
    # faiss fills up with -1 where its search reached too few items
    is_new_K = (items_K >= 0) & ~np.isin(items_K, seen_S)
    return Hits(items_K[is_new_K][:count], scores_K[is_new_K][:count])


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as a contiguous float32 array, as faiss requires it."""
    return np.ascontiguousarray(tensor.float().cpu().numpy())
