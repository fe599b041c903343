"""The base class of encoders and the row that describes one. Start here to add an encoder.

1. Derive a class from `Encoder`. Its constructor takes the row and an `EncoderContext`, and sets
   `spec` and `width`. Implement `forward` and `stages`.
2. Write an `EncoderRow` with the class as `build`, and add it to ENCODERS in __init__.py.

`MeanFrame` in mlrec/README.md is a complete example, TinyVideo in video.py a slightly larger one.
A small version of the row in tests/small_encoders.py puts it under every encoder test.

Shape letters and what `forward` receives for each modality (size, frames, length: of `spec`):

    n  items of a chunk          T  frames        H W C  height, width and color channels
    D  the recommender's width   N  items of the catalogue

    VIDEO     uint8 [n, T, H, W, C]    RGB frames, H = W = size
    COVER     uint8 [n, H, W, C]       an RGB image
    AUDIO     int16 [n, length]        mono samples at 16 kHz
    TITLE     int64 [n, 2, length]     token ids and their mask
    FEATURES  float32 [n, length]      vectors computed before training
    ID        int64 [n]                item numbers 1 ... N; 0 is padding

`forward` returns [n, width], and `head` projects these vectors to [n, D]. An encoder that names
`rows` returns [n, K, width]; a pooling of pooling.py reduces them before the projection.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from torch import nn

from mlrec.config.encoder_options import EncoderOptions, Pooling, Projection, Tuning
from mlrec.config.values import check_typed
from mlrec.data.features.join import ItemIds
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.heads import projection_head
from mlrec.runtime.distributed import to_device

# of red, green and blue values from 0 to 1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# data workers hold batches of items, so a typing error would exhaust the host's memory
MAX_PIXELS = 1 << 26
"""Upper bound of frames x height x width per item: 64 frames of 1024 x 1024, 200 MB."""
MAX_TOKENS = 1 << 15
"""Upper bound of a title's length in tokens."""

_OPTION_TYPES = get_type_hints(EncoderOptions, include_extras=True)


class Encoder(nn.Module):
    """A module whose forward maps the media described by `spec` to vectors [n, width]."""

    spec: InputSpec
    """The input that the data stream delivers: modality, frames, size, length."""
    width: int
    """Width of the vectors that forward returns."""
    rows: tuple[str, ...] = ()
    """Names of an item's K vectors, such as frames, where forward returns [n, K, width]; empty for
    one vector. The row's `pooling` reduces them to one."""
    rereads = False
    """True if later stages read the media again, such as the mask of a title's tokens."""
    reads_weights = True
    """False if a checkpoint gives the encoder no weights, but a tokenizer."""
    joins_by_raw_id = False
    """True if the vectors of item numbers are the same in every packing of the data."""
    lr: float | None = None
    """Peak learning rate; None for optim.encoder_lr."""
    weight_decay: float | None = None
    """Weight decay of matrices; None for optim.encoder_weight_decay."""
    projection: Projection = "gelu"
    """The row's projection to the recommender's width."""
    remarks: tuple[str, ...] = ()
    """Notes on how the encoder was built, printed one per line at startup."""

    @property
    def vector_shape(self) -> tuple[int, ...]:
        """Shape of an item's vectors: (width,), or (K, width) for K rows."""
        return (len(self.rows), self.width) if self.rows else (self.width,)

    def stages(self) -> list[nn.Module]:
        """Return the blocks from shallow to deep; tuning regimes count them from the end."""
        raise NotImplementedError

    def save_files(self, folder: Path) -> None:
        """Write what rebuilding this encoder without its checkpoint needs; by default nothing.

        Weights are left out because a run's checkpoints contain them.

        Args:
            folder: an existing folder that belongs to this encoder.
        """

    def head(self, width: int) -> nn.Module:
        """Return the module that maps [n, self.width] to [n, width], where `width` is D."""
        return projection_head(self.projection, self.width, width)


