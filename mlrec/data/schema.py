"""Types that all modules share: modalities, the input of an encoder, and a step's batch.

Shape letters, used at module boundaries:
    B users of this rank     L positions          U distinct items of the global batch
    O items owned by this rank                    N catalogue
    D width                  T frames             C H W image
    W ranks                  K cut-off            P positions of this rank with a target
    M users of the data set                       E training interactions
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

Row = TypeVar("Row")

INLINE_BYTES = 128 << 10
"""Largest tensor of a batch that a loader worker sends as bytes. A larger one is sent as the
descriptor of shared memory, which costs each process about 0.2 ms."""

# 256 bytes, and the ids of padding, start and end.
BYTE_TOKENS = 259
"""Number of token ids of a title without a tokenizer."""


class Modality(StrEnum):
    """Part of an item that an encoder reads."""

    ID = "id"
    TITLE = "title"
    COVER = "cover"
    VIDEO = "video"
    AUDIO = "audio"
    FEATURES = "features"


@dataclass(frozen=True)
class JpegSlots:
    """The stored JPEGs of an input that is decoded on the device, one slot for each."""

    count: int
    """JPEGs of an item. A video with more frames than this repeats some."""
    size: int
    """Height and width of the JPEGs (pixels)."""
    most_bytes: int
    """Size of the largest JPEG of this kind in the data set."""


# Frozen, because inputs are keys of Batch.media: encoders with equal inputs share a tensor.
@dataclass(frozen=True)
class InputSpec:
    """Input of an encoder; the stream delivers exactly this.

    video: uint8 [n, T, H, W, C].
    cover: uint8 [n, H, W, C].
    id: int64 [n].
    title: int64 [n, 2, length], token ids and the mask of real tokens.
    audio: int16 [n, length], mono at AUDIO_RATE of the data format.
    features: float32 [n, length], zeros for an item without a vector.

    With `jpegs`, the stream delivers a video or cover as uint8 [n, count, 4 + most_bytes], and the
    item tower decodes a chunk of it on the device.
    """

    modality: Modality
    frames: int = 1
    """T of a video; 1 for other modalities."""
    size: int = 0
    """H and W (pixels) of a video or cover; 0 for other modalities."""
    length: int = 0
    """Tokens of a title, samples of audio or values of features; 0 for other modalities."""
    tokenizer: str = ""
    """Folder or Hugging Face name of a title's tokenizer.

    Empty for the bytes of the title: 0 is padding, 1 start, 2 end, 3 + byte the rest.
    """
    name: str = ""
    """Name of features; empty for other modalities."""
    jpegs: JpegSlots | None = None
    """JPEGs of a video or cover that is decoded on the device; None for other inputs."""


@dataclass
class Batch:
    """This rank's part of one step.

    The U items stand in owner order: rank r owns one contiguous run of them.
    """

    step: int
    users_B: torch.Tensor
    """int64: numbers of this rank's users, from 0."""
    # Invariant: row u of every tensor ending in _U is about items_U[u]; all ranks share this order.
    items_U: torch.Tensor
    """int64: ids, from 1, of the distinct items of the global batch.

    The whole catalogue if the model needs it.
    """
    count_U: torch.Tensor
    """int64: occurrences of each item in training sequences of the candidates' users; 0 if it is no
    candidate."""
    targets_U: torch.Tensor
    """int64: how often each item is a target of the global batch; the sum divides the loss."""
    log_p_U: torch.Tensor
    """float32: logarithm of each item's share of the training interactions."""
    owned_W: tuple[int, ...]
    """Number of items that each rank owns; their sum is U."""
    items_O: torch.Tensor
    """int64: ids of the owned items."""
    media: dict[InputSpec, torch.Tensor]
    """The owned items' media [O, ...] by input of the item tower, in host memory.

    Items that could not be read are zeros."""
    valid_O: torch.Tensor
    """bool: the owned items that could be read."""
    inputs_BL: torch.Tensor
    """int64: positions in items_U of each user's history, right-aligned, -1 for padding."""
    targets_BL: torch.Tensor
    """int64: positions in items_U of the item that follows each history item, -1 for padding."""
    bad_items: dict[int, str] = field(default_factory=dict)
    """Owned items that could not be read, with the reason."""
    bytes_read: int = 0
    """Of members that were delivered for this batch."""
    local_bytes: int = 0
    """Of these, what was on this node already: in a local data set, or in the cache."""
    remote_bytes: int = 0
    """That the loader's process asked of the network since its last batch."""
    cached_O: torch.Tensor | None = None
    """Owned items whose activations were in the cache when the batch was built, bool. Their rows of
    `media` are arbitrary for an input of CachedItems. None without a cache."""
    source: Batch | None = None
    """The batch in host memory that `to` has copied; None for a batch that is no copy."""

    @property
    def on_host(self) -> Batch:
        """The same batch in host memory, where reading a number makes nobody wait."""
        return self if self.source is None else self.source

    def slots(self) -> torch.Tensor:
        """Return the users' training sequences as positions in items_U, int64 [B, T]; -1 pads."""
        # Targets are the inputs shifted by one, so that their last column completes the sequence.
        return torch.cat([self.inputs_BL, self.targets_BL[:, -1:]], dim=1)

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to `device`; tensors ending in `_O` and the media stay on the host.

        The item tower copies the media one chunk at a time. Copies from pinned memory do not block.
        """
        tensors = {
            name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in tensors.items()
            if not name.endswith("_O")
        }
        return Batch(**{**vars(self), **moved, "source": self.on_host})

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields as a loader worker sends them, small tensors as arrays."""
        return {name: _sent(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the fields, with tensors in place of arrays."""
        vars(self).update({name: _received(value) for name, value in state.items()})

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, except the media, which MediaRegion locks."""
        tensors = {
            name: value.pin_memory()
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return Batch(**{**vars(self), **tensors})


def _sent(value: Any) -> Any:
    """Return a small tensor as an array, and everything else as it is."""
    if isinstance(value, torch.Tensor) and value.nbytes <= INLINE_BYTES:
        return value.numpy()
    return value


def _received(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


class Step(NamedTuple):
    """Outcome of one training step."""

    loss: torch.Tensor
    """This rank's share of the loss; its mean over the ranks is the loss."""
    norm: torch.Tensor | float
    """L2 norm of the global gradient before clipping; infinite when the step was skipped."""
    # Equal on all ranks: if only some of them updated, their weights would diverge.
    skipped: bool
    """Whether the gradient or the loss was not finite on some rank, so that nothing was updated."""


@dataclass(frozen=True)
class Scored:
    """Arguments of a loss: the P positions of this rank that have a target, and their scores."""

    scores: Callable[[torch.Tensor | None], torch.Tensor]
    """Function that returns float32 scores: of all items [P, U] for None, of the items at int64
    [P, K] otherwise. Scores that no loss requests are not computed."""
    target_P: torch.Tensor
    """int64: positions in U."""
    own_PT: torch.Tensor
    """int64: positions in U of the training sequence of the position's user; -1 for padding."""
    key_P: torch.Tensor
    """int64: unique numbers of the step's positions, independent of the number of ranks."""
    batch: Batch
    valid_U: torch.Tensor
    """bool: items that could be read."""


def lookup(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """Return the row of `table` under exactly `name`.

    Raises:
        ValueError: there is no such row; the message lists the near names.
    """
    if name in table:
        return table[name]
    continued = [row for row in table if name and row.startswith(name)]
    near = continued[:3] or difflib.get_close_matches(name, table, n=3, cutoff=0.5) or sorted(table)
    meant, table_name = (
        " or ".join(map(repr, near)),
        f"{kind}es" if kind.endswith("s") else f"{kind}s",
    )
    raise ValueError(f"unknown {kind} {name!r}; did you mean {meant}? see: mlrec list {table_name}")
