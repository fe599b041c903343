"""Read an export with an index into checked values.

serving.json holds the SHA-256 of each file. A checksum proves that files belong to one export, not
that they are harmless. Sizes are therefore bounded before a file is read. Types, bounds and
agreement with the other files are checked before anything uses the values.
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
from mlrec.models.skeleton import skeletons
from mlrec.serving.index_file import MAX_ITEM_BYTES, check_index_file
from mlrec.storage.npy import read_npy
from mlrec.storage.typed_json import MAX_JSON_BYTES, STRICT, parse_json

# The vectors of an export are also features for other runs, so the files have the same names:
# VECTORS_FILE is float32 [n, D], vectors of the item tower. RAW_IDS_FILE is a list of n strings.
# ITEMS_FILE is int64 [n], the ascending ids of the rows.
INDEX_FILE = "index.faiss"
"""HNSW graph (Malkov and Yashunin, 2016) by inner product; its ids are those of items.npy."""
SERVING_FILE = "serving.json"
"""ServingFacts. An export writes this file last."""
REMEDY = "Write all of the export again: mlrec export RUN OUT --index"

MAX_HISTORY_LENGTH = 1 << 12
"""A model holds masks of its square."""
MAX_FACTS_BYTES = MAX_CONFIG_BYTES = 1 << 20
MAX_ITEMS = 100_000_000
MAX_ITEM = (1 << 31) - 1
"""Data sets store ids of items as int32."""
MAX_WIDTH = 1 << 16
MAX_RAW_ID_BYTES = 1 << 10
"""Bytes of raw_ids.json per item."""
MAX_HEADER_BYTES = 64 << 10
"""No header of these files takes as much."""
SEARCH_DEPTH = 256
"""efSearch of HNSW: candidates that a search keeps."""
MAX_WEIGHTS_BYTES = 1 << 42
"""Size of the whole file. Only the part of the sequence model is read."""
_SEQUENCE_MODEL = "sequence_model."

Model = TypeVar("Model", bound=nn.Module)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def load_faiss() -> Any:
    """Import faiss, which builds and searches indexes.

    Raises:
        ValueError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError("An index of items needs faiss: pip install 'mlrec[index]'") from error
    return faiss


@dataclass(frozen=True)
class ServingFacts:
    """The content of serving.json."""

    __pydantic_config__ = STRICT

    history_length: Annotated[int, Field(ge=1, le=MAX_HISTORY_LENGTH)]
    recall: Annotated[float, Field(ge=0, le=1, alias="recall@10")]
    """Share of the ten best items by exact search that the index returns."""
    dataset: Sha256
    """Fingerprint of the data set that the run was trained on."""
    sha256: dict[str, Sha256]
    """Checksum of each file that must belong to this export."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that define the model, see `compatibility.model_settings`. Empty in old exports."""


@dataclass(frozen=True)
class ExportedItems:
    """The items that can be recommended, in ascending order of their ids."""

    ids_N: np.ndarray
    """int64, at least 1."""
    raw_ids_N: list[str]
    vectors_ND: np.ndarray
    """float32: vectors of the item tower."""


