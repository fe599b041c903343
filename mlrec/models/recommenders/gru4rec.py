"""GRU4Rec: a recurrent network over the history."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from mlrec.models.dropout import Dropout
from mlrec.models.recommenders.base import SequenceModel
from mlrec.models.recommenders.histories import History


class GRU4Rec(SequenceModel):
    """Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, 2016.

    With the details of MicroLens' code: dropout on the input, then GRU layers of width D without
    bias. Without bias, zeros leave the zero state unchanged, so padding before the first item does
    not affect the states.
    """

    # dropout acts on the input of every position
    computes_histories: ClassVar[bool] = True

    def __init__(self, width: int, length: int, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.gru = nn.GRU(width, width, layers, bias=False, batch_first=True)
        for name, weight in self.gru.named_parameters():
            is_recurrent = name.startswith("weight_hh")
            initialize = nn.init.orthogonal_ if is_recurrent else nn.init.xavier_normal_
            # one matrix holds three gates; each is initialized separately
            for gate in weight.detach().chunk(3):
                initialize(gate)

    def forward(self, history: History) -> torch.Tensor:
        inputs_BLD = history.padded(self.dropout(history.items_at_rows()))
        states_BLD, _ = self.gru(inputs_BLD)
        return history.at_rows(states_BLD)[history.wanted_P]
