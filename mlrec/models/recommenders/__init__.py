"""RECOMMENDERS: every recommender by name; a row is added here, its class in the file of its family."""

from __future__ import annotations

from typing import Any

from mlrec.models.recommenders.base import SequenceModel, UserModel, Vectors, readable_slots, select_history
from mlrec.models.recommenders.counting import ItemKNN, Popularity
from mlrec.models.recommenders.factorization import NFM, DeepFM
from mlrec.models.recommenders.graph import GRCN, MMGCN, LightGCN
from mlrec.models.recommenders.gru4rec import GRU4Rec
from mlrec.models.recommenders.hstu import HSTU
from mlrec.models.recommenders.nextitnet import NextItNet
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
"""(width, length, **options) to a UserModel."""

__all__ = ["RECOMMENDERS", "SequenceModel", "UserModel", "Vectors", "readable_slots", "select_history"]
