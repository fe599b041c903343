"""NextItNet: dilated convolutions over the history."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import pad

from mlrec.models.recommenders.base import SequenceModel
from mlrec.models.recommenders.histories import History

_KERNEL = 3
"""Width of a convolution in positions."""


class NextItNet(SequenceModel):
    """Yuan et al., A Simple Convolutional Generative Network for Next Item Recommendation, 2019.

    With the details of MicroLens' code: a residual block has two causal convolutions of kernel 3
    with dilations d and 2 d. The blocks for d = 1 and d = 4 are repeated.
    """

    def __init__(
        self, width: int, length: int, repeats: int = 2, dilations: tuple[int, ...] = (1, 4)
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(width, dilation) for _ in range(repeats) for dilation in dilations
        )

    def forward(self, history: History) -> torch.Tensor:
        states_BLD = history.padded_items()
        for block in self.blocks:
            states_BLD = block(states_BLD, history.mask_BL[..., None])
        return history.at_rows(states_BLD)


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_CausalConv(width, dilation * factor) for factor in (1, 2))

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = values
        for layer in self.layers:
            # before each convolution, because the bias of the last one filled the padding
            hidden = layer(hidden * mask)
        return values + hidden


class _CausalConv(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.before = (_KERNEL - 1) * dilation
        self.conv = nn.Conv1d(width, width, _KERNEL, dilation=dilation)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_normal_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        # Conv1d reads [B, D, L]; padding on the left only hides later positions
        convolved = self.conv(pad(values.transpose(1, 2), (self.before, 0)))
        return torch.relu(self.norm(convolved.transpose(1, 2)))
