"""Check that a data set's histories have the length that a checkpoint was trained on."""

from __future__ import annotations

from pathlib import Path

from mlrec.config import RecommenderConfig
from mlrec.data.stream import Data
from mlrec.models.recommenders import build_user_model
from mlrec.models.skeleton import skeletons
from mlrec.runs.checkpoint import read_shapes


def check_history_length(recommender: RecommenderConfig, data: Data, path: Path) -> None:
    """Check that a checkpoint's weights are for histories of the data set's length.

    Only recommenders with a weight per history position depend on it.

    Raises:
        ValueError: they are for another length.
    """
    split = data.info.split
    trained = _trained_length(recommender, split.history_length, path)
    if trained != split.history_length:
        keep_last = split.keep_last + trained - split.history_length
        raise ValueError(
            f"{path} was trained on histories of {trained} items (keep_last={keep_last}), but the "
            f"data set at {data.url} has histories of {split.history_length} "
            f"(keep_last={split.keep_last}). The weights of {recommender.name} depend on this "
            f"length. Pack that data set with --keep-last {keep_last}, or train a new run on it"
        )


def _trained_length(recommender: RecommenderConfig, length: int, path: Path) -> int:
    """Return the history length of a checkpoint's weights; `length` if no shape depends on it.

    No file states the length. Building the model for two lengths shows which dimensions follow
    it, and the checkpoint's size in such a dimension gives the length.
    """
    shapes = _shapes(recommender, length)
    longer_shapes = _shapes(recommender, length + 1)
    checkpoint_shapes = {weight.name: weight.shape for weight in read_shapes(path)}
    for name, shape in shapes.items():
        trained_shape = checkpoint_shapes.get(f"sequence_model.{name}", ())
        # Not strict: a missing or different weight is reported when the weights are loaded.
        for size, longer_size, trained_size in zip(
            shape, longer_shapes[name], trained_shape, strict=False
        ):
            if longer_size == size + 1:
                return length + trained_size - size
    return length


def _shapes(recommender: RecommenderConfig, length: int) -> dict[str, tuple[int, ...]]:
    with skeletons():
        weights = build_user_model(recommender, length).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
