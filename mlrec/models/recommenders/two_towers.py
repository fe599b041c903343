"""Two towers: a user is computed from the mean of the watched items' vectors."""

from __future__ import annotations

import math

import torch
from torch import nn

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import SequenceModel, Vectors, mean_so_far, unit
from mlrec.models.recommenders.histories import History


class DSSM(SequenceModel):
    """Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough
    Data, 2013.

    One tanh network reads the mean of the history, another one reads items. The score is their
    cosine, and `loss.temperature` is its smoothing factor.
    """

    cosine = True

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.user = _network(width, layers, nn.Tanh, dropout)
        self.item = _network(width, layers, nn.Tanh, dropout)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        return Vectors(ids_U, items_UD, self.compared(self.item(items_UD)))

    def forward(self, history: History) -> torch.Tensor:
        mean_PD = history.at_rows(mean_so_far(history.padded_items(), history.mask_BL))
        states_PD: torch.Tensor = self.user(mean_PD)
        return states_PD


class YoutubeDNN(SequenceModel):
    """Covington et al., Deep Neural Networks for YouTube Recommendations, 2016.

    This is the candidate generation network: a ReLU network over the mean of the history, scored by
    the dot product with item vectors. Frozen video features are an encoder of the item tower
    (VIDRec).
    """

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.user = _network(width, layers, nn.ReLU, dropout)

    def forward(self, history: History) -> torch.Tensor:
        mean_PD = history.at_rows(mean_so_far(history.padded_items(), history.mask_BL))
        states_PD: torch.Tensor = self.user(mean_PD)
        return states_PD


class DecayedMean(SequenceModel):
    """A weighted mean of the history through one linear map, scored by cosine.

    It follows SimpleX (Mao et al., SimpleX: A Simple and Strong Baseline for Collaborative
    Filtering, 2021) without its user vectors. An item's weight depends on how many steps ago it was
    watched. The weights are trained and start at `decay` per step. The map starts as the identity,
    so that content vectors rank items even before the first step. Cold items keep the meaning of
    their content. All vectors have length 1, and `loss.temperature` scales the cosine.
    """

    cosine = True

    def __init__(self, width: int, length: int, decay: float = 0.7) -> None:
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(
                f"recommender.options.decay is {decay}; the weight of one step back is above 0 and "
                "at most 1"
            )
        # logarithms, so that training cannot make a weight negative
        self.log_weights = nn.Parameter(math.log(decay) * torch.arange(length))
        self.map = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.map.weight)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        unit_UD = self.compared(items_UD)
        return Vectors(ids_U, unit_UD, unit_UD)

    def forward(self, history: History) -> torch.Tensor:
        place_L = torch.arange(history.length, device=history.mask_BL.device)
        # steps from each position back to each position; negative ones are in the future
        steps_LL = place_L[:, None] - place_L
        weight_LL = self.log_weights.exp()[steps_LL.clamp(min=0)] * (steps_LL >= 0)
        # not divided by the sum of the weights, because `unit` removes any scale
        mean_PD = history.at_rows(weight_LL @ history.padded_items())
        states_PD: torch.Tensor = self.map(unit(mean_PD))
        return states_PD


def _network(width: int, layers: int, activation: type[nn.Module], dropout: float) -> nn.Sequential:
    """Return a network of `layers` hidden layers and a linear one."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(width, width), activation(), Dropout(dropout)]
    network = nn.Sequential(*modules, nn.Linear(width, width))
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return network