class Export:
    """The folder or URL of an export."""

    def __init__(self, url: str, folder: Path) -> None:
        """Read serving.json.

        Args:
            folder: receives copies of remote files.

        Raises:
            ValueError: serving.json does not exist, or is damaged.
            RuntimeError: the server cannot be reached.
        """
        self.url = url
        self._folder = folder
        place = storage.join(url, SERVING_FILE)
        try:
            # not storage.exists, which is False for a server that cannot be reached
            storage.size_of(place)
        except (FileNotFoundError, NotADirectoryError) as error:
            remedy = "Write the export with mlrec export RUN OUT --index"
            raise ValueError(
                storage.why_absent(url, "an export with an index", SERVING_FILE, remedy)
            ) from error
        raw = self._local(SERVING_FILE, MAX_FACTS_BYTES).read_bytes()
        self.facts = parse_json(raw, ServingFacts, place, REMEDY)

    def _damaged(self, name: str, reason: object) -> ValueError:
        words = " ".join(str(reason).split())
        return ValueError(f"{storage.join(self.url, name)} is damaged: {words}. {REMEDY}.")

    def _local(self, name: str, max_bytes: int) -> Path:
        """Return the path of a file of the export, copied to this machine if it is remote.

        Raises:
            ValueError: the file does not exist, or is larger than `max_bytes`.
        """
        url = storage.join(self.url, name)
        is_local = storage.is_local(url)
        exists = storage.local_path(url).is_file() if is_local else storage.exists(url)
        if not exists:
            raise ValueError(f"{url} is missing. {REMEDY}.")
        size = storage.size_of(url)
        if size > max_bytes:
            raise self._damaged(name, f"it has {size:,} bytes, at most {max_bytes:,} are read")
        if is_local:
            return storage.local_path(url)
        with storage.open_stream(url, size) as stream, open(self._folder / name, "wb") as copy:
            shutil.copyfileobj(stream, copy, storage.READ_BYTES)
        return self._folder / name

    def _verified(self, name: str, max_bytes: int) -> Path:
        """Return the path of a file on this machine whose checksum is that of serving.json."""
        file = self._local(name, max_bytes)
        if storage.sha256_of(str(file)) != self.facts.sha256.get(name):
            reason = f"it is not the file that {SERVING_FILE} names by its sha256"
            raise self._damaged(name, reason)
        return file

    def _array(self, name: str, dtype: type[np.generic], ndim: int, max_bytes: int) -> np.ndarray:
        raw = self._verified(name, max_bytes).read_bytes()
        try:
            return read_npy(raw, dtype, ndim)
        except ValueError as error:
            raise self._damaged(name, error) from error

    def config_file(self) -> Path:
        """Return the path of the configuration on this machine.

        It has no checksum, because people may edit data.url when a data set has moved.

        Raises:
            ValueError: the file is missing or too large.
        """
        return self._local(CONFIG_FILE, MAX_CONFIG_BYTES)

    def read_items(self) -> ExportedItems:
        """Return the items with their vectors.

        Raises:
            ValueError: a file is missing or damaged, or the files do not belong together.
        """
        ids_N = self._array(ITEMS_FILE, np.int64, 1, MAX_HEADER_BYTES + 8 * MAX_ITEMS)
        count = len(ids_N)
        if not count or ids_N[0] < 1 or ids_N[-1] > MAX_ITEM or (np.diff(ids_N) <= 0).any():
            raise self._damaged(ITEMS_FILE, f"item ids must ascend, from 1 to {MAX_ITEM}")
        max_bytes = min(MAX_JSON_BYTES, MAX_HEADER_BYTES + MAX_RAW_ID_BYTES * count)
        raw = self._verified(RAW_IDS_FILE, max_bytes).read_bytes()
        raw_ids_N = parse_json(raw, list[str], storage.join(self.url, RAW_IDS_FILE), REMEDY)
        num_distinct = len(set(raw_ids_N))
        if len(raw_ids_N) != count or num_distinct != count:
            raise self._damaged(RAW_IDS_FILE, f"{num_distinct} different ids for {count} items")
        vectors_ND = self._array(
            VECTORS_FILE, np.float32, 2, MAX_HEADER_BYTES + 4 * count * MAX_WIDTH
        )
        if len(vectors_ND) != count or not np.isfinite(vectors_ND).all():
            reason = f"{len(vectors_ND)} vectors for {count} items, or one that is not finite"
            raise self._damaged(VECTORS_FILE, reason)
        return ExportedItems(ids_N, raw_ids_N, vectors_ND)

    def read_sequence_model(self, build: Callable[[], Model]) -> Model:
        """Return the model that `build` makes, with the exported weights.

        Raises:
            ValueError: the file is missing, damaged, or holds another model.
        """
        # takes no memory, whatever size the configuration gives the model
        with skeletons():
            expected = build().state_dict()
        file = self._verified(WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
        try:
            weights = _read_weights(file, expected)
        except (ValueError, SafetensorError, OSError) as error:
            raise self._damaged(WEIGHTS_FILE, error) from error
        # only after the weights match, because a configuration can ask for any size
        model = build()
        model.load_state_dict(weights)
        return model

    def read_index(self, items_N: np.ndarray, scored_NX: np.ndarray) -> Any:
        """Return the index of these items.

        Args:
            items_N: int64, ids.
            scored_NX: float32, what states are scored with.

        Raises:
            ValueError: the file is missing, damaged, or indexes other items.
        """
        faiss = load_faiss()
        count, width = scored_NX.shape
        max_bytes = MAX_HEADER_BYTES + count * (4 * width + MAX_ITEM_BYTES)
        raw = self._verified(INDEX_FILE, max_bytes).read_bytes()
        try:
            check_index_file(raw, items_N, scored_NX)
            # from the bytes that were checked, because the file could have changed since
            index = faiss.deserialize_index(np.frombuffer(raw, dtype=np.uint8))
        except (ValueError, RuntimeError) as error:
            # RuntimeError: faiss checks some values itself
            raise self._damaged(INDEX_FILE, error) from error
        # faiss types the inner index as a plain Index, which has no hnsw until it is downcast
        faiss.downcast_index(index.index).hnsw.efSearch = SEARCH_DEPTH
        return index


def _read_weights(file: Path, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of the sequence model, with the expected names, shapes and types.

    Raises:
        ValueError: they have others, or a value is not finite.
    """
    weights = {}
    with safe_open(file, framework="pt") as opened:
        names = set()
        for name in opened.keys():  # noqa: SIM118 (safe_open's handle is not iterable)
            if name.startswith(_SEQUENCE_MODEL):
                names.add(name.removeprefix(_SEQUENCE_MODEL))
        if names != expected.keys():
            name = min(names ^ expected.keys())
            problem = "is missing" if name in expected else "is not part of the model"
            raise ValueError(f"{name} {problem}")
        for name, parameter in expected.items():
            # the shape is checked before the tensor is read into memory
            shape = list(opened.get_slice(_SEQUENCE_MODEL + name).get_shape())
            if shape != list(parameter.shape):
                raise ValueError(f"{name} has shape {shape}, not {list(parameter.shape)}")
            value = opened.get_tensor(_SEQUENCE_MODEL + name)
            if value.dtype != parameter.dtype:
                raise ValueError(f"{name} is {value.dtype}, not {parameter.dtype}")
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} is not finite")
            weights[name] = value
    return weights
