"""Audio encoders: int16 samples [n, length], mono at AUDIO_RATE, to vectors [n, width]."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from mlrec.data.schema import AUDIO_RATE, InputSpec, Modality
from mlrec.models.encoders.architectures import Architecture, has_own_files, read_architecture
from mlrec.models.encoders.base import EncoderContext, EncoderRow, kept_file
from mlrec.models.encoders.huggingface import HuggingFace, pooled
from mlrec.models.encoders.preprocessors import Loudness, find_loudness
from mlrec.storage.typed_json import parse_json

WINDOW, HOP, FFT = 400, 160, 512
"""Samples of a frame of 25 ms, of the 10 ms from one frame to the next, and of its Fourier transform."""
PREEMPHASIS, FLOOR = 0.97, 1.192092955078125e-07
LOUDNESS_FILE = "loudness.json"
"""In a run's folder: how log-mel values are standardised."""


def num_frames(length: int) -> int:
    """Number of whole frames in `length` samples."""
    return max(0, 1 + (length - WINDOW) // HOP)


class SpectrogramTransformer(HuggingFace):
    """An audio spectrogram transformer, with its log-mel spectrogram computed on the device."""

    inputs = ("input_values",)

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        architecture = read_architecture(row, context)
        super().__init__(architecture, {"max_length": num_frames(row.length)})
        self.loudness = loudness_of(architecture)
        self.spec = InputSpec(Modality.AUDIO, length=row.length)
        # no buffers: with the model in bf16 they would be rounded to 8 bits
        self.window = torch.hann_window(WINDOW, periodic=False)
        self.filters = _mel_filters(self.backbone.config.num_mel_bins)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        values = self.spectrogram(samples)
        return pooled(self.backbone(input_values=values.to(self.backbone.dtype)))

    def spectrogram(self, samples: torch.Tensor) -> torch.Tensor:
        """Kaldi's log-mel values, 0 past the end, standardised: int16 [n, length] to float32 [n, frames, mels]."""
        if self.window.device != samples.device:
            self.window, self.filters = (
                self.window.to(samples.device),
                self.filters.to(samples.device),
            )
        frames = (samples.float() / 2**15).unfold(1, WINDOW, HOP)
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - PREEMPHASIS * before) * self.window
        power = torch.fft.rfft(frames, FFT).abs().square()
        mels = (power @ self.filters).clamp(min=FLOOR).log()
        # the stream fills what a short audio lacks with zeros, which are no sound
        ends = (samples != 0).flip(1).to(torch.int8).argmax(dim=1)
        last = (samples.shape[1] - ends - WINDOW).div(HOP, rounding_mode="floor")
        past = torch.arange(mels.shape[1], device=mels.device) > last[:, None]
        standard: torch.Tensor = (
            mels.masked_fill(past[..., None], 0.0) - self.loudness.mean
        ) / self.loudness.scale
        return standard

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        (folder / LOUDNESS_FILE).write_text(json.dumps(asdict(self.loudness), indent=1) + "\n")


def loudness_of(architecture: Architecture) -> Loudness:
    """Return the statistics of log-mel values that the checkpoint's preprocessor states; else AudioSet's.

    Raises:
        ValueError: its file is invalid, or states sounds that differ from those that mlrec computes.
    """
    row, context = architecture.row, architecture.context
    if context.files is not None:
        where = kept_file(context.files, LOUDNESS_FILE)
        return parse_json(where.read_bytes(), Loudness, str(where), "Copy the run's folder again")
    earlier = (
        context.restored
    )  # runs of earlier versions were trained with AudioSet's, whatever their checkpoint says
    if earlier or not has_own_files(row, context):
        return Loudness()
    config = architecture.config
    return (
        find_loudness(row.checkpoint, context.name, num_frames(row.length), config.num_mel_bins)
        or Loudness()
    )


def _mel_filters(mels: int) -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=FFT // 2 + 1,
        num_mel_filters=mels,
        min_frequency=20,
        max_frequency=AUDIO_RATE / 2,
        sampling_rate=AUDIO_RATE,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return torch.from_numpy(filters).float()


AUDIO_ENCODERS = {
    "audio/ast": EncoderRow(
        build=SpectrogramTransformer,
        modality=Modality.AUDIO,
        paper="Gong et al., AST: Audio Spectrogram Transformer, 2021",
        length=WINDOW + 1023 * HOP,
        width=768,
        checkpoint="MIT/ast-finetuned-audioset-10-10-0.4593",
        licence="BSD-3-Clause",
        config={"model_type": "audio-spectrogram-transformer"},
    ),
}
