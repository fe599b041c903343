"""GRU4Rec: a recurrent network over the history."""

from __future__ import annotations

import torch
from torch import nn

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import ALL, SequenceModel


class GRU4Rec(SequenceModel):
    """Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, 2016, with the details of MicroLens' code.

    Dropout on the input, then GRU layers of width D without bias: an empty slot (zeros) leaves the zero state as it is, so that
    padding before the first item has no part in the states.
    """

    def __init__(self, width: int, length: int, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.gru = nn.GRU(width, width, layers, bias=False, batch_first=True)
        for name, weight in self.gru.named_parameters():
            # drawn gate by gate: the three stand in one matrix
            for gate in weight.detach().chunk(3):
                nn.init.orthogonal_(gate) if name.startswith(
                    "weight_hh"
                ) else nn.init.xavier_normal_(gate)

    def forward(
        self, history_BLD: torch.Tensor, mask_BL: torch.Tensor, wanted: slice = ALL
    ) -> torch.Tensor:
        states_BLD: torch.Tensor = self.gru(self.dropout(history_BLD * mask_BL[..., None]))[0][
            :, wanted
        ]
        return states_BLD
