"""An export with the titles of its data set, if that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from mlrec.config import Config
from mlrec.config.paths import with_absolute_paths
from mlrec.data.stream import Data, open_data
from mlrec.runtime.printable import as_cell
from mlrec.runtime.redact import scrub
from mlrec.runtime.terminal import say
from mlrec.serving.model import ServedModel, as_count
from mlrec.serving.recommendation import Recommendation, described, raw_ids_of


class ExportedModel:
    """An exported run, which encodes no item.

    A history needs nothing but the export. If the data set at its data.url cannot be read or is
    another one, recommendations have no titles and no popularity. Items of a history without a
    vector are ignored. Both are reported on stderr.
    """

    def __init__(self, url: str, overrides: Sequence[str] = ()) -> None:
        """Load an export.

        Args:
            url: folder or URL that `mlrec export RUN OUT --index` wrote.
            overrides: as in ServedModel.

        Raises:
            ValueError: as in ServedModel.
        """
        self._served = ServedModel(url, overrides)
        # the data set is read later, and the working directory may change until then
        self.config = with_absolute_paths(self._served.config)
        self.raw_ids = self._served.raw_ids_N
        """Raw ids of the items that can be recommended."""
        self.vectors = self._served.vectors_ND
        """Vectors of these items, float32 [N, D]."""
        items = self._served.items_N.tolist()
        self._number_of = dict(zip(self.raw_ids, items, strict=True))
        self._problem = ""
        """Why the data set cannot be used; empty while it was not opened, and if it can be."""
        self._has_reported_titles = False

    @cached_property
    def _data(self) -> Data | None:
        """The data set of the export's run; None if it cannot be used."""
        data, self._problem = _exported_data(self._served, self.config)
        return data

    def recommend(
        self, history: Sequence[str], user: str | None, count: int
    ) -> list[Recommendation]:
        """Return the best items, without those of the history.

        Args:
            history: raw ids of items, oldest first; used if `user` is None.
            user: raw id, looked up in the data set.
            count: how many items to return at most.

        Raises:
            TypeError, ValueError: as ServedModel.recommend, or the user or the data set in which to
                look the user up does not exist.
        """
        count = as_count(count)
        data = self._data
        if user is not None:
            if data is None:
                raise ValueError(
                    f"Cannot look up user {user} in the data set: {self._problem}. "
                    "Or give a history of raw ids"
                )
            items = data.sequences.items_of(data.sequences.number_of(user))
            history = raw_ids_of(data.catalogue, items)
        raw_ids, scores_K = self._served.recommend(history, count)
        if user is None:
            self._report_unknown(history)
        items_K = np.array([self._number_of[raw_id] for raw_id in raw_ids], dtype=np.int64)
        if data is not None:
            return described(data.catalogue, items_K, scores_K)
        if not self._has_reported_titles:
            say(f"without titles: {self._problem}", error=True)
            self._has_reported_titles = True
        recommendations = []
        for item, raw_id, score in zip(items_K.tolist(), raw_ids, scores_K.tolist(), strict=True):
            recommendations.append(Recommendation(item, raw_id, "", score, None))
        return recommendations

    def scores(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the score of every item after each history, float32 [B, N].

        Items of the history have -inf.

        Raises:
            TypeError, ValueError: as ServedModel.scores.
        """
        score_BN = self._served.scores(histories)
        for history in histories:
            self._report_unknown(history)
        return score_BN

    def _report_unknown(self, history: Sequence[str]) -> None:
        unknown = [raw_id for raw_id in history if raw_id not in self._number_of]
        if unknown:
            ignored = ", ".join(as_cell(raw_id) or '""' for raw_id in unknown)
            say(
                f"ignored, because they have no vector in {self._served.url}: {ignored}",
                error=True,
            )


def _exported_data(served: ServedModel, config: Config) -> tuple[Data | None, str]:
    """Return the data set of the export's run, or None and the reason."""
    settings = config.data
    remedy = (
        "if the data set has moved, append data.url=URL to the command, or in Python pass "
        'settings={"data.url": URL} to mlrec.load'
    )
    say(f"reading titles from {scrub(settings.url)}", error=True, flush=True)
    try:
        data = open_data(settings)
    except (ValueError, OSError, RuntimeError) as error:
        return None, scrub(f"it cannot be read from {settings.url} ({error}); {remedy}")
    if data.info.fingerprint != served.dataset:
        return None, scrub(
            f"{settings.url} holds {data.info.fingerprint[:12]}, not the exported "
            f"{served.dataset[:12]}; {remedy}. Or train on the new one and "
            f"mlrec export RUN {served.url} --index"
        )
    return data, ""
