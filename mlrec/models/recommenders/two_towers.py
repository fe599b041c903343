"""Two towers: a user is made of the mean of the watched items' vectors."""

from __future__ import annotations

import math

import torch
from torch import nn

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import ALL, SequenceModel, Vectors, mean_so_far, unit


class DSSM(SequenceModel):
    """Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data, 2013.

    A network for users and one for items, both with tanh; the score is the cosine, `loss.temperature` its smoothing factor. The
    user is the mean of the history.
    """

    cosine = True

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.user = _network(width, layers, nn.Tanh, dropout)
        self.item = _network(width, layers, nn.Tanh, dropout)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        return Vectors(ids_U, items_UD, self.compared(self.item(items_UD)))

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        states_BLD: torch.Tensor = self.user(mean_so_far(history_BLD, mask_BL)[:, wanted])
        return states_BLD


class YoutubeDNN(SequenceModel):
    """Covington et al., Deep Neural Networks for YouTube Recommendations, 2016: the candidate generation network.

    A ReLU network over the mean of the history, scored by the dot product with the item vectors; frozen video features join as
    an encoder of the item tower (VIDRec).
    """

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.user = _network(width, layers, nn.ReLU, dropout)

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        states_BLD: torch.Tensor = self.user(mean_so_far(history_BLD, mask_BL)[:, wanted])
        return states_BLD


class DecayedMean(SequenceModel):
    """The mean of the history, recent items first, through one linear map; all vectors have length 1, the score is a cosine.

    As SimpleX (Mao et al., SimpleX: A Simple and Strong Baseline for Collaborative Filtering, 2021) without its vectors of
    users, and with trained weights: an item counts by how many steps ago it was watched, `decay` a step at first. The map
    starts as the identity. What the items' vectors say about each other thus ranks before the first step, and training
    changes it: content of items that nobody has watched yet keeps its meaning. `loss.temperature` scales the cosine.
    """

    cosine = True

    def __init__(self, width: int, length: int, decay: float = 0.7) -> None:
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(
                f"recommender.options.decay is {decay}; the weight of one step back is above 0 and at most 1"
            )
        self.log_weights = nn.Parameter(math.log(decay) * torch.arange(length))
        self.map = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.map.weight)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        unit_UD = self.compared(items_UD)
        return Vectors(ids_U, unit_UD, unit_UD)

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        place_L = torch.arange(history_BLD.shape[1], device=mask_BL.device)
        steps_LL = place_L[wanted, None] - place_L
        weight_LL = self.log_weights.exp()[steps_LL.clamp(min=0)] * (steps_LL >= 0)
        mean_BLD = weight_LL @ (history_BLD * mask_BL[..., None])
        states_BLD: torch.Tensor = self.map(unit(mean_BLD))
        return states_BLD


def _network(width: int, layers: int, activation: type[nn.Module], dropout: float) -> nn.Sequential:
    """`layers` hidden layers and a linear one."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(width, width), activation(), Dropout(dropout)]
    network = nn.Sequential(*modules, nn.Linear(width, width))
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return network
