"""What a trained model recommends to a user, or after a history, with titles."""

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
from mlrec.runtime.redact import scrub
from mlrec.runtime.terminal import say
from mlrec.serving import ServedModel


@dataclass(frozen=True)
class Recommendation:
    """One recommended item."""

    item: int
    raw_id: str
    title: str
    score: float
    popularity: int | None
    """Training interactions; None, and no title, where an export is used without its data set."""


@torch.no_grad()
def recommend(
    run: Path,
    user: str | None,
    history: Sequence[str],
    count: int,
    world: World,
    overrides: Sequence[str] = (),
) -> list[Recommendation]:
    """The best items by the run's best checkpoint, without those of the history.

    Args:
        user: id in the raw data; all of the user's items are the history then.
        history: raw ids of items, oldest first, where no user is given.
        overrides: "key=value" over the run's settings, such as data.url.

    Raises:
        ValueError: there is no such run, user or item, no item of the history could be read, or the model knows the users of its
            training only.
    """
    config = load_trained(run, overrides)
    path = best_checkpoint(config)
    data = open_data(config.data)
    number = None if user is None else _number_of(user, data.sequences)
    seen = _items_of(history, data.catalogue) if number is None else data.sequences.items_of(number)
    model = load_model(config, data, world, path).eval()
    catalogue = encode_catalogue(model, data, config, world)
    ranking = Ranking(model, data, catalogue.items_ND, catalogue.readable_N)
    knows_users = ranking.vectors.users_MX is not None
    if knows_users and number is None:
        raise ValueError(
            f"{config.recommender.name} knows the users of its training only; give --user instead of --history"
        )
    known_S = seen[np.isin(seen, ranking.ids_N[catalogue.readable_N.cpu().numpy()])]
    if not len(known_S) and not knows_users:
        whose = f"--history {','.join(history)}" if user is None else f"--user {user}"
        raise ValueError(
            f"{whose}: no item of this history could be read, and without one {run} knows nothing of the user; give another one"
        )
    length = data.info.split.history_length
    history_L = np.concatenate([np.zeros(length, dtype=np.int64), known_S])[-length:]
    score_N = ranking.scores(ranking.states_after(np.array([number or 0]), history_L[None]))[0]
    score_N[ranking.row_N1[known_S]] = -torch.inf
    best = score_N.topk(min(count, int(torch.isfinite(score_N).sum())))
    return _described(
        data.catalogue, ranking.ids_N[best.indices.cpu().numpy()], best.values.cpu().numpy()
    )


def recommend_from_index(
    url: str, user: str | None, history: Sequence[str], count: int, overrides: Sequence[str] = ()
) -> list[Recommendation]:
    """As recommend, by what `mlrec export RUN OUT --index` wrote to `url`: no item is encoded.

    After a history `url` is enough: where the data set at its data.url is not to be had or is another one, titles and popularity
    are left out; items of the history without a vector are passed over. Both are said on stderr.

    Raises:
        ValueError: no item of the history is in the index; or for a user, there is no such user or no such data set.
    """
    served = ServedModel(url, overrides)
    number_of = dict(zip(served.raw_ids_N, served.items_N.tolist(), strict=True))
    data, problem = _exported_data(served)
    if user is not None:
        if data is None:
            raise ValueError(
                f"--user {user} is looked up in the data set, and {problem}; or give --history ID,ID"
            )
        history = _raw_ids(
            data.catalogue, data.sequences.items_of(_number_of(user, data.sequences))
        )
    raw_ids, scores_K = served.recommend(history, count)
    if user is None and (unknown := [raw_id for raw_id in history if raw_id not in number_of]):
        say(f"passed over, without a vector in {url}: {', '.join(unknown)}", error=True)
    items_K = np.array([number_of[raw_id] for raw_id in raw_ids], dtype=np.int64)
    if data is not None:
        return _described(data.catalogue, items_K, scores_K)
    say(f"without titles: {problem}", error=True)
    found = zip(items_K.tolist(), raw_ids, scores_K.tolist(), strict=True)
    return [Recommendation(item, raw_id, "", score, None) for item, raw_id, score in found]


def _exported_data(served: ServedModel) -> tuple[Data | None, str]:
    """The data set that the export is of, or None and why it cannot be had."""
    settings = served.config.data
    remedy = "append data.url=URL if the data set has moved"
    say(f"reading titles from {scrub(settings.url)}", error=True, flush=True)
    try:
        data = open_data(settings)
    except (ValueError, OSError, RuntimeError) as error:
        return None, scrub(f"it cannot be read from {settings.url} ({error}); {remedy}")
    if data.info.fingerprint != served.dataset:
        return None, scrub(
            f"{settings.url} holds {data.info.fingerprint[:12]}, not the exported {served.dataset[:12]}; {remedy}, or train "
            f"on the new one and mlrec export RUN {served.url} --index"
        )
    return data, ""


def _raw_ids(catalogue: Catalogue, items: np.ndarray) -> list[str]:
    return [
        str(raw_id) for raw_id in catalogue.table["raw_id"].take(pa.array(items - 1)).to_pylist()
    ]


def _described(
    catalogue: Catalogue, items_K: np.ndarray, scores_K: np.ndarray
) -> list[Recommendation]:
    found = zip(items_K.tolist(), _raw_ids(catalogue, items_K), scores_K.tolist(), strict=True)
    popularity_N1 = catalogue.popularity_N1
    return [
        Recommendation(item, raw_id, catalogue.title(item), score, int(popularity_N1[item]))
        for item, raw_id, score in found
    ]


def _number_of(user: str, sequences: SequenceTable) -> int:
    try:
        return sequences.number_of(user)
    except ValueError as error:
        raise ValueError(f"--user {user}: {error}") from error


def _items_of(history: Sequence[str], catalogue: Catalogue) -> np.ndarray:
    raw_ids = np.asarray(catalogue.table["raw_id"].to_pylist())
    items = []
    for raw_id in history:
        (found,) = np.nonzero(raw_ids == raw_id)
        if not len(found):
            raise ValueError(
                f"--history {raw_id}: the catalogue has no such item; its first ones are {', '.join(raw_ids[:3])}"
            )
        items.append(int(found[0]) + 1)
    return np.asarray(items, dtype=np.int64)
