"""Data sets whose histories are longer or shorter than those that a checkpoint was trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from mlrec.config import RecommenderConfig
from mlrec.data.stream import Data
from mlrec.models.recommenders import build_user_model
from mlrec.runs.checkpoint import read_shapes


def check_history_length(recommender: RecommenderConfig, data: Data, path: Path) -> None:
    """Refuse a checkpoint whose weights have a row per place of a history of another length than the data set's.

    Raises:
        ValueError: it has.
    """
    split = data.info.split
    trained = _trained_length(recommender, split.history_length, path)
    if trained != split.history_length:
        other = split.keep_last + trained - split.history_length
        raise ValueError(
            f"{path} was trained on histories of {trained} items (keep_last={other}), and the data set at {data.url} has "
            f"histories of {split.history_length} (keep_last={split.keep_last}), for which {recommender.name} has other weights. "
            f"Pack that data set with --keep-last {other}, or train a new run on it"
        )


def _trained_length(recommender: RecommenderConfig, length: int, path: Path) -> int:
    """Return the history length that a checkpoint's weights are for; `length` where no shape depends on it."""
    here, longer = _shapes(recommender, length), _shapes(recommender, length + 1)
    there = {name: shape for name, shape, _ in read_shapes(path)}
    for name, shape in here.items():
        for size, next_size, trained_size in zip(
            shape, longer[name], there.get(f"sequence_model.{name}", ()), strict=False
        ):
            if next_size == size + 1:
                return length + trained_size - size
    return length


def _shapes(recommender: RecommenderConfig, length: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {
            name: tuple(tensor.shape)
            for name, tensor in build_user_model(recommender, length).state_dict().items()
        }
