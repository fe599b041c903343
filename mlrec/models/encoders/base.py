"""What an encoder is, and the row that describes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from torch import nn

from mlrec.config.encoder_options import EncoderOptions, Projection, Tuning
from mlrec.config.values import check_typed
from mlrec.data.features.files import ItemIds
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.heads import projection_head

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_PIXELS = 1 << 26
"""Of an item's input: 64 frames of 1024 x 1024, 200 MB."""
MAX_TOKENS = 1 << 15

_OPTION_KINDS = get_type_hints(EncoderOptions, include_extras=True)


class Encoder(nn.Module):
    """Media to vectors: forward takes what `spec` describes for n items and gives [n, width]."""

    spec: InputSpec
    width: int
    rereads = False
    """Whether the stages behind the first one look at the media again, as at the mask of a title's tokens."""
    joins_by_raw_id = False
    """Whether an encoder that reads item numbers finds the same items in every packing of the data."""
    lr: float | None = None
    weight_decay: float | None = None
    projection: Projection = "gelu"
    """As in its row."""
    remarks: tuple[str, ...] = ()
    """What users should know about how it was built; startup prints each as a line."""

    def stages(self) -> list[nn.Module]:
        """The blocks from shallow to deep; tuning regimes count them from the end."""
        raise NotImplementedError

    def save_files(self, folder: Path) -> None:
        """Write into `folder`, which exists, what builds this encoder without its checkpoint; by default nothing.

        Weights are not needed: they are in the run's checkpoints.
        """

    def head(self, width: int) -> nn.Module:
        """What maps the encoder's vectors to the recommender's width D."""
        return projection_head(self.projection, self.width, width)