@dataclass(frozen=True)
class EncoderRow:
    """One row of ENCODERS: how to build the encoder, and which inputs it reads."""

    build: Callable[[EncoderRow, EncoderContext], Encoder]
    """The encoder's class, or a function with the same arguments."""
    modality: Modality
    """The modality of the input; the constructor repeats it in `spec`."""
    paper: str
    """Authors, title and year, as printed by `mlrec list encoders`."""
    width: int = 0
    """Width of the encoder's vectors; 0 for the recommender's own."""
    frames: int = 1
    """Number of frames per video; 0 for the checkpoint's own."""
    size: int = 0
    """Height and width in pixels; 0 for the checkpoint's own."""
    mean: tuple[float, float, float] | None = IMAGENET_MEAN
    """Mean of pixel values from 0 to 1; None for the checkpoint's own."""
    std: tuple[float, float, float] | None = IMAGENET_STD
    """Standard deviation of pixel values from 0 to 1; None for the checkpoint's own."""
    length: int = 0
    """Length of a title in tokens, or of audio in samples at 16 kHz."""
    checkpoint: str = ""
    """Name at the Hugging Face hub, or path or URL of a folder or file; "" for random weights. Of
    features/NAME: the file of vectors; "" for those in the data set."""
    licence: str = ""
    """Licence of the checkpoint."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the architecture's configuration; item.options.X.config adds to them."""
    output: Literal["pooled", "scores"] = "pooled"
    """Output vector: pooled features, or the checkpoint's class scores as in MicroLens."""
    scores: int = 0
    """Number of classes of the checkpoint's head; 0 if only pooled features are available."""
    tuning: Tuning | None = None
    """Which part of this encoder is trained; None for item.tuning."""
    lora: Mapping[str, Any] | None = None
    """Adapters of the tuning `lora`: rank (8), alpha (16), stages (number of deepest stages that
    have them; 0, the default, for all), targets (ends of layers' names; all linear layers by
    default), dora (false)."""
    lr: float | None = None
    """Peak learning rate; None for optim.encoder_lr."""
    weight_decay: float | None = None
    """Weight decay of matrices; None for optim.encoder_weight_decay."""
    projection: Projection = "gelu"
    """Projection to the recommender's width. `gelu`: MicroLens' linear layer and GELU. `linear`:
    preserves the angles between items at first. `mlp`: `linear` plus a small network that starts
    at zero."""
    pooling: Pooling = "mean"
    """Reduction of several vectors per item, before the projection. `mix` learns one weight per
    vector, and starts as the mean. `side` is the side network of item.tuning=side."""
    side: Mapping[str, int] = field(default_factory=dict)
    """Options of the side network: `every`, the distance between the stages that it uses (1), and
    `width` (64)."""
    dropout: float = 0.0
    """Share of a training step's items that go without this encoder's vector. The other encoders
    learn to replace it, as they must for cold items (Volkovs et al., DropoutNet, 2017)."""
    whiten: float = 0.0
    """How far the variances of the vectors' directions are equalized before the projection, from
    0 (not at all) to 1 (fully)."""
    # not compared: it tells where values come from, not what they are
    configured: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the fields that the configuration has set."""
    features: str = ""
    """Folder of this encoder's features, written by mlrec extract, whose statistics `whiten` uses;
    features/NAME uses its own."""
    missing: Literal["error", "zeros"] = "error"
    """What items without a vector mean to features/NAME: an error, or zeros and a notice."""

    def changed(self, name: str, options: Mapping[str, Any]) -> EncoderRow:
        """Return a copy of the row with fields replaced by `options`.

        Args:
            name: the row's name in ENCODERS, for messages.

        Raises:
            ValueError: an option is unknown, or its value is not possible for this encoder.
        """
        for key, value in options.items():
            where = f"item.options.{name}.{key}"
            if key not in _OPTION_TYPES:
                known = ", ".join(sorted(_OPTION_TYPES))
                raise ValueError(f"{where}: unknown option; an encoder has {known}")
            check_typed(value, _OPTION_TYPES[key], where)
        if "missing" in options and not name.startswith("features/"):
            raise ValueError(
                f"item.options.{name}.missing has no effect: it is about stored features. "
                "Remove it, or set it for features/NAME"
            )
        if options.get("output", "pooled") == "scores" and not self.scores:
            raise ValueError(
                f"item.options.{name}.output is 'scores'; this encoder has pooled features only"
            )
        changes = dict(options)
        for key in ("mean", "std"):
            # rows hold tuples, a configuration file has lists
            if changes.get(key):
                changes[key] = tuple(changes[key])
        # config is merged with the row's, while every other option replaces the row's value
        changes["config"] = {**self.config, **options.get("config", {})}
        # null in a configuration file stands for the default
        configured = frozenset(key for key, value in options.items() if value is not None)
        row = dataclasses.replace(self, **changes, configured=configured)
        row._check_input(name)
        return row

    def _check_input(self, name: str) -> None:
        """Check that one item's input has a reasonable size.

        Raises:
            ValueError: it has too many pixels or tokens.
        """
        if self.frames * self.size**2 > MAX_PIXELS:
            raise ValueError(
                f"item.options.{name}: {self.frames} frames of {self.size} x {self.size} are more "
                f"than {MAX_PIXELS:,} pixels an item; lower frames or size"
            )
        if self.modality is Modality.TITLE and self.length > MAX_TOKENS:
            raise ValueError(
                f"item.options.{name}.length is {self.length}; a title has at most "
                f"{MAX_TOKENS:,} tokens"
            )


@dataclass(frozen=True)
class EncoderContext:
    """What an encoder's constructor gets in addition to its row."""

    width: int
    """D: the recommender's width."""
    catalogue_size: int
    """N: items are numbered 1 ... N."""
    scratch: bool
    """True for random weights even if the row names a checkpoint."""
    name: str = ""
    """The row's name in ENCODERS, for messages."""
    items: ItemIds | None = None
    """The data set's items by their raw ids; None without a data set."""
    restored: bool = False
    """True if a run's checkpoint is loaded next, so that pretrained weights are not read."""
    files: Path | None = None
    """Folder that `Encoder.save_files` wrote in that run; None for a run of an earlier version."""
    shapes_only: bool = False
    """True for an encoder that is only measured: it has the shapes of the row's checkpoint, and
    neither weights nor a tokenizer. Files are read from folders of this machine only."""

    @property
    def reads_weights(self) -> bool:
        """Whether weights come from the row's checkpoint, if it names one."""
        return not (self.scratch or self.restored or self.shapes_only)

    def known_items(self) -> ItemIds:
        """Return the data set's items.

        Raises:
            ValueError: the encoder is built without a data set.
        """
        if self.items is None:
            raise ValueError(
                f"{self.name} cannot be built without a data set, because it looks items up by "
                "their raw ids. Build the item tower with the data set's items"
            )
        return self.items


