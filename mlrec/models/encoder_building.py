"""Build the encoders of an item tower, tuned as the configuration says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import nn

from mlrec.config import ItemConfig
from mlrec.config.encoder_options import Tuning
from mlrec.data.features.join import ItemIds
from mlrec.data.schema import Modality
from mlrec.models.batchnorm import prepare_batch_norms
from mlrec.models.encoder_files import Restored
from mlrec.models.encoders import Encoder, EncoderContext, EncoderRow, encoder_row, is_table
from mlrec.models.encoders.huggingface import HuggingFace
from mlrec.models.encoders.pretrained import is_on_this_machine
from mlrec.models.encoders.side_network import SIDE_WIDTH, InterModal, SidePooling
from mlrec.models.head_building import build_head
from mlrec.models.lora import add_adapters
from mlrec.models.side_encoder import SideEncoder
from mlrec.models.skeleton import skeletons
from mlrec.models.trial import check_runs
from mlrec.models.tunings import tune


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
        shapes_only=_is_measured_only(row, restored),
    )


def _is_measured_only(row: EncoderRow, restored: Restored) -> bool:
    """Return whether an encoder gets shapes alone."""
    if restored.weights == "local":
        return not is_on_this_machine(row.checkpoint)
    return restored.weights == "none"


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
    check_tuning_has_effect(config)
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
        random = starts_random(row, context, encoder)
        built.append(BuiltEncoder(context.name, row, encoder, head, random))
    return built


def check_tuning_has_effect(config: ItemConfig) -> None:
    """Check that side or lora, which no default is, tunes an encoder.

    Raises:
        ValueError: all encoders are tables and features, whose rows have a tuning of their own.
    """
    if config.tuning not in ("side", "lora"):
        return
    if not all(map(is_table, config.encoders)):
        return
    hint = " For features of all stages, set their pooling=side." if config.tuning == "side" else ""
    raise ValueError(
        f"item.tuning={config.tuning} has no effect on {', '.join(config.encoders)}: tables of ids "
        f"and tokens are trained as a whole, and features are frozen.{hint} Remove it"
    )


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
        names = [built[index].name for index in shapes]
        has = f"only {names[0]} has one" if names else "none has one"
        raise ValueError(
            "item.inter_modal=true needs two encoders with a side network, and of item.encoders "
            f"{list(config.encoders)} {has}. Encoders of media have one with tuning=side and no "
            "pooling, features of stages with pooling=side. Set these, or remove item.inter_modal"
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


def starts_random(row: EncoderRow, context: EncoderContext, encoder: Encoder) -> bool:
    """Return whether an encoder starts from random weights where others have pretrained ones."""
    has_weights = row.checkpoint and encoder.reads_weights
    return (
        row.modality not in (Modality.ID, Modality.FEATURES)
        and not context.restored
        and (context.scratch or not has_weights)
    )


def build_encoder(row: EncoderRow, context: EncoderContext, config: ItemConfig) -> Encoder:
    """Build an encoder and freeze what the tuning does not train.

    Raises:
        ValueError: it is not an Encoder, cannot be built, or cannot encode what it asks the stream
            for.
    """
    name = context.name
    tuning = row.tuning or config.tuning
    # tables of features keep their values, by which they are joined with the items
    without_values = context.shapes_only and not is_table(name)
    with skeletons() if without_values else nullcontext():
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
        _refuse_lora(row, name, encoder, tuning)
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


def _refuse_lora(row: EncoderRow, name: str, encoder: Encoder, tuning: Tuning) -> None:
    where = f"item.options.{name}"
    if row.lora is None:
        return
    if not isinstance(encoder, HuggingFace):
        raise ValueError(
            f"{where}.lora has no effect, because only Hugging Face encoders can be adapted, and "
            f"{name} is none. Remove it"
        )
    raise ValueError(
        f"{where}.lora has no effect, because {name} is tuned by {tuning}. Remove it or set "
        f"{where}.tuning=lora"
    )