@dataclass(frozen=True)
class EncoderRow:
    """A row of ENCODERS: how to build the encoder, and the contract that the stream keeps."""

    build: Callable[[EncoderRow, EncoderContext], Encoder]
    modality: Modality
    paper: str
    width: int = 0
    """Width of the encoder's vectors; 0 for the recommender's own."""
    frames: int = 1
    size: int = 0
    """Height and width in pixels; 0 frames or pixels for what the checkpoint states."""
    mean: tuple[float, float, float] | None = IMAGENET_MEAN
    std: tuple[float, float, float] | None = IMAGENET_STD
    """Of the pixels' values, from 0 to 1; None for those that the checkpoint states."""
    length: int = 0
    """Tokens of a title, samples of audio at 16 kHz."""
    checkpoint: str = ""
    """Name at the Hugging Face hub, or a folder or file on any storage that mlrec reads; empty for random weights."""
    licence: str = ""
    """Licence of the checkpoint."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What to change in the architecture's own configuration; options add to the row's."""
    output: Literal["pooled", "scores"] = "pooled"
    """The encoder's vector: the pooled features, or the class scores of the checkpoint's head, as MicroLens has it."""
    scores: int = 0
    """Number of classes of the checkpoint's head; 0 where only the features are had."""
    tuning: Tuning | None = None
    """How much of this encoder is trained; None for the item tower's setting."""
    lr: float | None = None
    """Its peak learning rate; None for optim.encoder_lr."""
    weight_decay: float | None = None
    """Of its matrices; None for optim.encoder_weight_decay."""
    projection: Projection = "gelu"
    """From the encoder's vectors to the recommender's width: gelu as MicroLens does; linear, which at first keeps the
    angles between items; mlp: the same and a small network that starts at zero."""
    dropout: float = 0.0
    """Share of the items of a training step that go without this encoder's vector, so that the others learn to stand for it, as
    they must for an item that nobody has watched (Volkovs et al., DropoutNet, 2017)."""
    whiten: float = 0.0
    """How far the variances of the vectors' directions are made equal before they are projected: 1 wholly, 0 not at all."""
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the fields that the configuration set, as opposed to the table."""
    features: str = ""
    """Of an encoder that is whitened: its features of the catalogue, as mlrec extract writes them; those of features/vectors are
    its own."""

    def changed(self, name: str, options: Mapping[str, Any]) -> EncoderRow:
        """The row with `options` in the place of its own fields.

        Raises:
            ValueError: an option is not a field that may change, or its value is none that the encoder has.
        """
        for key, value in options.items():
            where = f"item.options.{name}.{key}"
            if key not in _OPTION_KINDS:
                raise ValueError(
                    f"{where}: unknown option; an encoder has {', '.join(sorted(_OPTION_KINDS))}"
                )
            check_typed(value, _OPTION_KINDS[key], where)
        if options.get("output", "pooled") == "scores" and not self.scores:
            raise ValueError(
                f"item.options.{name}.output is 'scores'; this encoder has pooled features only"
            )
        changes: dict[str, Any] = {
            key: tuple(value) for key, value in options.items() if key in ("mean", "std") and value
        }
        changes["config"] = {**self.config, **options.get("config", {})}
        given = frozenset(key for key, value in options.items() if value is not None)
        row = dataclasses.replace(self, **{**options, **changes}, given=given)
        row._check_input(name)
        return row

    def _check_input(self, name: str) -> None:
        """
        Raises:
            ValueError: an item's input is absurdly large.
        """
        if self.frames * self.size**2 > MAX_PIXELS:
            raise ValueError(
                f"item.options.{name}: {self.frames} frames of {self.size} x {self.size} are more than {MAX_PIXELS:,} pixels "
                "an item; lower frames or size"
            )
        if self.modality is Modality.TITLE and self.length > MAX_TOKENS:
            raise ValueError(
                f"item.options.{name}.length is {self.length}; a title has at most {MAX_TOKENS:,} tokens"
            )


@dataclass(frozen=True)
class EncoderContext:
    """What beside its row an encoder is built from."""

    width: int
    """D: the recommender's width."""
    catalogue_size: int
    """N: items are numbered 1 ... N."""
    scratch: bool
    """Random weights even where the row names a checkpoint."""
    name: str = ""
    """The row's name in ENCODERS, for messages."""
    items: ItemIds | None = None
    """The data set's items by their raw ids; None where an encoder is built without a data set."""
    restored: bool = False
    """Whether the weights come from a run's checkpoint, which is loaded next: pretrained weights are not read."""
    files: Path | None = None
    """Folder with what `Encoder.save_files` wrote in that run; None for a run of an earlier version, which has none."""

    def known_items(self) -> ItemIds:
        """Return the data set's items.

        Raises:
            ValueError: the encoder is built without a data set.
        """
        if self.items is None:
            raise ValueError(
                f"{self.name} looks items up by their raw ids, and there is no data set that has them"
            )
        return self.items


def kept_file(folder: Path, name: str) -> Path:
    """Return the path of a file that `Encoder.save_files` wrote.

    Raises:
        ValueError: it is missing.
    """
    if not (folder / name).is_file():
        raise ValueError(
            f"{folder} has no {name}, so its run is incomplete. Copy the run's folder again"
        )
    return folder / name


class Normalize(nn.Module):
    """uint8 pixels [..., H, W, C] to standardised values [..., C, H, W] of the wanted dtype, on the device."""

    def __init__(
        self, mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
    ) -> None:
        super().__init__()
        mean, std = mean or IMAGENET_MEAN, std or IMAGENET_STD
        # no buffers: with the model in bf16 they would be rounded to 8 bits, a mean of 123.7 to 123.5
        self.mean, self.scale = (
            torch.tensor(mean).mul(255.0),
            torch.tensor(std).mul(255.0).reciprocal(),
        )

    def forward(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.mean.device != pixels.device:
            self.mean, self.scale = self.mean.to(pixels.device), self.scale.to(pixels.device)
        values = (pixels.float() - self.mean) * self.scale
        return values.movedim(-1, -3).to(dtype)


def tune(encoder: Encoder, tuning: Tuning) -> None:
    """Sets which parameters of the encoder are trained: none, its last stage, its deeper half, or all."""
    stages = encoder.stages()
    count = {"frozen": 0, "top": 1, "half": (len(stages) + 1) // 2, "full": 0, "scratch": 0}[tuning]
    encoder.requires_grad_(tuning in ("full", "scratch"))
    for stage in stages[len(stages) - count :]:
        stage.requires_grad_(True)
