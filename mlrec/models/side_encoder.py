"""An encoder tuned by `side`: frozen, with the states of its stages as an item's vectors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import normalize, pad

from mlrec.models.encoders.base import Encoder
from mlrec.models.stage_states import StageStates


class SideEncoder(Encoder):
    """The states of a frozen encoder's stages: media of n items to [n, K, width].

    Each state has length 1, as in features of stages, because deep stages have far longer states
    than shallow ones. States narrower than the widest end in zeros. The encoder's pooling, such as
    a side network, is trained. As the encoder is frozen as a whole, the activation cache holds the
    states alone.
    """

    def __init__(self, encoder: Encoder, name: str, every: int = 1) -> None:
        """
        Args:
            encoder: with all parameters frozen.
            name: of the encoder, for messages.
            every: distance between the stages whose states are used, counted from the last.

        Raises:
            ValueError: fewer than two stages are left, or the state of one cannot be averaged.
        """
        super().__init__()
        self._stages = _every_from_the_last(len(encoder.stages()), every, name)
        self.states = StageStates(encoder, name)
        self.widths = tuple(self.states.widths[stage] for stage in self._stages)
        self.width = max(self.widths)
        self.rows = tuple(f"stage {stage}" for stage in self._stages)
        self.spec = encoder.spec
        self.remarks = encoder.remarks

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        states = self.states(media)
        rows = []
        for stage in self._stages:
            state = states[stage]
            row = normalize(state.float(), dim=1).to(state.dtype)
            rows.append(pad(row, (0, self.width - state.shape[1])))
        return torch.stack(rows, dim=1)

    def stages(self) -> list[nn.Module]:
        return self.states.encoder.stages()

    def save_files(self, folder: Path) -> None:
        self.states.encoder.save_files(folder)


def _every_from_the_last(num_stages: int, every: int, name: str) -> list[int]:
    """Return the numbers of every k-th stage, ascending, with the last among them.

    Raises:
        ValueError: they are fewer than two.
    """
    if num_stages < 2:
        raise ValueError(
            f"{name} cannot be tuned by side, which combines the states of several stages. It has "
            f"{num_stages}; set another item.options.{name}.tuning"
        )
    if every >= num_stages:
        raise ValueError(
            f"item.options.{name}.side.every is {every}, which leaves 1 of the {num_stages} stages "
            f"of {name}. A side network combines several; give {num_stages - 1} at most"
        )
    return sorted(range(num_stages - 1, -1, -every))
