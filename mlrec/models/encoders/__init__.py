"""Encoders: modules that turn an item's video, cover, title, audio, id or features into vectors.

To add one, read base.py, write the class and its row, and add the row to ENCODERS below.

base.py           Encoder and EncoderRow: start here
video.py          rows for videos, and a small network for tests
image.py          rows for covers
text.py           rows for titles
audio.py          rows for audio
id.py             trained tables, and the one over item ids
features.py       a frozen table of features extracted earlier
attention_masks.py   masks of language models, made without reading them
huggingface.py    classes that run any model of Hugging Face transformers
architectures.py  a transformers configuration, checked and merged with item.options
backbones.py      build the transformers model of a configuration, with or without weights
pytorchvideo.py   rows of PyTorchVideo's model zoo
torchvision.py    the row of torchvision's R3D-18
pooling.py        reduce the vectors of stages or frames to one
heads.py          projection to the recommender's width, and whitening
pretrained.py     find and load a checkpoint
weight_files.py   read files of weights
weight_names.py   match a checkpoint's tensor names to a model's
image_inputs.py   pixel preprocessing for transformers models
pixels.py         read a checkpoint's image preprocessor
preprocessors.py  find a checkpoint's image and audio preprocessors
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlrec.data.schema import lookup
from mlrec.models.encoders.audio import AUDIO_ENCODERS
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow
from mlrec.models.encoders.features import FEATURE_ENCODERS, ROW_NAME, is_features
from mlrec.models.encoders.id import ID_ENCODERS
from mlrec.models.encoders.image import IMAGE_ENCODERS
from mlrec.models.encoders.text import TEXT_ENCODERS
from mlrec.models.encoders.video import VIDEO_ENCODERS

ENCODERS: dict[str, EncoderRow] = {
    **ID_ENCODERS,
    **VIDEO_ENCODERS,
    **IMAGE_ENCODERS,
    **TEXT_ENCODERS,
    **AUDIO_ENCODERS,
    **FEATURE_ENCODERS,
}
"""Every encoder by the name that `item.encoders` uses. Features have any name features/NAME."""

__all__ = ["ENCODERS", "Encoder", "EncoderContext", "EncoderRow", "encoder_row", "is_table"]


def is_table(name: str) -> bool:
    """Return whether an encoder is a table, of ids, tokens or features, without stages to tune."""
    # without its options, which may freeze an encoder whose adapters were merged
    return encoder_row(name, {}).tuning is not None


def encoder_row(name: str, options: Mapping[str, Any]) -> EncoderRow:
    """Return the row of an encoder, changed by its options.

    Raises:
        ValueError: there is no such encoder, or an option does not fit.
    """
    row = lookup(ENCODERS, ROW_NAME if is_features(name) else name, "encoder")
    return row.changed(name, options)
