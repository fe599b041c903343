"""An export with an index, read into checked values: serving.json names each of its files by SHA-256.

A checksum tells that files are of one export. It does not tell that they are harmless: sizes are bounded before a file is
read, and types, bounds and agreement with the other files are checked before anything acts on it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import nn

from mlrec import storage
from mlrec.config.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.data.features.info import ITEMS_FILE, RAW_IDS_FILE, VECTORS_FILE
from mlrec.serving.index_file import MAX_ITEM_BYTES, check_index_file
from mlrec.storage.npy import read_npy
from mlrec.storage.typed_json import MAX_JSON_BYTES, STRICT, parse_json

# An export's vectors and raw ids are features for another run too, so they have the same file names:
# VECTORS_FILE is float32 [n, D], the item tower's vectors, RAW_IDS_FILE a list of n strings.
# ITEMS_FILE is int64 [n]: the ids of the rows, ascending.
INDEX_FILE = "index.faiss"
"""HNSW graph over what states are scored with (Malkov and Yashunin, 2016), by inner product; its ids are those of items.npy."""
SERVING_FILE = "serving.json"
"""Written last: history_length, recall@10, dataset (the fingerprint), and the sha256 of each file that must be of one export."""
REMEDY = "Write all of the export again: mlrec export RUN OUT --index"

MAX_HISTORY_LENGTH = 1 << 12
"""Models hold masks of its square."""
MAX_FACTS_BYTES = MAX_CONFIG_BYTES = 1 << 20
MAX_ITEMS = 100_000_000
MAX_ITEM = (1 << 31) - 1
"""Ids of items are int32 in data sets."""
MAX_WIDTH = 1 << 16
RAW_ID_BYTES = 1 << 10
"""In raw_ids.json, per item."""
HEADER_BYTES = 64 << 10
"""More than the header of any of these files takes."""
SEARCH_DEPTH = 256
"""Candidates that a search of the index keeps."""
MAX_WEIGHTS_BYTES = 1 << 42
"""Of the whole file, of which only the sequence model's part is read."""
_SEQUENCE_MODEL = "sequence_model."

