"""Architectures of Hugging Face transformers: their configuration, and the model that it means, with or without weights."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlrec.models.encoders.base import EncoderContext, EncoderRow, kept_file
from mlrec.models.encoders.pretrained import (
    MisfitError,
    explained,
    load_model,
    local_folder,
    reason_of,
)
from mlrec.runtime.printable import printable

CONFIG_FILE = "config.json"
MAX_LAYERS, MAX_SIZE = 1000, 1 << 24
"""Bounds of a configuration's whole numbers: those that count layers, and all others."""
_SIZES = """
crop_size frames_per_clip frequency_stride hidden_size hidden_sizes image_size intermediate_size max_position_embeddings
num_attention_heads num_channels num_frames num_hidden_layers num_mel_bins patch_size time_stride tubelet_size
"""
_AT_LEAST_1 = frozenset(_SIZES.split())
"""Sizes that mlrec or every architecture divides by or allocates."""
_ACTIVATION_KEYS = ("hidden_act", "activation_function")
SIZE_KEYS, FRAME_KEYS = ("image_size", "crop_size"), ("num_frames", "frames_per_clip")
"""What architectures call the height and width of an image, and the number of frames of a video."""


@dataclass(frozen=True)
class Architecture:
    """What a model is built from."""

    config: Any
    """Hugging Face's configuration."""
    row: EncoderRow
    context: EncoderContext

    @property
    def image(self) -> Any:
        """The configuration of the image's half of a pair such as CLIP; else the whole."""
        return getattr(self.config, "vision_config", self.config)

    def stated(self, keys: tuple[str, ...]) -> int:
        """The first of these keys that the configuration has, as one number; 0 if it has none.

        Raises:
            ValueError: it has several different numbers.
        """
        for key in keys:
            value = getattr(self.image, key, None)
            numbers = {value} if isinstance(value, int) else set(value or ())
            if len(numbers) > 1:
                raise ValueError(
                    f"{self.context.name}: {key} of the model is {value}; mlrec's images are squares"
                )
            if numbers:
                return int(numbers.pop())
        return 0

    def patch(self) -> int:
        """Height and width in pixels of what becomes a token; 1 if the architecture has no patches."""
        tubelet = getattr(self.image, "tubelet_size", None)
        if isinstance(tubelet, list | tuple) and len(tubelet) == 3:  # ViViT: frames, height, width
            return int(tubelet[1])
        return self.stated(("patch_size",)) or 1


def has_own_files(row: EncoderRow, context: EncoderContext) -> bool:
    """Tell whether configuration and tokenizer come from a checkpoint: a folder serves random weights too."""
    if context.files is not None:
        return True
    return bool(row.checkpoint) and (
        not context.scratch or "://" in row.checkpoint or Path(row.checkpoint).is_dir()
    )


def source_of(row: EncoderRow, context: EncoderContext) -> str:
    """The folder or the name at the hub of an encoder's configuration, tokenizer and preprocessor."""
    return row.checkpoint if context.files is None else str(context.files)


