"""Build the transformers model of an architecture, with a checkpoint's weights or random ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from mlrec.models.encoders.architectures import Architecture, describes_a_model
from mlrec.models.encoders.base import EncoderContext, EncoderRow
from mlrec.models.encoders.pretrained import MisfitError, load_model


class Backbone(NamedTuple):
    """A model as `build_backbone` returns it."""

    model: Any
    """The model without parts that the encoder's vectors do not depend on."""
    config: Any
    """The configuration that the model was built from."""
    remark: str = ""
    """What the user should know about the model; "" for nothing."""


def build_backbone(architecture: Architecture, shape: Mapping[str, Any]) -> Backbone:
    """Build the model of an architecture.

    Weights come from the row's checkpoint. They are random for a row without one, for
    item.tuning=scratch, and if a run's own weights are loaded next.

    Args:
        shape: keys to change if the architecture has them and item.options does not set them.

    Raises:
        ValueError: the checkpoint cannot be read or does not fit.
    """
    row = architecture.row
    context = architecture.context
    # a run's config.json is final: its shape was set when the run started
    config = architecture.config
    if context.files is None:
        with describes_a_model(row, context):
            config = _with_shape(architecture, shape)
    if not row.checkpoint or not context.reads_weights:
        model = _from_config(config, row, context, dtype=torch.float32)
        return Backbone(without_unused(model), config)
    try:
        return Backbone(_pretrained(config, row, context), config)
    except MisfitError:
        # DINOv2 and others interpolate their positions to any image size by themselves, so the
        # checkpoint's own shape may work at the requested size.
        interpolating = _pretrained_at_own_shape(architecture, config)
        if interpolating is None:
            raise
        return interpolating


def _pretrained_at_own_shape(architecture: Architecture, config: Any) -> Backbone | None:
    """Return the model at the checkpoint's own shape, or None if that was tried or does not fit."""
    if config.to_dict() == architecture.config.to_dict():
        return None
    try:
        model = _pretrained(architecture.config, architecture.row, architecture.context)
    except MisfitError:
        return None
    remark = "its positions are those of another size, which the model interpolates"
    return Backbone(model, architecture.config, remark)


def _from_config(config: Any, row: EncoderRow, context: EncoderContext, **options: Any) -> Any:
    """Return the model of a configuration with random weights."""
    from transformers import AutoModel

    with describes_a_model(row, context):
        return AutoModel.from_config(config, trust_remote_code=False, **options)  # type: ignore[no-untyped-call]


def _with_shape(architecture: Architecture, shape: Mapping[str, Any]) -> Any:
    """Return a copy of the configuration with the keys of `shape` that item.options leaves open."""
    # a copy, because the checkpoint's own shape is the fallback of build_backbone
    changed = Architecture(
        copy.deepcopy(architecture.config), architecture.row, architecture.context
    )
    for key, value in shape.items():
        if key not in architecture.row.config and hasattr(changed.image, key):
            setattr(changed.image, key, value)
    return changed.config


def _pretrained(config: Any, row: EncoderRow, context: EncoderContext) -> Any:
    """Return the model with the checkpoint's weights.

    Two skeletons on the meta device cost no memory. The first has all tensors that the checkpoint
    may contain. The second is trimmed, and shows which of them the encoder needs.
    """
    with torch.device("meta"):
        skeleton = _from_config(config, row, context)
        trimmed = _from_config(config, row, context)
    part = without_unused(trimmed)
    prefix = _path_of(part, trimmed)
    needed = set()
    for name in part.state_dict():
        # only masked pretraining reads it, so files of fine-tuned models may lack it
        if not name.endswith("mask_token"):
            needed.add(f"{prefix}.{name}" if prefix else name)
    return without_unused(load_model(skeleton, config, row.checkpoint, context.name, needed))


def _path_of(part: nn.Module, model: nn.Module) -> str:
    """Return the dotted path of a submodule; "" for the model itself."""
    for path, module in model.named_modules():
        if module is part:
            return str(path)
    raise AssertionError("the part is not in the model")


def without_unused(model: Any) -> Any:
    """Return the model without parts that its vectors do not depend on.

    Training them would fail, because they get no gradient.
    """
    # CLIP and SigLIP are pairs: only the image part is needed
    model = getattr(model, "vision_model", model)
    if hasattr(model, "predictor"):
        # V-JEPA 2 predicts masked patches with it during pretraining
        model.predictor = None
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Linear) or hasattr(pooler, "dense"):
        # trained for another task, and missing in most checkpoints
        model.pooler = None
    for module in list(model.modules()):
        if getattr(module, "mask_token", None) is not None:
            # a buffer is not trained, but forward still finds the attribute
            token = module.mask_token.data
            del module.mask_token
            module.register_buffer("mask_token", token)
    return model
