"""Build encoders, and the heads that map their vectors to the recommender's width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mlrec.config import ItemConfig
from mlrec.config.encoder_options import Tuning
from mlrec.data.features.join import ItemIds
from mlrec.data.schema import Modality
from mlrec.models.batchnorm import prepare_batch_norms
from mlrec.models.encoder_files import Restored
from mlrec.models.encoders import Encoder, EncoderContext, EncoderRow, encoder_row
from mlrec.models.encoders.features import vectors_for_whitening
from mlrec.models.encoders.heads import Whitening
from mlrec.models.encoders.pooling import POOLINGS
from mlrec.models.encoders.side_network import SIDE_WIDTH, InterModal, SidePooling
from mlrec.models.lora import add_adapters
from mlrec.models.side_encoder import SideEncoder
from mlrec.models.trial import check_runs
from mlrec.models.tunings import tune
from mlrec.runtime.printable import brief
from mlrec.storage.tensor_files import save_tensors

WHITENING_FILE = "whitening.safetensors"


def context_of(
    name: str,
    row: EncoderRow,
    config: ItemConfig,
    width: int,
    catalogue_size: int,
    restored: Restored,
    items: ItemIds | None,
) -> EncoderContext:
    """Return what an encoder is built from in addition to its row."""
    return EncoderContext(
        width=width,
        catalogue_size=catalogue_size,
        scratch=(row.tuning or config.tuning) == "scratch",
        name=name,
        items=items,
        restored=name in restored.folders,
        files=restored.folders.get(name),
    )


@dataclass(frozen=True)
class BuiltEncoder:
    """An encoder of the item tower with its projection."""

    name: str
    row: EncoderRow
    encoder: Encoder
    head: nn.Module
    """Map from the encoder's vectors to the recommender's width."""
    starts_random: bool
    """Whether it has random weights where other encoders have pretrained ones."""


def build_encoders(
    config: ItemConfig,
    width: int,
    catalogue_size: int,
    restored: Restored,
    items: ItemIds | None,
) -> list[BuiltEncoder]:
    """Build the encoders of a configuration with their projections, in its order.

    Raises:
        ValueError: an encoder is unknown or named twice, an option does not fit, or a checkpoint
            cannot be read.
    """
    for name in config.encoders:
        if config.encoders.count(name) > 1:
            raise ValueError(f"item.encoders has {name} twice. Name every encoder once")
    rows = []
    contexts = []
    for name in config.encoders:
        row = encoder_row(name, config.options.get(name, {}))
        rows.append(row)
        contexts.append(context_of(name, row, config, width, catalogue_size, restored, items))
    # All encoders come before all heads: each draws its initial weights from the same generator.
    encoders = [
        build_encoder(row, context, config) for row, context in zip(rows, contexts, strict=True)
    ]
    built = []
    for row, context, encoder in zip(rows, contexts, encoders, strict=True):
        head = build_head(row, context, encoder)
        _check_projection(row, context, head, config)
        random = starts_random(row, context)
        built.append(BuiltEncoder(context.name, row, encoder, head, random))
    return built


def build_inter_modal(
    config: ItemConfig, built: Sequence[BuiltEncoder], width: int
) -> InterModal | None:
    """Build the side network across encoders; None without item.inter_modal.

    Raises:
        ValueError: fewer than two encoders have a side network.
    """
    if not config.inter_modal:
        return None
    shapes = {}
    side_width = 1
    for index, part in enumerate(built):
        if any(isinstance(module, SidePooling) for module in part.head.modules()):
            shapes[index] = part.encoder.vector_shape
            side_width = max(side_width, part.row.side.get("width", SIDE_WIDTH))
    if len(shapes) < 2:
        raise ValueError(
            f"item.inter_modal=true needs two encoders with a side network, and {len(shapes)} of "
            f"{list(config.encoders)} has one. Set item.tuning=side or remove it"
        )
    return InterModal(shapes, side_width, width)


def _check_projection(
    row: EncoderRow, context: EncoderContext, head: nn.Module, config: ItemConfig
) -> None:
    name = context.name
    # the default projection of a row is no request of the user
    if isinstance(head, nn.Identity) and "projection" in config.options.get(name, {}):
        raise ValueError(
            f"item.options.{name}.projection={row.projection!r} has no effect: {name} already has "
            f"the recommender's width, {context.width}. Remove it, or give the encoder another "
            "width"
        )


def starts_random(row: EncoderRow, context: EncoderContext) -> bool:
    """Return whether an encoder starts from random weights where others have pretrained ones."""
    return (
        row.modality not in (Modality.ID, Modality.FEATURES)
        and not context.restored
        and (context.scratch or not row.checkpoint)
    )


def build_encoder(row: EncoderRow, context: EncoderContext, config: ItemConfig) -> Encoder:
    """Build an encoder and freeze what the tuning does not train.

    Raises:
        ValueError: it is not an Encoder, cannot be built, or cannot encode what it asks the stream
            for.
    """
    name = context.name
    tuning = row.tuning or config.tuning
    encoder = row.build(row, context)
    if not isinstance(encoder, Encoder):
        raise ValueError(
            f"encoder {name!r} is a {type(encoder).__name__}, not an Encoder. Derive it from "
            "mlrec.models.encoders.Encoder"
        )
    # a wrong size would otherwise show in the first step, on every rank
    check_runs(encoder, name)
    if tuning == "lora":
        add_adapters(encoder, name, row.lora)
    else:
        _refuse_lora(row, name, tuning)
        tune(encoder, tuning)
    # batch norms come after the tuning, which decides what is trained
    prepare_batch_norms(encoder, name, tuning, frozen=config.batchnorm == "frozen")
    if tuning == "side":
        encoder = SideEncoder(encoder, name, row.side.get("every", 1))
    encoder.lr = row.lr
    encoder.weight_decay = row.weight_decay
    encoder.projection = row.projection
    if row.dropout and len(config.encoders) == 1:
        raise ValueError(
            f"item.options.{name}.dropout is {row.dropout}, and {name} is the only encoder: an "
            "item without its vector would have none. Add an encoder or remove the dropout"
        )
    return encoder


def _refuse_lora(row: EncoderRow, name: str, tuning: Tuning) -> None:
    if row.lora is not None:
        raise ValueError(
            f"item.options.{name}.lora has no effect, because {name} is tuned by {tuning}. Remove "
            f"it or set item.options.{name}.tuning=lora"
        )


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
    vectors = vectors_for_whitening(row, context)
    if vectors.shape[1:] != encoder.vector_shape:
        widths = [
            " x ".join(map(str, shape)) for shape in (vectors.shape[1:], encoder.vector_shape)
        ]
        raise ValueError(
            f"{row.features} has features of width {widths[0]}, and {name} gives "
            f"{widths[1]}: they are of another encoder. Extract those of {name}"
        )
    return nn.Sequential(Whitening(vectors, row.whiten), head)


def _build_pooling(row: EncoderRow, name: str, encoder: Encoder) -> nn.Module | None:
    """Build the module that reduces several vectors per item to one; None for one vector.

    Raises:
        ValueError: an option of it has no effect, or does not fit the vectors.
    """
    where = f"item.options.{name}"
    if not encoder.rows and "pooling" in row.configured:
        raise ValueError(
            f"{where}.pooling has no effect, because {name} has one vector per item. Remove it, "
            "or use what has several: video/image_frames, item.tuning=side, or features that mlrec "
            "extract --stages wrote"
        )
    widths = encoder.widths if isinstance(encoder, SideEncoder) else ()
    if "every" in row.side and not widths:
        raise ValueError(
            f"{where}.side.every has no effect on {name}, whose stages are not read. Remove it or "
            "set item.tuning=side"
        )
    # a row's default is no request of the user
    pooling = row.pooling if "pooling" in row.configured or not widths else "side"
    if encoder.rows and pooling == "side":
        side_width = row.side.get("width", SIDE_WIDTH)
        return SidePooling(len(encoder.rows), encoder.width, side_width)
    if "width" in row.side:
        raise ValueError(
            f"{where}.side.width has no effect, because {name} has no side network. Remove it or "
            "set item.tuning=side"
        )
    if len(set(widths)) > 1:
        raise ValueError(
            f"{where}.pooling={pooling} cannot combine states of the widths "
            f"{list(widths)}. Remove it, for a side network"
        )
    return POOLINGS[pooling](len(encoder.rows), encoder.width) if encoder.rows else None


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
    # any features do: all buffers are overwritten
    whitening = Whitening(np.zeros((1, *vector_shape), dtype=np.float32), power)
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


def save_whitening(head: nn.Module, folder: Path) -> None:
    """Write the whitening of a head into `folder`, if it has one."""
    if isinstance(head, nn.Sequential) and isinstance(head[0], Whitening):
        save_tensors(dict(head[0].named_buffers()), folder / WHITENING_FILE)