def read_architecture(
    row: EncoderRow, context: EncoderContext, defaults: Mapping[str, Any] | None = None
) -> Architecture:
    """Return the checkpoint's architecture, or that of the row's model type, with the row's changes.

    Args:
        defaults: keys for an architecture without a checkpoint, in so far as it has them.

    Raises:
        ValueError: there is neither a checkpoint nor a model type, the checkpoint is of another type or is
            quantised, or a key of item.options.X.config is unknown.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    options = f"item.options.{context.name}.config"
    settings = dict(row.config)
    _check_values(settings, options)
    model_type = settings.pop("model_type", "")
    if not has_own_files(row, context):
        if not model_type:
            raise ValueError(
                f"{context.name} stands for any model: set item.options.{context.name}.checkpoint to a name at the Hugging Face "
                f"hub or a folder, or {options}.model_type for random weights"
            )
        _check_known(model_type, CONFIG_MAPPING, "model_type", options)
        _check_keys(settings, AutoConfig.for_model(model_type), context.name)
        with _describes_a_model(row, context):
            return Architecture(
                AutoConfig.for_model(model_type, **{**(defaults or {}), **settings}), row, context
            )
    if context.files is not None:
        kept_file(context.files, CONFIG_FILE)
    source = source_of(row, context)
    with explained(source, context.name):
        config = AutoConfig.from_pretrained(local_folder(source), trust_remote_code=False)
    _check_type(config, model_type, source, context.name)
    _check_values(config.to_dict(), f"{CONFIG_FILE} of {source!r}")
    if context.files is not None:  # written with all changes
        return Architecture(config, row, context)
    _check_keys(settings, config, context.name)
    outer = {name: value for name, value in settings.items() if hasattr(config, name)}
    with explained(source, context.name):
        config = AutoConfig.from_pretrained(local_folder(source), trust_remote_code=False, **outer)
    for name in settings.keys() - outer.keys():
        setattr(config.vision_config, name, settings[name])
    return Architecture(config, row, context)


def _check_type(config: Any, model_type: str, source: str, encoder: str) -> None:
    inner = getattr(config, "vision_config", config)
    if model_type and model_type not in (config.model_type, inner.model_type):
        raise ValueError(
            f"the checkpoint {source!r} of {encoder} is of the type {config.model_type!r} by its {CONFIG_FILE}, and {encoder} is "
            f"{model_type!r}; name the encoder of that type, or one for any type such as {encoder.split('/')[0]}/huggingface"
        )
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"the checkpoint {source!r} of {encoder} is quantised; use one in float32, float16 or bfloat16"
        )


def _check_values(values: Mapping[Any, Any], place: str) -> None:
    """Check what a model would be built of: too much takes time and memory even without its weights.

    Args:
        place: where the values were written, for messages.

    Raises:
        ValueError: a size is below 1 or above that of any known model, or an activation is unknown; names the key.
    """
    from transformers.activations import ACT2FN

    for key, value in values.items():
        if isinstance(value, Mapping):  # the halves of a pair such as CLIP
            _check_values(value, place)
        elif key in _AT_LEAST_1 and not _counts(value):
            raise ValueError(
                f"{place} has {key} {_quoted(value)}; it must be a whole number of 1 or more, or a list of them"
            )
        elif _largest(value) > (
            most := MAX_LAYERS if "layers" in str(key) or "depth" in str(key) else MAX_SIZE
        ):
            raise ValueError(
                f"{place} has {printable(str(key), 60)} {_quoted(value)}; at most {most:,}"
            )
        elif key in _ACTIVATION_KEYS and isinstance(value, str):
            _check_known(value, ACT2FN, key, place)


def _counts(value: Any) -> bool:
    """Tell whether a value is a whole number of 1 or more, a list of them, or null, which stands for a default."""
    numbers = value if isinstance(value, list | tuple) and value else [value]
    return value is None or all(type(number) is int and number >= 1 for number in numbers)


def _largest(value: Any) -> int:
    numbers = value if isinstance(value, list | tuple) else [value]
    return max((number for number in numbers if isinstance(number, int)), default=0)


def _check_known(name: Any, known: Iterable[str], key: str, place: str) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=3)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else "name one that transformers has"
        )
        raise ValueError(
            f"{place} has {key} {_quoted(name)}, which transformers does not know; {hint}"
        )


def _quoted(value: Any) -> str:
    return printable(repr(value), 60)


def _check_keys(settings: Mapping[str, Any], config: Any, encoder: str) -> None:
    inner = getattr(config, "vision_config", config)
    for name in settings:
        if not hasattr(config, name) and not hasattr(inner, name):
            raise ValueError(
                f"item.options.{encoder}.config.{name}: a {config.model_type} has no such key"
            )


def build_backbone(architecture: Architecture, shape: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """Return the model without the parts that no encoder needs, its configuration, and a remark or "".

    Its weights are the checkpoint's; random for a row without one, for scratch, and where a run's own come next.

    Args:
        shape: keys to change where the architecture has them and item.options does not.

    Raises:
        ValueError: the checkpoint cannot be read or does not fit.
    """
    row, context = architecture.row, architecture.context
    with _describes_a_model(row, context):
        config = architecture.config if context.files is not None else _shaped(architecture, shape)
    if not row.checkpoint or context.scratch or context.restored:
        return without_unused(_from_config(config, row, context, dtype=torch.float32)), config, ""
    try:
        return _pretrained(config, row, context), config, ""
    except MisfitError:
        # DINOv2 and others stretch their table of positions to any size of image by themselves
        if config.to_dict() == architecture.config.to_dict():
            raise
        try:
            model = _pretrained(architecture.config, row, context)
        except MisfitError:
            model = None
        if model is None:
            raise
    return (
        model,
        architecture.config,
        "its positions are those of another size, which the model interpolates",
    )


def _from_config(config: Any, row: EncoderRow, context: EncoderContext, **options: Any) -> Any:
    """Return the model of a configuration with random weights."""
    from transformers import AutoModel

    with _describes_a_model(row, context):
        return AutoModel.from_config(config, trust_remote_code=False, **options)  # type: ignore[no-untyped-call]


@contextmanager
def _describes_a_model(row: EncoderRow, context: EncoderContext) -> Iterator[None]:
    """Turn errors of building a model into one sentence: transformers checks few of a configuration's values before.

    Raises:
        ValueError: no model can be built.
    """
    try:
        yield
    except Exception as error:
        options = f"item.options.{context.name}.config"
        place = (
            f"{CONFIG_FILE} of {source_of(row, context)!r}, with {options},"
            if has_own_files(row, context)
            else options
        )
        raise ValueError(
            f"{place} describes no model that {context.name} could build ({reason_of(error)}); correct the value"
        ) from error


def _shaped(architecture: Architecture, shape: Mapping[str, Any]) -> Any:
    changed = Architecture(
        copy.deepcopy(architecture.config), architecture.row, architecture.context
    )
    for name, value in shape.items():
        if name not in architecture.row.config and hasattr(changed.image, name):
            setattr(changed.image, name, value)
    return changed.config


def _pretrained(config: Any, row: EncoderRow, context: EncoderContext) -> Any:
    with torch.device("meta"):
        skeleton = _from_config(config, row, context)
        trimmed = _from_config(config, row, context)
    part = without_unused(trimmed)
    (place,) = (name for name, module in trimmed.named_modules() if module is part)
    names = {f"{place}.{name}" if place else name for name in part.state_dict()}
    needed = {name for name in names if not name.endswith("mask_token")}
    return without_unused(load_model(skeleton, config, row.checkpoint, context.name, needed))


def without_unused(model: Any) -> Any:
    """Return the model without the parts that its vectors do not come from: they would be trained without a gradient."""
    model = getattr(model, "vision_model", model)  # CLIP, SigLIP: the image's half of a pair
    if hasattr(model, "predictor"):
        model.predictor = None  # V-JEPA 2: guesses masked patches
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Linear) or hasattr(pooler, "dense"):
        model.pooler = None  # made for another task, and missing in most checkpoints
    for module in list(model.modules()):
        if getattr(module, "mask_token", None) is not None:
            token = module.mask_token.data
            del module.mask_token
            module.register_buffer("mask_token", token)
    return model
