"""R3D-18, which only torchvision has: uint8 frames [n, T, H, W, C] to vectors [n, width]."""

from __future__ import annotations

import importlib

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, Normalize
from mlrec.models.encoders.pretrained import load_row_weights


class R3D18(Encoder):
    """A 3-D ResNet of 18 layers.

    torchvision is not a requirement of mlrec, because its wheel fits one build of torch only.

    Raises:
        ValueError: torchvision cannot be imported.
    """

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        try:
            r3d_18 = importlib.import_module("torchvision.models.video").r3d_18
        # with another build of torch, torchvision raises RuntimeError
        except (ImportError, RuntimeError, OSError) as error:
            raise ValueError(
                f"{context.name} needs torchvision, which cannot be imported here ({error}); "
                f"install the build that belongs to torch {torch.__version__} from the index that "
                "torch came from, or take video/r3d_r50"
            ) from error
        self.backbone = r3d_18(weights=None, **row.config)
        # before the class scores are removed, because the file has their tensors in any case
        published = self.backbone.state_dict()
        if row.output == "scores":
            self.width = self.backbone.fc.out_features
        else:
            self.width = self.backbone.fc.in_features
            self.backbone.fc = nn.Identity()
        load_row_weights(self.backbone, row, context, published)
        self.spec = InputSpec(Modality.VIDEO, frames=row.frames, size=row.size)
        self.normalize = Normalize(row.mean, row.std)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        # torchvision reads [n, C, T, H, W]
        values = self.normalize(frames, next(self.backbone.parameters()).dtype).transpose(1, 2)
        vectors: torch.Tensor = self.backbone(values)
        return vectors

    def stages(self) -> list[nn.Module]:
        model = self.backbone
        return [
            model.stem,
            model.layer1,
            model.layer2,
            model.layer3,
            nn.ModuleList([model.layer4, model.fc]),
        ]


TORCHVISION_ENCODERS = {
    "video/r3d_r18": EncoderRow(
        build=R3D18,
        modality=Modality.VIDEO,
        paper="Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, "
        "2018",
        frames=16,
        size=112,
        width=512,
        # torchvision's R3D_18_Weights.KINETICS400_V1
        mean=(0.43216, 0.394666, 0.37645),
        std=(0.22803, 0.22145, 0.216989),
        checkpoint="https://download.pytorch.org/models/r3d_18-b3b3357e.pth",
        licence="BSD-3-Clause",
        scores=400,
    ),
}
