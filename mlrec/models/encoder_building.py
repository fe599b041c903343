"""From an encoder's row to the encoder as a run trains it, and to what maps its vectors to the recommender's width."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mlrec.config import ItemConfig
from mlrec.data.features.files import ItemIds, vectors_of_items
from mlrec.data.schema import Modality, lookup
from mlrec.models.batchnorm import prepare_batch_norms
from mlrec.models.encoder_files import Restored
from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext, EncoderRow, tune
from mlrec.models.encoders.features import Vectors
from mlrec.models.encoders.heads import Whitening
from mlrec.models.trial import check_runs
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
    """Return what an encoder is built from beside its row."""
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
        row = lookup(ENCODERS, name, "encoder").changed(name, config.options.get(name, {}))
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


def _check_projection(
    row: EncoderRow, context: EncoderContext, head: nn.Module, config: ItemConfig
) -> None:
    name = context.name
    if isinstance(head, nn.Identity) and "projection" in config.options.get(name, {}):
        raise ValueError(
            f"item.options.{name}.projection={row.projection!r} has no effect: {name} already has "
            f"the recommender's width, {context.width}. Remove it, or give the encoder another width"
        )


def starts_random(row: EncoderRow, context: EncoderContext) -> bool:
    """Tell whether an encoder starts from random weights where others have pretrained ones."""
    return (
        row.modality is not Modality.ID
        and not context.restored
        and (context.scratch or not row.checkpoint)
    )


def build_encoder(row: EncoderRow, context: EncoderContext, config: ItemConfig) -> Encoder:
    """Return the encoder, of which what is to be trained is.

    Raises:
        ValueError: it is none, cannot be built, or cannot encode what it asks the stream for.
    """
    name, tuning = context.name, row.tuning or config.tuning
    encoder = row.build(row, context)
    if not isinstance(encoder, Encoder):
        raise ValueError(
            f"encoder {name!r} is a {type(encoder).__name__}, which is no Encoder; derive it from Encoder of "
            "mlrec.models.encoders"
        )
    check_runs(encoder, name)
    tune(encoder, tuning)
    encoder.lr, encoder.weight_decay = row.lr, row.weight_decay
    encoder.projection = row.projection
    prepare_batch_norms(encoder, name, tuning, frozen=config.batchnorm == "frozen")
    if row.dropout and len(config.encoders) == 1:
        raise ValueError(
            f"item.options.{name}.dropout is {row.dropout}, and {name} is the only encoder: an item without its vector "
            "would have none; add an encoder or leave the dropout out"
        )
    return encoder


def build_head(row: EncoderRow, context: EncoderContext, encoder: Encoder) -> nn.Module:
    """Return what maps the encoder's vectors to the recommender's width, whitened first if the row says so.

    Raises:
        ValueError: the features to whiten by are not set or do not fit.
    """
    name, head = context.name, encoder.head(context.width)
    if not row.whiten and row.features:
        raise ValueError(
            f"item.options.{name}.features has no effect because whiten=0. Remove it or set whiten"
        )
    if not row.whiten:
        return head
    kept = context.files / WHITENING_FILE if context.files is not None else None
    if kept is not None and kept.exists():
        return nn.Sequential(_kept_whitening(kept, encoder.width, row.whiten), head)
    features = row.features or (row.checkpoint if row.build is Vectors else "")
    if not features:
        raise ValueError(
            f"item.options.{name}.whiten is {row.whiten}, and item.options.{name}.features is not set; give the folder that "
            f"mlrec extract wrote of {name}"
        )
    vectors = vectors_of_items(features, context.items)
    if vectors.shape[1] != encoder.width:
        raise ValueError(
            f"{features} has features of width {vectors.shape[1]}, {name} gives {encoder.width}: they are of another encoder"
        )
    return nn.Sequential(Whitening(vectors, row.whiten), head)


def _kept_whitening(path: Path, width: int, power: float) -> Whitening:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged ({brief(error)}). Copy the run's folder again"
        ) from error
    whitening = Whitening(np.eye(width, dtype=np.float32), power)
    for name, buffer in whitening.named_buffers():
        if (
            name not in tensors
            or tensors[name].shape != buffer.shape
            or not tensors[name].isfinite().all()
        ):
            raise ValueError(
                f"{path} does not fit the model: its {name} is missing or damaged. Copy the run's folder again"
            )
        with torch.no_grad():
            buffer.copy_(tensors[name])
    return whitening


def save_whitening(head: nn.Module, folder: Path) -> None:
    """Write the map of a whitened encoder into `folder`."""
    if isinstance(head, nn.Sequential) and isinstance(head[0], Whitening):
        save_tensors(dict(head[0].named_buffers()), folder / WHITENING_FILE)
