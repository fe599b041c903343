"""Recommenders: modules that turn item vectors into states of users, and score items for a state.

To add one, read base.py, write the class, and add it to RECOMMENDERS below.

base.py           UserModel and SequenceModel: start here
histories.py      histories of item vectors, padded or without padding
sasrec.py         self-attention over the history
gru4rec.py        a recurrent network
nextitnet.py      dilated convolutions
hstu.py           attention without softmax
two_towers.py     DSSM, YouTube's candidate generation, and a decayed mean of the history
factorization.py  NFM and DeepFM
graph.py          LightGCN, MMGCN and GRCN
counting.py       popularity and item neighbours, counted without training
options.py        check recommender.options against a class's arguments
"""

from __future__ import annotations

from typing import Any

from mlrec.config import RecommenderConfig
from mlrec.data.schema import lookup
from mlrec.models.recommenders.base import SequenceModel, UserModel, Vectors, readable_slots
from mlrec.models.recommenders.counting import ItemKNN, Popularity
from mlrec.models.recommenders.factorization import NFM, DeepFM
from mlrec.models.recommenders.graph import GRCN, MMGCN, LightGCN
from mlrec.models.recommenders.gru4rec import GRU4Rec
from mlrec.models.recommenders.histories import History, Slots
from mlrec.models.recommenders.hstu import HSTU
from mlrec.models.recommenders.nextitnet import NextItNet
from mlrec.models.recommenders.options import check_options
from mlrec.models.recommenders.sasrec import SASRec
from mlrec.models.recommenders.two_towers import DSSM, DecayedMean, YoutubeDNN

RECOMMENDERS: dict[str, Any] = {
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
    "nextitnet": NextItNet,
    "hstu": HSTU,
    "dssm": DSSM,
    "youtube_dnn": YoutubeDNN,
    "decayed_mean": DecayedMean,
    "nfm": NFM,
    "deepfm": DeepFM,
    "lightgcn": LightGCN,
    "mmgcn": MMGCN,
    "grcn": GRCN,
    "popularity": Popularity,
    "item_knn": ItemKNN,
}
"""Every recommender by the name that `recommender.name` uses: (width, length, **options) to a
UserModel."""


def check_recommender(config: RecommenderConfig) -> None:
    """Check that the recommender exists and takes its options.

    Raises:
        ValueError: the name or an option is unknown, or the model cannot score by cosine.
    """
    row = lookup(RECOMMENDERS, config.name, "recommender")
    check_options(config.name, row, config.options)
    # scaling vectors to length 1 makes a cosine of a plain product only
    if config.cosine and not scores_by_product(row):
        raise ValueError(
            f"recommender.cosine is true, and {config.name} does not score by the product of a "
            "history's state and an item's vector; leave it out"
        )


def build_user_model(config: RecommenderConfig, length: int) -> UserModel:
    """Build the recommender for histories of up to `length` items, with random weights.

    Raises:
        ValueError: the row does not take the options, or is not a UserModel.
    """
    row = lookup(RECOMMENDERS, config.name, "recommender")
    try:
        model = row(config.width, length, **config.options)
    # a wrong or missing argument; constructors raise ValueError for values
    except TypeError as error:
        raise ValueError(f"recommender.options of {config.name}: {error}") from error
    if not isinstance(model, UserModel):
        raise ValueError(
            f"recommender {config.name!r} is a {type(model).__name__}, which is no UserModel; "
            "derive it from SequenceModel or UserModel of mlrec.models.recommenders"
        )
    if isinstance(model, SequenceModel):
        # a class such as DSSM scores by cosine whatever the configuration says
        model.cosine |= config.cosine
    return model


def scores_by_product(row: Any) -> bool:
    """Return whether the score is the product of a history's state and an item's vector.

    A vector index can serve such a recommender.
    """
    return isinstance(row, type) and issubclass(row, SequenceModel) and row.score is UserModel.score


__all__ = [
    "RECOMMENDERS",
    "History",
    "SequenceModel",
    "Slots",
    "UserModel",
    "Vectors",
    "build_user_model",
    "check_recommender",
    "readable_slots",
    "scores_by_product",
]
