"""Trained models: vectors of items, scores and recommendations.

Shape letters: B histories, N items that can be recommended, D width of item vectors, n new items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.api.runs import Run
from mlrec.api.settings import Settings, as_overrides, as_place, check_raw_id, shown
from mlrec.config import Config
from mlrec.runtime.distributed import lone_world
from mlrec.serving.exported_model import ExportedModel
from mlrec.serving.recommend import is_export
from mlrec.serving.recommendation import Recommendation
from mlrec.serving.trained import TrainedModel

DEFAULT_COUNT = 10


def load(source: str | Path | Run, settings: Settings | None = None) -> Model:
    """Load the best weights of a run or an export, onto a GPU if there is one.

    A run, its folder, or the folder or URL of an export with an index. A
    run encodes the catalogue at its first use, an export holds the vectors.

    Raises:
        ValueError: no run with a checkpoint, or no intact export.
        RuntimeError: the server cannot be reached.
    """
    overrides = as_overrides(settings)
    url = as_place("source", source)
    if is_export(url):
        return Model(ExportedModel(url, overrides))
    return Model(TrainedModel(Path(url), lone_world(), overrides))


class Model:
    """A trained model, as `mlrec.load` returns it. Items are named by their raw ids.

    Example:
        >>> model = mlrec.load("runs/quickstart_video")
        >>> for item in model.recommend(["17", "4"], k=5):
        ...     print(item.raw_id, item.title, item.score)
    """

    def __init__(self, served: TrainedModel | ExportedModel) -> None:
        """Hold what `mlrec.load` has loaded."""
        self._served = served

    @property
    def config(self) -> Config:
        """The configuration that the model was trained with."""
        return self._served.config

    @property
    def item_ids(self) -> list[str]:
        """Raw ids of the N items that can be recommended, in the order of the data set.

        Items that could not be packed or read are left out. For a run, the first use of this or of
        a method below encodes the catalogue, which takes about as long as a validation.
        """
        return list(self._served.raw_ids)

    def item_vectors(self) -> np.ndarray:
        """Return the items' vectors by the item tower, float32 [N, D].

        Row i is about `item_ids[i]`. D is `config.recommender.width`.

        Example:
            >>> vectors = model.item_vectors()
            >>> vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            >>> nearest = np.argsort(-vectors @ vectors[0])
        """
        return self._served.vectors.copy()

    def scores(self, histories: Iterable[Sequence[str]]) -> np.ndarray:
        """Return the score of every item after each history, float32 [B, N].

        Column i is about `item_ids[i]`; higher is better. Items of the history have -inf. With an
        in-batch or sampled softmax, scores are unnormalised log-probabilities.

        Args:
            histories: B lists of raw ids, oldest first. The model sees the newest items of a
                longer history than it was trained on, and excludes all of them.

        Raises:
            TypeError: a history is not a list of strings.
            ValueError: an item is not in the catalogue, no item of a history could be read, or the
                model can only score users seen in training. An export ignores unknown items, and
                names them on stderr.

        Example:
            >>> model.scores([["17", "4"], ["9"]]).argmax(axis=1)
        """
        # a generator can be read once
        rows = None
        if isinstance(histories, Iterable) and not isinstance(histories, str):
            rows = list(histories)
        if rows is None or any(isinstance(history, str) for history in rows):
            raise TypeError(
                "histories must be a list of histories, each a list of raw ids, such as "
                '[["17", "4"], ["9"]]'
            )
        return self._served.scores(rows)

    def recommend(
        self,
        history: Sequence[str] | None = None,
        k: int = DEFAULT_COUNT,
        *,
        user: str | None = None,
    ) -> list[Recommendation]:
        """Return the k best items, without those of the history, as `mlrec recommend` does.

        Args:
            history: raw ids of items, oldest first.
            k: how many items to return at most.
            user: raw id of a user of the data set instead of a history, for everything that the
                user has watched.

        Returns:
            Recommendations, best first: `raw_id`, `title`, `score`, `popularity` (training
            interactions) and `item` (number in the data set, from 1). An export without its data
            set has empty titles and no popularity.

        Raises:
            TypeError: the history is not a list of strings, or k not a whole number.
            ValueError: as `scores`; k is below 1; there is no such user; or neither or both of
                history and user are given.

        Example:
            >>> [item.title for item in model.recommend(["17", "4"], k=5)]
        """
        if (history is None) == (user is None):
            raise ValueError("Pass either a history or a user to recommend to")
        if user is not None:
            check_raw_id("user", user)
        return self._served.recommend(() if history is None else history, user, k)

    def encode(self, media: Mapping[str, Any]) -> np.ndarray:
        """Return the vectors of n items that need not be in the data set, float32 [n, D].

        Args:
            media: NumPy arrays or torch tensors, one for each modality that the encoders read:
                video: uint8 [n, T, H, W, 3], RGB frames; T of the encoder are sampled evenly.
                cover: uint8 [n, H, W, 3], RGB.
                title: list of n texts.
                audio: int16 [n, samples], mono at 16 kHz.
                features/NAME: float32 [n, width].
                Images are scaled to the height and width of the encoder.

        Raises:
            ValueError: a modality is missing or not read, an array has another dtype or shape, an
                encoder looks items up by id, or the model is an export.

        Example:
            >>> data = mlrec.open(model.config.data.url)
            >>> model.encode({"video": data.frames("17")[None]})
        """
        if not isinstance(media, Mapping):
            raise TypeError(
                f"media is {shown(media)}. Pass a dict of arrays by modality, such as "
                '{"video": frames}'
            )
        if isinstance(self._served, ExportedModel):
            raise ValueError(
                "Cannot encode media with an export, which has item vectors but no encoders. Load "
                "the run that it was exported from"
            )
        return self._served.encode(media)
