"""A side network: a small network over the states of a frozen encoder's stages.

Fu et al., IISAN: Efficiently Adapting Multimodal Representation for Sequential Recommendation with
Decoupled PEFT, 2024. It needs no gradient through the encoder, whose states are cached.

Shape letters: n items, K stages, S the side network's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import layer_norm

SIDE_WIDTH = 64
"""Default of item.options.ENCODER.side.width."""


class StageProjections(nn.Module):
    """Project each stage's state to the side network's width: [n, K, width] to [n, K, S]."""

    def __init__(self, num_stages: int, width: int, side_width: int) -> None:
        super().__init__()
        # one tensor, so that one matrix product serves all stages
        self.weight = nn.Parameter(torch.empty(num_stages, width, side_width))
        for matrix in self.weight.data:
            nn.init.xavier_uniform_(matrix)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        # states have length 1; the norm brings them to the scale that the initialization assumes
        normalized = layer_norm(states, states.shape[-1:])
        return torch.einsum("nkw,kws->nks", normalized, self.weight)


class Ladder(nn.Module):
    """Go through the projected states from shallow to deep: [n, K, S] to [n, S].

    At each stage a gate mixes the state so far with the stage's own, and an adapter adds to it.
    """

    def __init__(self, num_stages: int, side_width: int) -> None:
        super().__init__()
        # a half each at first
        self.gates = nn.Parameter(torch.zeros(num_stages - 1))
        self.adapters = nn.ModuleList(_Adapter(side_width) for _ in range(num_stages))

    def forward(self, projected: torch.Tensor) -> torch.Tensor:
        first, *others = projected.unbind(dim=1)
        first_adapter, *adapters = self.adapters
        state: torch.Tensor = first_adapter(first)
        for gate, stage, adapter in zip(self.gates.sigmoid(), others, adapters, strict=True):
            state = adapter(gate * state + (1 - gate) * stage)
        return state


class _Adapter(nn.Module):
    """A bottleneck whose output is added to its input."""

    def __init__(self, side_width: int) -> None:
        super().__init__()
        bottleneck = max(1, side_width // 2)
        self.down = nn.Linear(side_width, bottleneck)
        self.up = nn.Linear(bottleneck, side_width)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        adapted: torch.Tensor = state + self.up(nn.functional.gelu(self.down(state)))
        return adapted


class SidePooling(nn.Module):
    """The last stage's state plus a side network over all states: [n, K, width] to [n, width].

    The side network's output starts at zero, so that training begins with the frozen encoder.
    """

    def __init__(self, num_rows: int, width: int, side_width: int = SIDE_WIDTH) -> None:
        super().__init__()
        self.projections = StageProjections(num_rows, width, side_width)
        self.ladder = Ladder(num_rows, side_width)
        self.up = nn.Linear(side_width, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        adapted: torch.Tensor = states[:, -1] + self.up(self.ladder(self.projections(states)))
        return adapted


class InterModal(nn.Module):
    """A side network across encoders, over the states [n, K, width] of each: to [n, D].

    At each depth a gate mixes the projected states of the encoders. An encoder with more stages
    than another skips some. The output starts at zero.
    """

    def __init__(self, shapes: Mapping[int, tuple[int, ...]], side_width: int, width: int) -> None:
        """
        Args:
            shapes: (K, width) of the states, by the encoder's index in the item tower.
            side_width: S.
            width: D.
        """
        super().__init__()
        depth = min(num_stages for num_stages, _ in shapes.values())
        self._stages_of: dict[int, list[int]] = {}
        self.projections = nn.ModuleList()
        for encoder, (num_stages, state_width) in shapes.items():
            self._stages_of[encoder] = _spread(depth, num_stages)
            self.projections.append(StageProjections(depth, state_width, side_width))
        # equal weights at first
        self.gates = nn.Parameter(torch.zeros(len(shapes), depth))
        self.ladder = Ladder(depth, side_width)
        self.up = nn.Linear(side_width, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return [n, D].

        Args:
            vectors: of all encoders of the item tower, before their projections.
        """
        weights = self.gates.softmax(dim=0)
        mixed = []
        parts = zip(weights, self._stages_of.items(), self.projections, strict=True)
        for weights_K, (encoder, stages), projection in parts:
            # slices, because indexing by a list would copy it to the device in each forward
            states = torch.stack([vectors[encoder][:, stage] for stage in stages], dim=1)
            mixed.append(weights_K[:, None] * projection(states.to(weights.dtype)))
        fused: torch.Tensor = self.up(self.ladder(torch.stack(mixed).sum(dim=0)))
        return fused


def _spread(count: int, num_stages: int) -> list[int]:
    """Return `count` stages at equal distances, with the first and the last among them."""
    stages = []
    for place in range(count):
        stages.append(place * (num_stages - 1) // max(1, count - 1))
    return stages
