"""Configurations of Hugging Face transformers, checked and merged with a row's changes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrec.models.encoders.base import EncoderContext, EncoderRow, saved_file
from mlrec.models.encoders.pretrained import explained, local_folder, reason_of
from mlrec.runtime.printable import printable

CONFIG_FILE = "config.json"
# Both bounds are far above any published model. They stop typing errors, with which
# transformers would build modules or allocate memory for minutes before it fails.
MAX_LAYERS = 1000
"""Upper bound of a configuration's numbers of layers."""
MAX_SIZE = 1 << 24
"""Upper bound of a configuration's other whole numbers."""
_SIZES = """
crop_size frames_per_clip frequency_stride hidden_size hidden_sizes image_size intermediate_size
max_position_embeddings num_attention_heads num_channels num_frames num_hidden_layers num_mel_bins
patch_size time_stride tubelet_size
"""
_AT_LEAST_1 = frozenset(_SIZES.split())
"""Sizes that mlrec or every architecture divides by or allocates."""
_ACTIVATION_KEYS = ("hidden_act", "activation_function")
SIZE_KEYS = ("image_size", "crop_size")
"""Names that architectures use for the height and width of an image."""
FRAME_KEYS = ("num_frames", "frames_per_clip")
"""Names that architectures use for the number of frames of a video."""


class NoShapesError(ValueError):
    """The shapes of a checkpoint's weights are unknown without the checkpoint."""


@dataclass(frozen=True)
class Architecture:
    """A transformers configuration with the row and context that it was made for."""

    config: Any
    """The `PretrainedConfig`."""
    row: EncoderRow
    context: EncoderContext

    @property
    def image(self) -> Any:
        """The image part of a pair such as CLIP; otherwise the whole configuration."""
        return getattr(self.config, "vision_config", self.config)

    def stated(self, keys: tuple[str, ...]) -> int:
        """Return the value of the first key that the configuration has; 0 if it has none.

        Raises:
            ValueError: the value is a list of different numbers.
        """
        for key in keys:
            # a number, a list of height and width, or absent, depending on the architecture
            value = getattr(self.image, key, None)
            numbers = {value} if isinstance(value, int) else set(value or ())
            if len(numbers) > 1:
                raise ValueError(
                    f"{self.context.name}: {key} of the model is {value}; mlrec's images are "
                    "squares. Choose a model for square images"
                )
            if numbers:
                return int(numbers.pop())
        return 0

    def patch(self) -> int:
        """Return a patch's height and width in pixels; 1 for an architecture without patches."""
        tubelet = getattr(self.image, "tubelet_size", None)
        # ViViT's tubelets are a list of frames, height and width, other models' a number of frames
        if isinstance(tubelet, list | tuple) and len(tubelet) == 3:
            return int(tubelet[1])
        return self.stated(("patch_size",)) or 1


def has_own_files(row: EncoderRow, context: EncoderContext) -> bool:
    """Return whether configuration and tokenizer come from a checkpoint or a run's files.

    A folder or URL provides them even for random weights (`scratch`). A name at the hub does not,
    so that training from scratch needs no network.

    Raises:
        NoShapesError: only the shapes of the encoder matter, and its checkpoint is neither on this
            machine nor the row's own.
    """
    if context.files is not None:
        return True
    if not row.checkpoint:
        return False
    is_local = Path(row.checkpoint).expanduser().is_dir()
    if context.shapes_only:
        if not is_local and "checkpoint" in row.configured:
            raise NoShapesError(
                f"item.options.{context.name}.checkpoint is {row.checkpoint!r}, and the shapes of "
                "its weights are unknown without it. Set it to a folder of this machine that has "
                f"the checkpoint's {CONFIG_FILE}"
            )
        return is_local
    return is_local or "://" in row.checkpoint or not context.scratch


def source_of(row: EncoderRow, context: EncoderContext) -> str:
    """Return the folder or hub name of the encoder's configuration, tokenizer and preprocessor."""
    return row.checkpoint if context.files is None else str(context.files)


def read_architecture(
    row: EncoderRow, context: EncoderContext, defaults: Mapping[str, Any] | None = None
) -> Architecture:
    """Return the architecture of the checkpoint or the row's model type, with row.config applied.

    Args:
        defaults: keys for an architecture without a checkpoint; those it lacks are ignored.

    Raises:
        ValueError: there is neither a checkpoint nor a model type, the checkpoint is of another
            type or quantized, or a key of item.options.X.config is unknown.
    """
    changes = dict(row.config)
    check_sizes(changes, f"item.options.{context.name}.config")
    model_type = changes.pop("model_type", "")
    if context.files is not None:
        # the run's config.json was written with all changes applied
        saved_file(context.files, CONFIG_FILE)
        config = _read_config(str(context.files), model_type, context.name)
    elif has_own_files(row, context):
        config = _read_config(row.checkpoint, model_type, context.name)
        # checked here, because transformers ignores unknown keys
        _check_keys(changes, config, context.name)
        config = _read_changed_config(row.checkpoint, config, changes, context.name)
    else:
        config = _new_config(row, context, model_type, {**(defaults or {})}, changes)
    return Architecture(config, row, context)


