"""Two towers: a user is a network over the mean of the watched items' vectors."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize

from mlrec.models.recommenders.base import ALL, SequenceModel, Vectors, mean_so_far


class DSSM(SequenceModel):
    """Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data, 2013.

    A network for users and one for items, both with tanh; the score is the cosine, `loss.temperature` its smoothing factor. The
    user is the mean of the history.
    """

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.user = _network(width, layers, nn.Tanh, dropout)
        self.item = _network(width, layers, nn.Tanh, dropout)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        return Vectors(ids_U, items_UD, normalize(self.item(items_UD), dim=-1))

    def forward(self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL) -> torch.Tensor:
        return normalize(self.user(mean_so_far(history_BLD, mask_BL)[:, wanted]), dim=-1)


class YoutubeDNN(SequenceModel):
    """Covington et al., Deep Neural Networks for YouTube Recommendations, 2016: the candidate generation network.

    A ReLU network over the mean of the history, scored by the dot product with the item vectors; frozen video features join as
    an encoder of the item tower (VIDRec).
    """

    def __init__(self, width: int, length: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.user = _network(width, layers, nn.ReLU, dropout)

    def forward(self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL) -> torch.Tensor:
        states_BLD: torch.Tensor = self.user(mean_so_far(history_BLD, mask_BL)[:, wanted])
        return states_BLD


def _network(width: int, layers: int, activation: type[nn.Module], dropout: float) -> nn.Sequential:
    """`layers` hidden layers and a linear one."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(width, width), activation(), nn.Dropout(dropout)]
    network = nn.Sequential(*modules, nn.Linear(width, width))
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return network
