"""Recommend items to a user or after a history, with titles, by a run or an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mlrec.data.format import Catalogue
from mlrec.data.sequences import SequenceTable
from mlrec.data.stream import Data, open_data
from mlrec.evaluation.evaluate import encode_catalogue
from mlrec.evaluation.ranking import Ranking
from mlrec.evaluation.trained_model import load_model
from mlrec.runs.run import best_checkpoint, load_trained
from mlrec.runtime.distributed import World
from mlrec.runtime.printable import as_cell
from mlrec.runtime.redact import scrub
from mlrec.runtime.terminal import say
from mlrec.serving import ServedModel


@dataclass(frozen=True)
class Recommendation:
    """One recommended item."""

    item: int
    raw_id: str
    title: str
    """Empty if an export is used without its data set."""
    score: float
    popularity: int | None
    """Training interactions; None if an export is used without its data set."""


@torch.no_grad()
def recommend(
    run: Path,
    user: str | None,
    history: Sequence[str],
    count: int,
    world: World,
    overrides: Sequence[str] = (),
) -> list[Recommendation]:
    """Return the best items by the run's best checkpoint, without those of the history.

    Args:
        user: raw id. The history is then everything that the user has watched.
        history: raw ids of items, oldest first; used if `user` is None.
        count: how many items to return at most.
        overrides: "key=value" settings that replace those of the run, such as data.url.

    Raises:
        ValueError: the run, the user or an item does not exist, no item of the history could be
            read, or the model can only score users seen in training.
    """
    config = load_trained(run, overrides)
    path = best_checkpoint(config)
    data = open_data(config.data)
    number = None if user is None else _number_of(user, data.sequences)
    seen = _items_of(history, data.catalogue) if number is None else data.sequences.items_of(number)
    model = load_model(config, data, world, path).eval()
    # collective: every rank encodes its share, and then computes the same recommendations
    catalogue = encode_catalogue(model, data, config, world)
    ranking = Ranking(model, data, catalogue.items_ND, catalogue.readable_N)
    knows_users = ranking.vectors.users_MX is not None
    if knows_users and number is None:
        raise ValueError(
            f"{config.recommender.name} can only score users seen in training. "
            "Use --user instead of --history"
        )
    known_S = seen[np.isin(seen, ranking.ids_N[catalogue.readable_N.cpu().numpy()])]
    if not len(known_S) and not knows_users:
        whose = f"--history {','.join(map(as_cell, history))}" if user is None else f"--user {user}"
        raise ValueError(
            f"{whose}: no item of this history could be read, so {run} knows nothing of the user. "
            "Give another history"
        )
    # padded with 0 on the left, as histories are in training
    length = data.info.split.history_length
    history_L = np.concatenate([np.zeros(length, dtype=np.int64), known_S])[-length:]
    # a model without users ignores the user's number
    state = ranking.states_after(np.array([number or 0]), history_L[None])
    score_N = ranking.scores(state)[0]
    # known items only, because row_N1 is -1 for others and would exclude the last item
    score_N[ranking.row_N1[known_S]] = -torch.inf
    num_candidates = int(torch.isfinite(score_N).sum())
    best = score_N.topk(min(count, num_candidates))
    items_K = ranking.ids_N[best.indices.cpu().numpy()]
    return _described(data.catalogue, items_K, best.values.cpu().numpy())


def recommend_from_index(
    url: str, user: str | None, history: Sequence[str], count: int, overrides: Sequence[str] = ()
) -> list[Recommendation]:
    """Recommend by an export with an index, which encodes no item.

    A history needs nothing but the export. If the data set at its data.url cannot be read or is
    another one, recommendations have no titles and no popularity. Items of the history without a
    vector are ignored. Both are reported on stderr.

    Args:
        url: folder or URL that `mlrec export RUN OUT --index` wrote.

    Raises:
        ValueError: no item of the history is in the index, or the user or the data set in which to
            look the user up does not exist.
    """
    served = ServedModel(url, overrides)
    number_of = dict(zip(served.raw_ids_N, served.items_N.tolist(), strict=True))
    data, problem = _exported_data(served)
    if user is not None:
        if data is None:
            raise ValueError(
                f"Cannot look up --user {user} in the data set: {problem}. Or give --history ID,ID"
            )
        items = data.sequences.items_of(_number_of(user, data.sequences))
        history = _raw_ids(data.catalogue, items)
    raw_ids, scores_K = served.recommend(history, count)
    unknown = [raw_id for raw_id in history if raw_id not in number_of]
    if user is None and unknown:
        ignored = ", ".join(map(as_cell, unknown))
        say(f"ignored, because they have no vector in {url}: {ignored}", error=True)
    items_K = np.array([number_of[raw_id] for raw_id in raw_ids], dtype=np.int64)
    if data is not None:
        return _described(data.catalogue, items_K, scores_K)
    say(f"without titles: {problem}", error=True)
    recommendations = []
    for item, raw_id, score in zip(items_K.tolist(), raw_ids, scores_K.tolist(), strict=True):
        recommendations.append(Recommendation(item, raw_id, "", score, None))
    return recommendations


def _exported_data(served: ServedModel) -> tuple[Data | None, str]:
    """Return the data set of the export's run, or None and the reason."""
    settings = served.config.data
    remedy = "append data.url=URL if the data set has moved"
    say(f"reading titles from {scrub(settings.url)}", error=True, flush=True)
    try:
        data = open_data(settings)
    except (ValueError, OSError, RuntimeError) as error:
        return None, scrub(f"it cannot be read from {settings.url} ({error}); {remedy}")
    if data.info.fingerprint != served.dataset:
        return None, scrub(
            f"{settings.url} holds {data.info.fingerprint[:12]}, not the exported "
            f"{served.dataset[:12]}; {remedy}, or train on the new one and "
            f"mlrec export RUN {served.url} --index"
        )
    return data, ""


def _raw_ids(catalogue: Catalogue, items: np.ndarray) -> list[str]:
    raw_ids = catalogue.table["raw_id"].take(pa.array(items - 1))
    return [str(raw_id) for raw_id in raw_ids.to_pylist()]


def _described(
    catalogue: Catalogue, items_K: np.ndarray, scores_K: np.ndarray
) -> list[Recommendation]:
    raw_ids = _raw_ids(catalogue, items_K)
    recommendations = []
    for item, raw_id, score in zip(items_K.tolist(), raw_ids, scores_K.tolist(), strict=True):
        popularity = int(catalogue.popularity_N1[item])
        title = catalogue.title(item)
        recommendations.append(Recommendation(item, raw_id, title, score, popularity))
    return recommendations


def _number_of(user: str, sequences: SequenceTable) -> int:
    try:
        return sequences.number_of(user)
    except ValueError as error:
        raise ValueError(f"--user {user}: {error}") from error


def _items_of(history: Sequence[str], catalogue: Catalogue) -> np.ndarray:
    raw_ids = np.asarray(catalogue.table["raw_id"].to_pylist())
    items = []
    for raw_id in history:
        (places,) = np.nonzero(raw_ids == raw_id)
        if not len(places):
            raise ValueError(
                f"--history {as_cell(raw_id)}: the catalogue has no such item. "
                f"Its first items are {', '.join(map(as_cell, raw_ids[:3]))}"
            )
        # items are numbered from 1, in the order of the catalogue
        items.append(int(places[0]) + 1)
    return np.asarray(items, dtype=np.int64)
