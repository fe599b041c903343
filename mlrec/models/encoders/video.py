"""Video encoders: uint8 frames [n, T, H, W, C] to vectors [n, width]."""

from __future__ import annotations

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, Normalize
from mlrec.models.encoders.huggingface import HuggingFaceFrames, HuggingFaceVideo
from mlrec.models.encoders.pytorchvideo import PYTORCHVIDEO_ENCODERS
from mlrec.models.encoders.torchvision import TORCHVISION_ENCODERS


class TinyVideo(Encoder):
    """A small 3-D residual network with group normalization, for CPU runs and tests."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        self.spec = InputSpec(Modality.VIDEO, frames=row.frames, size=row.size)
        self.width = row.width
        self.normalize = Normalize(row.mean, row.std)
        widths = [row.width // 4, row.width // 2, row.width]
        self.stem = nn.Sequential(_conv(3, widths[0], spatial_stride=2), nn.ReLU())
        self.blocks = nn.ModuleList(
            TinyBlock(before, after, spatial_stride=2)
            for before, after in zip([widths[0], *widths[:-1]], widths, strict=True)
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        # convolutions read [n, C, T, H, W]
        values = self.normalize(frames, next(self.stem.parameters()).dtype).transpose(1, 2)
        values = self.stem(values)
        for block in self.blocks:
            values = block(values)
        pooled: torch.Tensor = values.mean(dim=(2, 3, 4))
        return pooled

    def stages(self) -> list[nn.Module]:
        return [self.stem, *self.blocks]


class TinyBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions plus a strided shortcut."""

    def __init__(self, before: int, after: int, spatial_stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(before, after, spatial_stride), nn.ReLU(), _conv(after, after, 1)
        )
        self.shortcut = nn.Conv3d(
            before, after, kernel_size=1, stride=(1, spatial_stride, spatial_stride)
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(values) + self.shortcut(values))


def _conv(before: int, after: int, spatial_stride: int) -> nn.Sequential:
    conv = nn.Conv3d(
        before,
        after,
        kernel_size=3,
        stride=(1, spatial_stride, spatial_stride),
        padding=1,
        bias=False,
    )
    # unlike a batch norm, its result does not depend on the other items of a chunk
    return nn.Sequential(conv, nn.GroupNorm(4, after))


VIDEO_ENCODERS = {
    "video/tiny": EncoderRow(
        build=TinyVideo,
        modality=Modality.VIDEO,
        paper="He et al., Deep Residual Learning for Image Recognition, 2016, with 3-D "
        "convolutions",
        width=64,
        frames=5,
        size=64,
    ),
    "video/videomae": EncoderRow(
        build=HuggingFaceVideo,
        modality=Modality.VIDEO,
        paper="Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for "
        "Self-Supervised Video, 2022",
        width=768,
        frames=16,
        size=224,
        checkpoint="MCG-NJU/videomae-base",
        licence="CC-BY-NC-4.0",
        config={"model_type": "videomae"},
    ),
    # any video model: frames, size, mean and std come from the checkpoint
    "video/huggingface": EncoderRow(
        build=HuggingFaceVideo,
        modality=Modality.VIDEO,
        paper="of the checkpoint, for example V-JEPA 2, ViViT, TimeSformer",
        frames=0,
        mean=None,
        std=None,
    ),
    "video/image_frames": EncoderRow(
        build=HuggingFaceFrames,
        modality=Modality.VIDEO,
        paper="of the checkpoint, an image model such as CLIP, SigLIP, DINOv2; the mean over the "
        "frames",
        frames=5,
        mean=None,
        std=None,
    ),
    **PYTORCHVIDEO_ENCODERS,
    **TORCHVISION_ENCODERS,
}
