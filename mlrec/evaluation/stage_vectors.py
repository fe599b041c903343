"""What an extraction computes for an item: the encoder's vector, or the states of its stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from mlrec.data.features.info import MAX_WIDTH
from mlrec.evaluation.principal_components import MAX_PCA_WIDTH
from mlrec.models.encoders import Encoder
from mlrec.models.side_encoder import SideEncoder
from mlrec.models.stage_states import StageStates

ALL_STAGES = "all"
"""Value of --stages for every stage of the encoder."""


@dataclass(frozen=True)
class StageOptions:
    """Options of mlrec extract that replace the encoder's vector by states of its stages."""

    stages: str = ""
    """`all`, or the numbers of stages, such as 0,3,6; "" for the encoder's vector."""
    pca: int | None = None
    """Number of principal components that replace the stages' vectors; None to store those."""

    def __post_init__(self) -> None:
        if self.pca is not None and not self.stages:
            raise ValueError(
                f"--pca {self.pca} needs --stages. It reduces the vectors of several stages; add "
                "--stages all"
            )
        if self.pca is not None and self.pca < 1:
            raise ValueError(f"--pca is {self.pca}. Give a number of components, such as 768")


NO_STAGES = StageOptions()
"""Options for the encoder's own vector."""


@dataclass(frozen=True)
class ItemVectors:
    """The vectors that an extraction computes for an item."""

    module: nn.Module
    """Module that maps media of n items to [n, width]."""
    width: int
    """Number of values per item, of all rows together."""
    rows: tuple[str, ...] = ()
    """Names of an item's vectors; empty for the encoder's vector."""
    dtype: type[np.floating] = np.float32
    """Type in which the values are stored."""


def item_vectors(encoder: Encoder, name: str, options: StageOptions) -> ItemVectors:
    """Return the vectors that an encoder computes with these options.

    Raises:
        ValueError: the options do not fit the encoder.
    """
    if not options.stages and not encoder.rows:
        return ItemVectors(encoder, encoder.width)
    if not options.stages:
        width = len(encoder.rows) * encoder.width
        return ItemVectors(_FlatRows(encoder), width, encoder.rows, np.float16)
    if isinstance(encoder, SideEncoder):
        raise ValueError(
            f"--stages {options.stages} and item.tuning=side exclude each other, because side "
            "extracts the states of its stages anyway. Remove --stages, or set item.tuning=frozen"
        )
    if encoder.rows:
        raise ValueError(
            f"--stages {options.stages} and item.options.{name}.pooling exclude each other, "
            "because states of stages are averaged over frames. Remove one of both. A run pools "
            "features of stages with item.options.features/NAME.pooling"
        )
    states = StageStates(encoder, name)
    stages = _parse_stages(options.stages, len(states.widths), name)
    widths = [states.widths[stage] for stage in stages]
    if options.pca is not None:
        _check_pca(options.pca, sum(widths), name)
    elif len(set(widths)) > 1:
        raise ValueError(
            f"--stages {options.stages}: the stages of {name} have the widths {widths}, and rows "
            "of features have one width. Reduce them together with --pca"
        )
    rows = tuple(f"stage {stage}" for stage in stages)
    # vectors of length 1 fit float16, whose largest number is 65,504
    return ItemVectors(_UnitStates(states, stages), sum(widths), rows, np.float16)


class _FlatRows(nn.Module):
    """Map media to the rows of an encoder, side by side: [n, K * width]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.encoder(media)
        return rows.flatten(1)


class _UnitStates(nn.Module):
    """Map media to the states of the chosen stages, each of length 1, side by side.

    Deep stages have far longer states than shallow ones, and would hide them in a sum or a PCA.
    """

    def __init__(self, states: StageStates, stages: tuple[int, ...]) -> None:
        super().__init__()
        self.states = states
        self.stages = stages

    def forward(self, media: torch.Tensor) -> torch.Tensor:
        states = self.states(media)
        unit_states = []
        for stage in self.stages:
            unit_states.append(normalize(states[stage].float(), dim=1))
        return torch.cat(unit_states, dim=1)


def _parse_stages(text: str, num_stages: int, name: str) -> tuple[int, ...]:
    """Return the numbers of the stages, ascending.

    Raises:
        ValueError: they are not numbers of the encoder's stages, or one is there twice.
    """
    if text == ALL_STAGES:
        return tuple(range(num_stages))
    known = {str(stage) for stage in range(num_stages)}
    stages: list[int] = []
    for word in text.split(","):
        if word not in known:
            raise ValueError(
                f"--stages {text}: {name} has no stage {word!r}. Give all, or numbers from 0 to "
                f"{num_stages - 1} such as 0,{num_stages - 1}"
            )
        if int(word) in stages:
            raise ValueError(f"--stages {text} has stage {word} twice. Name every stage once")
        stages.append(int(word))
    return tuple(sorted(stages))


def _check_pca(num_components: int, width: int, name: str) -> None:
    """Check that vectors of this width can be reduced.

    Raises:
        ValueError: they have fewer values than there are components, or too many.
    """
    if num_components > min(width, MAX_WIDTH):
        raise ValueError(
            f"--pca is {num_components:,}, and the chosen stages of {name} have {width:,} values. "
            "Give a smaller number"
        )
    if width > MAX_PCA_WIDTH:
        raise ValueError(
            f"--pca cannot reduce the {width:,} values of the chosen stages of {name}; at most "
            f"{MAX_PCA_WIDTH:,} are possible. Choose fewer, such as every second: --stages 0,2,4"
        )
