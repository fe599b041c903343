"""ENCODERS: every encoder by name; a row is added in the file of its modality."""

from __future__ import annotations

from mlrec.models.encoders.audio import AUDIO_ENCODERS
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, tune
from mlrec.models.encoders.features import FEATURE_ENCODERS
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

__all__ = ["ENCODERS", "Encoder", "EncoderContext", "EncoderRow", "tune"]