def _new_config(
    row: EncoderRow,
    context: EncoderContext,
    model_type: Any,
    defaults: dict[str, Any],
    changes: dict[str, Any],
) -> Any:
    """Return the configuration of a model type, for random weights."""
    from transformers import CONFIG_MAPPING, AutoConfig

    options = f"item.options.{context.name}.config"
    if not model_type:
        raise ValueError(
            f"{context.name} stands for any model: set item.options.{context.name}.checkpoint to "
            f"a name at the Hugging Face hub or a folder, or {options}.model_type for random "
            "weights"
        )
    _check_known(model_type, CONFIG_MAPPING, "model_type", options)
    # an unknown key would become an attribute that nothing reads
    _check_keys(changes, AutoConfig.for_model(model_type), context.name)
    with describes_a_model(row, context):
        return AutoConfig.for_model(model_type, **{**defaults, **changes})


def _read_config(source: str, model_type: str, encoder: str) -> Any:
    """Return the configuration of a folder or hub name, with its type and values checked."""
    from transformers import AutoConfig

    with explained(source, encoder):
        # the Python code of a repository is never executed
        config = AutoConfig.from_pretrained(local_folder(source), trust_remote_code=False)
    _check_type(config, model_type, source, encoder)
    check_sizes(config.to_dict(), f"{CONFIG_FILE} of {source!r}")
    return config


def _read_changed_config(
    checkpoint: str, config: Any, changes: Mapping[str, Any], encoder: str
) -> Any:
    """Return the checkpoint's configuration with changes applied.

    Keys of the whole configuration are passed to its constructor, which derives others from them.
    The rest belong to the image part of a pair such as CLIP.
    """
    from transformers import AutoConfig

    outer = {key: value for key, value in changes.items() if hasattr(config, key)}
    with explained(checkpoint, encoder):
        changed = AutoConfig.from_pretrained(
            local_folder(checkpoint), trust_remote_code=False, **outer
        )
    # from_pretrained sets keys of the outer configuration only
    for key in changes.keys() - outer.keys():
        setattr(changed.vision_config, key, changes[key])
    return changed


@contextmanager
def describes_a_model(row: EncoderRow, context: EncoderContext) -> Iterator[None]:
    """Turn errors of building a model into one sentence.

    transformers checks few of a configuration's values itself, so errors have any type.

    Raises:
        ValueError: no model can be built.
    """
    try:
        yield
    except Exception as error:
        place = f"item.options.{context.name}.config"
        if has_own_files(row, context):
            place = f"{CONFIG_FILE} of {source_of(row, context)!r}, with {place},"
        raise ValueError(
            f"{place} describes no model that {context.name} could build ({reason_of(error)}); "
            "correct the value"
        ) from error


def _check_type(config: Any, model_type: str, source: str, encoder: str) -> None:
    """Check that a checkpoint is of the row's model type and is not quantized."""
    image_config = getattr(config, "vision_config", config)
    # a checkpoint of CLIP is a pair, and image/clip_vit_b32 names the type of its image part
    if model_type and model_type not in (config.model_type, image_config.model_type):
        modality = encoder.split("/")[0]
        raise ValueError(
            f"the checkpoint {source!r} of {encoder} is of the type {config.model_type!r} by its "
            f"{CONFIG_FILE}, and {encoder} is {model_type!r}; name the encoder of that type, or "
            f"one for any type such as {modality}/huggingface"
        )
    # quantized layers hold integers and scales, which cannot be trained
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"the checkpoint {source!r} of {encoder} is quantised; use one in float32, float16 or "
            "bfloat16"
        )


def check_sizes(values: Mapping[Any, Any], place: str) -> None:
    """Check the sizes and activations in a configuration before anything is built from it.

    Even without weights, building a model with absurd sizes takes time and memory.

    Args:
        place: where the values were written, for messages.

    Raises:
        ValueError: a size is below 1 or above that of any known model, or an activation is
            unknown; names the key.
    """
    from transformers.activations import ACT2FN

    for key, value in values.items():
        # "depths" of Swin and ResNet is a list of the layers of each stage
        upper_bound = MAX_LAYERS if "layers" in str(key) or "depth" in str(key) else MAX_SIZE
        if isinstance(value, Mapping):
            # the halves of a pair such as CLIP
            check_sizes(value, place)
        elif key in _AT_LEAST_1 and not _is_size(value):
            raise ValueError(
                f"{place} has {key} {_quoted(value)}; it must be a whole number of 1 or more, or "
                "a list of them"
            )
        elif _largest(value) > upper_bound:
            raise ValueError(
                f"{place} has {printable(str(key), 60)} {_quoted(value)}; at most {upper_bound:,}"
            )
        elif key in _ACTIVATION_KEYS and isinstance(value, str):
            _check_known(value, ACT2FN, key, place)


def _is_size(value: Any) -> bool:
    """Return whether a value is a whole number of 1 or more, a list of them, or null (default)."""
    # an exact type, because True and False are instances of int
    numbers = value if isinstance(value, list | tuple) and value else [value]
    return value is None or all(type(number) is int and number >= 1 for number in numbers)


def _largest(value: Any) -> int:
    numbers = value if isinstance(value, list | tuple) else [value]
    return max((number for number in numbers if isinstance(number, int)), default=0)


def _check_known(name: Any, known: Iterable[str], key: str, place: str) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=3)
    hint = "name one that transformers has"
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    raise ValueError(f"{place} has {key} {_quoted(name)}, which transformers does not know; {hint}")


def _quoted(value: Any) -> str:
    return printable(repr(value), 60)


def _check_keys(changes: Mapping[str, Any], config: Any, encoder: str) -> None:
    image_config = getattr(config, "vision_config", config)
    for key in changes:
        if not hasattr(config, key) and not hasattr(image_config, key):
            raise ValueError(
                f"item.options.{encoder}.config.{key}: a {config.model_type} has no such key"
            )
