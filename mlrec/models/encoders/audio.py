"""Audio encoders: int16 samples [n, length], mono at AUDIO_RATE, to vectors [n, width].

The spectrogram is Kaldi's, as the published models were trained with it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from mlrec.data.format import AUDIO_RATE
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.architectures import Architecture, has_own_files, read_architecture
from mlrec.models.encoders.base import EncoderContext, EncoderRow, saved_file
from mlrec.models.encoders.huggingface import HuggingFace, pooled
from mlrec.models.encoders.preprocessors import Loudness, find_loudness
from mlrec.runtime.distributed import to_device
from mlrec.storage.typed_json import parse_json

FRAME_SAMPLES = 400
"""Length of a spectrogram's frame in samples (25 ms)."""
HOP_SAMPLES = 160
"""Distance between the starts of two frames in samples (10 ms)."""
FFT_SAMPLES = 512
"""Length of a frame's Fourier transform in samples."""
PREEMPHASIS = 0.97
"""Share of the previous sample that is subtracted from each sample (Kaldi's default)."""
MIN_MEL_POWER = 1.192092955078125e-07
"""Smallest power before the logarithm: the machine epsilon of fp32, as in Kaldi."""
LOUDNESS_FILE = "loudness.json"
"""Name of the file in a run's folder that holds the standardization of log-mel values."""


def num_frames(length: int) -> int:
    """Return the number of whole frames in `length` samples."""
    return max(0, 1 + (length - FRAME_SAMPLES) // HOP_SAMPLES)


class SpectrogramTransformer(HuggingFace):
    """An audio spectrogram transformer that computes its log-mel spectrogram on the device."""

    inputs = ("input_values",)

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        architecture = read_architecture(row, context)
        # AST derives its table of positions from the number of frames
        super().__init__(architecture, {"max_length": num_frames(row.length)})
        self.loudness = loudness_of(architecture)
        self.spec = InputSpec(Modality.AUDIO, length=row.length)
        # plain attributes, not buffers: casting the model to bf16 would round them to 8 bits
        self.window = torch.hann_window(FRAME_SAMPLES, periodic=False)
        self.filters = _mel_filters(self.backbone.config.num_mel_bins)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        values = self.spectrogram(samples)
        return pooled(self.backbone(input_values=values.to(self.backbone.dtype)))

    def spectrogram(self, samples: torch.Tensor) -> torch.Tensor:
        """Return standardized log-mel values: int16 [n, length] to float32 [n, frames, mels].

        Frames past the end of a short audio hold 0 before standardization, as in Kaldi.
        """
        if self.window.device != samples.device:
            self.window = to_device(self.window, samples.device)
            self.filters = to_device(self.filters, samples.device)
        # Samples from -1 to 1, as the published extractor reads them. The order of steps is
        # Kaldi's: remove the mean of each frame, pre-emphasize, apply the window.
        frames = (samples.float() / 2**15).unfold(1, FRAME_SAMPLES, HOP_SAMPLES)
        frames = frames - frames.mean(dim=2, keepdim=True)
        # the first sample of a frame has no predecessor and stands in for it
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - PREEMPHASIS * previous) * self.window
        # rfft pads each frame with zeros to FFT_SAMPLES
        power = torch.fft.rfft(frames, FFT_SAMPLES).abs().square()
        log_mels = (power @ self.filters).clamp(min=MIN_MEL_POWER).log()
        is_past_end = self._is_past_end(samples, log_mels.shape[1])
        log_mels = log_mels.masked_fill(is_past_end[..., None], 0.0)
        standardized: torch.Tensor = (log_mels - self.loudness.mean) / self.loudness.scale
        return standardized

    def _is_past_end(self, samples: torch.Tensor, frames: int) -> torch.Tensor:
        """Return a mask [n, frames] of the frames that reach past the last sample of an audio.

        The stream pads short audio with zeros, so the last non-zero sample is the end.
        """
        # In reverse, the first maximum is the last non-zero sample. Silence alone counts as
        # unpadded, because argmax is 0 where all values are equal.
        padding = (samples != 0).flip(1).to(torch.int8).argmax(dim=1)
        last_start = samples.shape[1] - padding - FRAME_SAMPLES
        last_frame = last_start.div(HOP_SAMPLES, rounding_mode="floor")
        return torch.arange(frames, device=samples.device) > last_frame[:, None]

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        (folder / LOUDNESS_FILE).write_text(json.dumps(asdict(self.loudness), indent=1) + "\n")


def loudness_of(architecture: Architecture) -> Loudness:
    """Return the checkpoint's standardization of log-mel values; AudioSet's if it states none.

    Raises:
        ValueError: the preprocessor's file is invalid, or its spectrograms differ from mlrec's.
    """
    row = architecture.row
    context = architecture.context
    if context.files is not None:
        path = saved_file(context.files, LOUDNESS_FILE)
        return parse_json(path.read_bytes(), Loudness, str(path), "Copy the run's folder again")
    # runs of earlier versions were trained with AudioSet's, whatever their checkpoint states
    of_earlier_run = context.restored
    if of_earlier_run or not has_own_files(row, context):
        return Loudness()
    mels = architecture.config.num_mel_bins
    stated = find_loudness(row.checkpoint, context.name, num_frames(row.length), mels)
    return stated or Loudness()


def _mel_filters(mels: int) -> torch.Tensor:
    """Return Kaldi's mel filters, float32 [frequencies, mels]."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=FFT_SAMPLES // 2 + 1,
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
        # 1024 frames, the length of the published positions
        length=FRAME_SAMPLES + 1023 * HOP_SAMPLES,
        width=768,
        checkpoint="MIT/ast-finetuned-audioset-10-10-0.4593",
        licence="BSD-3-Clause",
        config={"model_type": "audio-spectrogram-transformer"},
    ),
}