Model = TypeVar("Model", bound=nn.Module)

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
    settings: dict[str, Any] = field(default_factory=dict)
    """Those that the model is built by, see `settings.model_settings`; empty in exports of earlier versions."""


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

    def __init__(self, url: str, folder: Path) -> None:
        """
        Args:
            folder: takes copies of remote files.

        Raises:
            ValueError: it has no serving.json, or a damaged one.
        """
        self.url, self._folder = url, folder
        where = storage.join(url, SERVING_FILE)
        if not storage.exists(where):
            raise ValueError(
                f"{url} has no {SERVING_FILE}; mlrec export RUN OUT --index writes what is served"
            )
        self.facts = parse_json(
            self._local(SERVING_FILE, MAX_FACTS_BYTES).read_bytes(), ServingFacts, where, REMEDY
        )

    def _damaged(self, name: str, reason: object) -> ValueError:
        words = " ".join(str(reason).split())
        return ValueError(f"{storage.join(self.url, name)} is damaged: {words}. {REMEDY}.")

    def _local(self, name: str, max_bytes: int) -> Path:
        """Return a file of the export on this machine, copied if it is remote, once its size is known to be bounded."""
        where = storage.join(self.url, name)
        is_local = storage.is_local(where)
        if not (storage.local_path(where).is_file() if is_local else storage.exists(where)):
            raise ValueError(f"{where} is missing. {REMEDY}.")
        if (size := storage.size_of(where)) > max_bytes:
            raise self._damaged(name, f"it has {size:,} bytes, at most {max_bytes:,} are read")
        if is_local:
            return storage.local_path(where)
        with storage.open_stream(where, size) as stream, open(self._folder / name, "wb") as copy:
            shutil.copyfileobj(stream, copy, storage.READ_BYTES)
        return self._folder / name

    def _verified(self, name: str, max_bytes: int) -> Path:
        """Return a file of the export on this machine, if it is the one that serving.json names."""
        file = self._local(name, max_bytes)
        if storage.sha256_of(str(file)) != self.facts.sha256.get(name):
            raise self._damaged(
                name, f"it is not the file that {SERVING_FILE} beside it names by its sha256"
            )
        return file

    def _array(self, name: str, dtype: type[np.generic], ndim: int, max_bytes: int) -> np.ndarray:
        raw = self._verified(name, max_bytes).read_bytes()
        try:
            return read_npy(raw, dtype, ndim)
        except ValueError as error:
            raise self._damaged(name, error) from error

    def config_file(self) -> Path:
        """Return the configuration on this machine. It has no checksum: its data.url may follow a data set that has moved.

        Raises:
            ValueError: it is missing or too large.
        """
        return self._local(CONFIG_FILE, MAX_CONFIG_BYTES)

    def read_items(self) -> ExportedItems:
        """Return the items with their vectors.

        Raises:
            ValueError: a file is missing or damaged, or they do not belong together.
        """
        ids_N = self._array(ITEMS_FILE, np.int64, 1, HEADER_BYTES + 8 * MAX_ITEMS)
        count = len(ids_N)
        if not count or ids_N[0] < 1 or ids_N[-1] > MAX_ITEM or (np.diff(ids_N) <= 0).any():
            raise self._damaged(ITEMS_FILE, f"item ids must ascend, from 1 to {MAX_ITEM}")
        file = self._verified(
            RAW_IDS_FILE, min(MAX_JSON_BYTES, HEADER_BYTES + RAW_ID_BYTES * count)
        )
        raw_ids_N = parse_json(
            file.read_bytes(), list[str], storage.join(self.url, RAW_IDS_FILE), REMEDY
        )
        if len(raw_ids_N) != count or len(set(raw_ids_N)) != count:
            raise self._damaged(
                RAW_IDS_FILE, f"{len(set(raw_ids_N))} different ids for {count} items"
            )
        vectors_ND = self._array(VECTORS_FILE, np.float32, 2, HEADER_BYTES + 4 * count * MAX_WIDTH)
        if len(vectors_ND) != count or not np.isfinite(vectors_ND).all():
            raise self._damaged(
                VECTORS_FILE,
                f"{len(vectors_ND)} vectors for {count} items, or one that is not finite",
            )
        return ExportedItems(ids_N, raw_ids_N, vectors_ND)

    def read_sequence_model(self, build: Callable[[], Model]) -> Model:
        """Return the model that `build` returns, with the exported weights.

        Raises:
            ValueError: the file is missing or damaged, or of another model.
        """
        with torch.device(
            "meta"
        ):  # takes no memory, however large the configuration says that the model is
            expected = build().state_dict()
        file = self._verified(WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
        try:
            weights = _read_weights(file, expected)
        except (ValueError, SafetensorError, OSError) as error:
            raise self._damaged(WEIGHTS_FILE, error) from error
        model = build()
        model.load_state_dict(weights)
        return model

    def read_index(self, items_N: np.ndarray, scored_NX: np.ndarray) -> Any:
        """Return the index of these items by what they are scored with.

        Raises:
            ValueError: the file is missing or damaged, or is the index of others.
        """
        faiss, (count, width) = load_faiss(), scored_NX.shape
        raw = self._verified(
            INDEX_FILE, HEADER_BYTES + count * (4 * width + MAX_ITEM_BYTES)
        ).read_bytes()
        try:
            check_index_file(raw, items_N, scored_NX)
            index = faiss.deserialize_index(np.frombuffer(raw, dtype=np.uint8))
        except (ValueError, RuntimeError) as error:  # faiss has checks of its own
            raise self._damaged(INDEX_FILE, error) from error
        faiss.downcast_index(index.index).hnsw.efSearch = SEARCH_DEPTH
        return index


def _read_weights(file: Path, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the sequence model's weights, once names, shapes and types are known to be the expected ones."""
    weights = {}
    with safe_open(file, framework="pt") as opened:
        found = {
            name.removeprefix(_SEQUENCE_MODEL)
            for name in opened.keys()  # noqa: SIM118 (safe_open's handle is no mapping)
            if name.startswith(_SEQUENCE_MODEL)
        }
        if found != expected.keys():
            name = min(found ^ expected.keys())
            raise ValueError(
                f"{name} is {'missing' if name in expected else 'not a part of the model'}"
            )
        for name, wanted in expected.items():
            shape = opened.get_slice(_SEQUENCE_MODEL + name).get_shape()
            if list(shape) != list(wanted.shape):
                raise ValueError(f"{name} has shape {list(shape)}, not {list(wanted.shape)}")
            value = opened.get_tensor(_SEQUENCE_MODEL + name)
            if value.dtype != wanted.dtype:
                raise ValueError(f"{name} is {value.dtype}, not {wanted.dtype}")
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} is not finite")
            weights[name] = value
    return weights
