"""Exports whose files fit their checksums, but not each other: one sentence names the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mlrec.config.run_files import WEIGHTS_FILE
from mlrec.data.features.info import ITEMS_FILE, RAW_IDS_FILE, VECTORS_FILE
from mlrec.serving.exported import INDEX_FILE, SERVING_FILE, Export

WIDTH = 4
IDS_N = np.array([1, 2, 5], dtype=np.int64)
VECTORS_ND = np.arange(12, dtype=np.float32).reshape(3, WIDTH)
LINEAR = {"sequence_model.weight": torch.ones(2, 3), "sequence_model.bias": torch.zeros(2)}


def write_weights(path: Path, bias: torch.Tensor) -> None:
    save_file({**LINEAR, "sequence_model.bias": bias}, path)


def write_index(
    path: Path, ids_N: np.ndarray = IDS_N, vectors_ND: np.ndarray = VECTORS_ND, metric: int = 0
) -> None:
    index = faiss.IndexIDMap2(faiss.IndexHNSWFlat(vectors_ND.shape[1], 8, metric))
    index.add_with_ids(vectors_ND, ids_N)
    faiss.write_index(index, str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / ITEMS_FILE, IDS_N)
    np.save(tmp_path / VECTORS_FILE, VECTORS_ND)
    (tmp_path / RAW_IDS_FILE).write_text(json.dumps(["a", "b", "ü"]))
    save_file(LINEAR, tmp_path / WEIGHTS_FILE)
    write_index(tmp_path / INDEX_FILE)
    return tmp_path


def seal(folder: Path, **more: Any) -> None:
    """Write serving.json for the files as they are."""
    sha256 = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != SERVING_FILE
    }
    facts = {"history_length": 10, "recall@10": 1.0, "dataset": "0" * 64, "sha256": sha256, **more}
    (folder / SERVING_FILE).write_text(json.dumps(facts))


def read(folder: Path) -> None:
    """Read all that a service reads."""
    export = Export(str(folder), folder)
    items = export.read_items()
    export.read_sequence_model(lambda: nn.Linear(3, 2))
    export.read_index(items.ids_N, items.vectors_ND)


def test_export_whole_is_read(folder: Path) -> None:
    seal(folder)
    read(folder)
    assert Export(str(folder), folder).read_items().raw_ids_N == ["a", "b", "ü"]


DAMAGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "items not ascending": (ITEMS_FILE, lambda path: np.save(path, IDS_N[::-1])),
    "items from 0": (ITEMS_FILE, lambda path: np.save(path, IDS_N - 1)),
    "items of another type": (ITEMS_FILE, lambda path: np.save(path, IDS_N.astype(np.float32))),
    "no item": (ITEMS_FILE, lambda path: np.save(path, IDS_N[:0])),
    "items cut short": (ITEMS_FILE, lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "fewer vectors": (VECTORS_FILE, lambda path: np.save(path, VECTORS_ND[:2])),
    "a vector of NaN": (VECTORS_FILE, lambda path: np.save(path, VECTORS_ND * np.nan)),
    "vectors of one dimension": (VECTORS_FILE, lambda path: np.save(path, VECTORS_ND[:, 0])),
    "an id too few": (RAW_IDS_FILE, lambda path: path.write_text('["a", "b"]')),
    "an id twice": (RAW_IDS_FILE, lambda path: path.write_text('["a", "b", "a"]')),
    "ids as numbers": (RAW_IDS_FILE, lambda path: path.write_text("[1, 2, 3]")),
    "no JSON": (RAW_IDS_FILE, lambda path: path.write_bytes(b"[" * 100_000)),
    "weights of another name": (
        WEIGHTS_FILE,
        lambda path: save_file({"sequence_model.x": torch.ones(1)}, path),
    ),
    "weights of another shape": (WEIGHTS_FILE, lambda path: write_weights(path, torch.ones(3))),
    "weights of another type": (
        WEIGHTS_FILE,
        lambda path: save_file({**LINEAR, "sequence_model.bias": torch.ones(2).int()}, path),
    ),
    "weights of NaN": (
        WEIGHTS_FILE,
        lambda path: save_file(
            {**LINEAR, "sequence_model.bias": torch.full((2,), torch.nan)}, path
        ),
    ),
    "no safetensors": (WEIGHTS_FILE, lambda path: path.write_bytes(b"x" * 100)),
    "an index of other items": (INDEX_FILE, lambda path: write_index(path, IDS_N + 1)),
    "an index of fewer items": (
        INDEX_FILE,
        lambda path: write_index(path, IDS_N[:2], VECTORS_ND[:2]),
    ),
    "an index of another width": (
        INDEX_FILE,
        lambda path: write_index(path, vectors_ND=VECTORS_ND[:, :2].copy()),
    ),
    "an index by distance": (INDEX_FILE, lambda path: write_index(path, metric=faiss.METRIC_L2)),
    "an index of infinity": (
        INDEX_FILE,
        lambda path: write_index(path, vectors_ND=VECTORS_ND + np.float32(np.inf)),
    ),
    "an index of other vectors": (
        INDEX_FILE,
        lambda path: write_index(path, vectors_ND=VECTORS_ND + np.float32(1e-3)),
    ),
    "an index with a tail": (INDEX_FILE, lambda path: path.write_bytes(path.read_bytes() + b"x")),
    "no index": (INDEX_FILE, lambda path: path.write_bytes(b"not an index")),
    "an index cut short": (INDEX_FILE, lambda path: path.write_bytes(path.read_bytes()[:100])),
    "another kind of index": (
        INDEX_FILE,
        lambda path: faiss.write_index(faiss.IndexFlatIP(WIDTH), str(path)),
    ),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGED.values(), ids=list(DAMAGED))
def test_export_damaged_file_is_named(
    name: str, damage: Callable[[Path], object], folder: Path
) -> None:
    damage(folder / name)
    seal(folder)
    with pytest.raises(
        ValueError, match=rf"{name} is (damaged|invalid): .*mlrec export RUN OUT --index\.$"
    ) as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "more",
    [
        {"history_length": 0},
        {"history_length": 10**9},
        {"recall@10": 2},
        {"dataset": "x"},
        {"sha256": None},
        {"x": 1},
    ],
)
def test_serving_facts_out_of_bounds_are_named(more: dict[str, Any], folder: Path) -> None:
    seal(folder, **more)
    with pytest.raises(ValueError, match=rf"serving\.json is invalid: {next(iter(more))}"):
        Export(str(folder), folder)


def test_export_changed_file_is_refused(folder: Path) -> None:
    seal(folder)
    np.save(folder / ITEMS_FILE, IDS_N + 1)
    with pytest.raises(
        ValueError, match=r"items\.npy is damaged: it is not the file that serving\.json"
    ):
        read(folder)