def saved_file(folder: Path, name: str) -> Path:
    """Return the path of a file that `Encoder.save_files` wrote.

    Raises:
        ValueError: the file is missing.
    """
    if not (folder / name).is_file():
        raise ValueError(
            f"{folder} has no {name}, so its run is incomplete. Copy the run's folder again"
        )
    return folder / name


class Normalize(nn.Module):
    """uint8 pixels [..., H, W, C] to standardized values [..., C, H, W], computed on the device."""

    def __init__(
        self, mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
    ) -> None:
        super().__init__()
        # Plain attributes, not buffers: casting the model to bf16 would round them to 8 bits,
        # a mean of 123.7 to 123.5.
        self.mean = torch.tensor(mean or IMAGENET_MEAN).mul(255.0)
        self.scale = torch.tensor(std or IMAGENET_STD).mul(255.0).reciprocal()

    def forward(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        # moved once, at the first forward, because .to(device) of the module skips attributes
        if self.mean.device != pixels.device:
            self.mean = to_device(self.mean, pixels.device)
            self.scale = to_device(self.scale, pixels.device)
        # in fp32 first: bf16 cannot represent all 256 pixel values after the subtraction
        values = (pixels.float() - self.mean) * self.scale
        return values.movedim(-1, -3).to(dtype)
