"""An export with an index, read into checked values: serving.json names each of its files by SHA-256."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from mlrec import storage
from mlrec.data.format import read_npy
from mlrec.run_files import WEIGHTS_FILE
from mlrec.typed_json import STRICT, parse_json

ITEMS_FILE, FEATURES_FILE = "items.npy", "features.npy"
"""int64 [n], ids ascending; float32 [n, D], the item tower's vectors of them. Together they are features for another run too."""
RAW_IDS_FILE = "raw_ids.json"
"""A list of strings: the raw data's ids of the items in items.npy, in its order."""
INDEX_FILE = "index.faiss"
"""HNSW graph over what states are scored with (Malkov and Yashunin, 2016), by inner product; its ids are those of items.npy."""
SERVING_FILE = "serving.json"
"""Written last: history_length, recall@10, dataset (the fingerprint), and the sha256 of each file that must be of one export."""
REMEDY = "Write all of the export again: mlrec export RUN OUT --index"

MAX_HISTORY_LENGTH = 1 << 16
SEARCH_DEPTH = 256
"""Candidates that a search of the index keeps."""
_SEQUENCE_MODEL = "sequence_model."

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def load_faiss() -> Any:
    """Return the package that searches indexes.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError("an index of items needs faiss; pip install 'mlrec[index]'") from error
    return faiss


@dataclass(frozen=True)
class ServingFacts:
    """The content of serving.json."""

    __pydantic_config__ = STRICT

    history_length: Annotated[int, Field(ge=1, le=MAX_HISTORY_LENGTH)]
    recall: Annotated[float, Field(ge=0, le=1, alias="recall@10")]
    """Share of the ten best items by exact search that the index finds."""
    dataset: Sha256
    """Fingerprint of the data set that the run was trained on."""
    sha256: dict[str, Sha256]


@dataclass(frozen=True)
class ExportedItems:
    """The items that can be recommended, in ascending order of their ids."""

    ids_N: np.ndarray
    """int64, from 1."""
    raw_ids_N: list[str]
    vectors_ND: np.ndarray
    """float32: the item tower's vectors."""


class Export:
    """The folder or URL of an export."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            ValueError: it has no serving.json, or a damaged one.
        """
        self.url = url
        where = storage.join(url, SERVING_FILE)
        if not storage.exists(where):
            raise ValueError(f"{url} has no {SERVING_FILE}; mlrec export RUN OUT --index writes what is served")
        self.facts = parse_json(storage.read_bytes(where), ServingFacts, where, REMEDY)

    def _damaged(self, name: str, reason: object) -> ValueError:
        words = " ".join(str(reason).split())
        return ValueError(f"{storage.join(self.url, name)} is damaged: {words}. {REMEDY}.")

    def _read(self, name: str) -> bytes:
        """Return the content of the export's file, if it is the one that serving.json names."""
        where = storage.join(self.url, name)
        raw = storage.read_bytes(where) if storage.exists(where) else b""
        if hashlib.sha256(raw).hexdigest() != self.facts.sha256.get(name):
            raise ValueError(
                f"{where} is missing, or is not the file that {SERVING_FILE} beside it names by its sha256; "
                "mlrec export RUN OUT --index writes all of an export anew"
            )
        return raw

    def _array(self, name: str, dtype: type[np.generic], ndim: int) -> np.ndarray:
        raw = self._read(name)
        try:
            array = read_npy(raw)
        except (ValueError, EOFError, SyntaxError, MemoryError) as error:
            raise self._damaged(name, error) from error
        if array.dtype != dtype or array.ndim != ndim:
            raise self._damaged(name, f"{array.dtype} of shape {list(array.shape)}, not {np.dtype(dtype)} with {ndim} dimensions")
        return array

    def read_items(self) -> ExportedItems:
        """Return the items with their vectors.

        Raises:
            ValueError: a file is missing or damaged, or they do not belong together.
        """
        ids_N = self._array(ITEMS_FILE, np.int64, 1)
        if not len(ids_N) or ids_N[0] < 1 or (np.diff(ids_N) <= 0).any():
            raise self._damaged(ITEMS_FILE, "item ids must be 1 or more and ascend")
        where = storage.join(self.url, RAW_IDS_FILE)
        raw_ids_N = parse_json(self._read(RAW_IDS_FILE), list[str], where, REMEDY)
        if len(raw_ids_N) != len(ids_N) or len(set(raw_ids_N)) != len(raw_ids_N):
            raise self._damaged(RAW_IDS_FILE, f"{len(set(raw_ids_N))} different ids for {len(ids_N)} items")
        vectors_ND = self._array(FEATURES_FILE, np.float32, 2)
        if len(vectors_ND) != len(ids_N) or not np.isfinite(vectors_ND).all():
            raise self._damaged(FEATURES_FILE, f"{len(vectors_ND)} vectors for {len(ids_N)} items, or one that is not finite")
        return ExportedItems(ids_N, raw_ids_N, vectors_ND)

    def load_sequence_model(self, model: nn.Module) -> None:
        """Load the weights into a sequence model.

        Raises:
            ValueError: the file is missing or damaged, or of another model.
        """
        try:
            weights = load(self._read(WEIGHTS_FILE))
        except SafetensorError as error:
            raise self._damaged(WEIGHTS_FILE, error) from error
        found = {name.removeprefix(_SEQUENCE_MODEL): value for name, value in weights.items() if name.startswith(_SEQUENCE_MODEL)}
        wanted = model.state_dict()
        if found.keys() != wanted.keys():
            name = min(found.keys() ^ wanted.keys())
            raise self._damaged(WEIGHTS_FILE, f"{name} is {'missing' if name in wanted else 'not a part of the model'}")
        for name, value in found.items():
            expected = wanted[name]
            if value.shape != expected.shape or value.dtype != expected.dtype:
                raise self._damaged(
                    WEIGHTS_FILE,
                    f"{name} is {value.dtype} {list(value.shape)}, not {wanted[name].dtype} {list(wanted[name].shape)}",
                )
            if not torch.isfinite(value).all():
                raise self._damaged(WEIGHTS_FILE, f"{name} is not finite")
        model.load_state_dict(found)

    def read_index(self, items_N: np.ndarray, width: int) -> Any:
        """Return the index of these items, by vectors of this width.

        Raises:
            ValueError: the file is missing or damaged, or is the index of others.
        """
        faiss = load_faiss()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, INDEX_FILE)
            path.write_bytes(self._read(INDEX_FILE))
            try:
                index = faiss.read_index(str(path))
            except (RuntimeError, MemoryError) as error:
                raise self._damaged(INDEX_FILE, "faiss cannot read it") from error
        graph = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else None
        if not isinstance(graph, faiss.IndexHNSWFlat) or graph.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise self._damaged(INDEX_FILE, "it is not an HNSW graph by inner product")
        vectors = faiss.downcast_index(graph.storage)
        counts = {index.ntotal, graph.ntotal, vectors.ntotal, len(items_N), index.id_map.size()}
        if len(counts) != 1 or {index.d, graph.d, vectors.d} != {width}:
            raise self._damaged(INDEX_FILE, f"{index.ntotal} vectors of width {index.d} for {len(items_N)} of width {width}")
        if not np.array_equal(faiss.vector_to_array(index.id_map), items_N):
            raise self._damaged(INDEX_FILE, "it is an index of other items")
        if vectors.codes.size() != 4 * width * len(items_N) or not np.isfinite(vectors.reconstruct_n(0, len(items_N))).all():
            raise self._damaged(INDEX_FILE, "a vector is not finite")
        graph.hnsw.efSearch = SEARCH_DEPTH
        return index
