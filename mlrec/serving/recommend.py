"""Recommend items to a user or after a history, with titles, by a run or an export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec import storage
from mlrec.runtime.distributed import World
from mlrec.runtime.printable import as_cell
from mlrec.serving.exported import SERVING_FILE
from mlrec.serving.exported_model import ExportedModel
from mlrec.serving.recommendation import Recommendation
from mlrec.serving.trained import HistoryError, TrainedModel


def is_export(url: str) -> bool:
    """Return whether a folder or URL is an export rather than a run, whose folder is local."""
    return not storage.is_local(url) or storage.exists(storage.join(url, SERVING_FILE))


def recommend(
    run: Path,
    user: str | None,
    history: Sequence[str],
    count: int,
    world: World,
    overrides: Sequence[str] = (),
) -> list[Recommendation]:
    """Return the best items by the run's best checkpoint, without those of the history; collective.

    Args:
        user: raw id. The history is then everything that the user has watched.
        history: raw ids of items, oldest first; used if `user` is None.
        count: how many items to return at most.
        overrides: "key=value" settings that replace those of the run, such as data.url.

    Raises:
        ValueError: the run, the user or an item does not exist, no item of the history could be
            read, or the model can only score users seen in training.
    """
    model = TrainedModel(run, world, overrides)
    try:
        return model.recommend(history, user, count)
    except HistoryError as error:
        whose = f"--history {','.join(map(as_cell, history))}" if user is None else f"--user {user}"
        raise ValueError(f"{whose}: {error}") from error


def recommend_from_index(
    url: str, user: str | None, history: Sequence[str], count: int, overrides: Sequence[str] = ()
) -> list[Recommendation]:
    """Recommend by an export with an index, as ExportedModel describes.

    Args:
        url: folder or URL that `mlrec export RUN OUT --index` wrote.

    Raises:
        ValueError: no item of the history is in the index, or the user or the data set in which to
            look the user up does not exist.
    """
    return ExportedModel(url, overrides).recommend(history, user, count)
