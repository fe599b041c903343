"""Build the head of an encoder, which maps its vectors to the recommender's width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mlrec.models.encoders import Encoder, EncoderContext, EncoderRow, is_table
from mlrec.models.encoders.features import vectors_for_whitening
from mlrec.models.encoders.heads import Whitening
from mlrec.models.encoders.pooling import POOLINGS
from mlrec.models.encoders.side_network import SIDE_WIDTH, SidePooling
from mlrec.models.side_encoder import SideEncoder
from mlrec.runtime.printable import brief
from mlrec.storage.tensor_files import save_tensors

WHITENING_FILE = "whitening.safetensors"


def build_head(row: EncoderRow, context: EncoderContext, encoder: Encoder) -> nn.Module:
    """Build the map from the encoder's vectors to the recommender's width.

    It whitens the vectors first if the row says so, and reduces several vectors per item to one.

    Raises:
        ValueError: the features whose statistics whiten are not set or do not fit, or there is
            nothing to reduce.
    """
    name = context.name
    head = encoder.head(context.width)
    pooling = _build_pooling(row, name, encoder)
    if pooling is not None:
        head = nn.Sequential(pooling, head)
    if not row.whiten and row.features:
        raise ValueError(
            f"item.options.{name}.features has no effect because whiten=0. Remove it or set whiten"
        )
    if not row.whiten:
        return head
    # a run's own file comes first: the features may have moved since it started
    if context.files is not None and (context.files / WHITENING_FILE).exists():
        path = context.files / WHITENING_FILE
        return nn.Sequential(_load_whitening(path, encoder.vector_shape, row.whiten), head)
    if context.shapes_only:
        return nn.Sequential(_blank_whitening(encoder.vector_shape, row.whiten), head)
    vectors = vectors_for_whitening(row, context)
    if vectors.shape[1:] != encoder.vector_shape:
        stored, given = (
            " x ".join(map(str, shape)) for shape in (vectors.shape[1:], encoder.vector_shape)
        )
        raise ValueError(
            f"{row.features} has features of {stored} values per item, and {name} gives {given}. "
            f"Extract them by {name} with the same checkpoint, tuning, side.every and pooling as "
            "in this run"
        )
    return nn.Sequential(Whitening(vectors, row.whiten), head)


def _build_pooling(row: EncoderRow, name: str, encoder: Encoder) -> nn.Module | None:
    """Build the module that reduces several vectors per item to one; None for one vector.

    Raises:
        ValueError: an option of it has no effect, or does not fit the vectors.
    """
    where = f"item.options.{name}"
    if len(encoder.rows) < 2 and "pooling" in row.configured:
        raise ValueError(
            f"{where}.pooling has no effect, because {name} has one vector per item. Remove it, "
            "or use what has several: video/image_frames with several frames, item.tuning=side, or "
            "features that mlrec extract --stages wrote"
        )
    widths = encoder.widths if isinstance(encoder, SideEncoder) else ()
    # a row's default is no request of the user
    pooling = row.pooling if "pooling" in row.configured or not widths else "side"
    has_side_network = pooling == "side" and bool(encoder.rows)
    _check_side_options(row, name, encoder, has_side_network)
    if has_side_network:
        side_width = row.side.get("width", SIDE_WIDTH)
        return SidePooling(len(encoder.rows), encoder.width, side_width)
    if len(set(widths)) > 1:
        raise ValueError(
            f"{where}.pooling={pooling} cannot combine states of the widths "
            f"{list(widths)}. Remove it, for a side network"
        )
    return POOLINGS[pooling](len(encoder.rows), encoder.width) if encoder.rows else None


def _check_side_options(
    row: EncoderRow, name: str, encoder: Encoder, has_side_network: bool
) -> None:
    """Check that the options of a side network have an effect.

    Raises:
        ValueError: one has none.
    """
    where = f"item.options.{name}"
    is_side = isinstance(encoder, SideEncoder)
    tuned = "" if is_table(name) else f" or set {where}.tuning=side"
    if "every" in row.side and not is_side:
        raise ValueError(
            f"{where}.side.every has no effect on {name}, whose stages are not read. Remove "
            f"it{tuned}"
        )
    if "width" not in row.side or has_side_network:
        return
    if is_side:
        raise ValueError(
            f"{where}.side.width has no effect, because {where}.pooling={row.pooling} replaces the "
            "side network. Remove one of both"
        )
    # features of stages, or frames, are several vectors per item
    other = f" or set {where}.pooling=side" if len(encoder.rows) > 1 else tuned
    raise ValueError(
        f"{where}.side.width has no effect, because {name} has no side network. Remove it{other}"
    )


def _load_whitening(path: Path, vector_shape: tuple[int, ...], power: float) -> Whitening:
    """Load the whitening that a run has saved.

    Raises:
        ValueError: the file is damaged or does not fit the encoder.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged ({brief(error)}). Copy the run's folder again"
        ) from error
    whitening = _blank_whitening(vector_shape, power)
    for name, buffer in whitening.named_buffers():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != buffer.shape or not tensor.isfinite().all():
            raise ValueError(
                f"{path} does not fit the model: its {name} is missing or damaged. Copy the run's "
                "folder again"
            )
        with torch.no_grad():
            buffer.copy_(tensor)
    return whitening


def _blank_whitening(vector_shape: tuple[int, ...], power: float) -> Whitening:
    """Return a whitening whose buffers have their shapes, but not their values."""
    return Whitening(np.zeros((1, *vector_shape), dtype=np.float32), power)


def save_whitening(head: nn.Module, folder: Path) -> None:
    """Write the whitening of a head into `folder`, if it has one."""
    if isinstance(head, nn.Sequential) and isinstance(head[0], Whitening):
        save_tensors(dict(head[0].named_buffers()), folder / WHITENING_FILE)
