"""Video encoders of PyTorchVideo's model zoo: uint8 frames [n, T, H, W, C] to vectors [n, width].

Library: Fan et al., PyTorchVideo: A Deep Learning Library for Video Understanding, 2021.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders import base
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow, Normalize
from mlrec.models.encoders.pretrained import load_row_weights

ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo"
SLOWFAST_ALPHA = 4
"""Ratio of the frames of the fast pathway to those of the slow one."""


def load_hub() -> Any:
    """Import pytorchvideo.models.hub, whose functions build the zoo's architectures.

    The package imports torchvision for one name that only detection uses. A stand-in replaces it
    during the import, because torchvision fits one build of torch only.
    """
    names = [] if "torchvision" in sys.modules else ["torchvision", "torchvision.ops"]
    for name in names:
        sys.modules[name] = ModuleType(name)
        # the name that pytorchvideo imports
        vars(sys.modules[name])["RoIAlign"] = None
    try:
        return importlib.import_module("pytorchvideo.models.hub")
    finally:
        for name in names:
            # a later import must find the real package, or fail
            del sys.modules[name]


class ZooEncoder(Encoder):
    """An architecture of the zoo, with the names of its published weights.

    The zoo's head pools over a window of the published clip size. Here it pools over the whole
    clip, of any size. There is no dropout before the scores, so that they do not depend on the
    number of ranks.
    """

    def __init__(self, architecture: str, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__()
        self.backbone = getattr(load_hub(), architecture)(**self.settings(row))
        # the same function; the package's own uses an API that torch has deprecated
        _replace(self.backbone, "Swish", nn.SiLU)
        # before open_head removes parts, because the file has the tensors of the scores in any case
        published = self.backbone.state_dict()
        self.spec = InputSpec(Modality.VIDEO, frames=row.frames, size=row.size)
        self.normalize = Normalize(row.mean, row.std)
        self.width = self.open_head(row.output == "scores")
        load_row_weights(self.backbone, row, context, published)

    def settings(self, row: EncoderRow) -> dict[str, Any]:
        """Return the arguments of the architecture's function."""
        return dict(row.config)

    def open_head(self, scores: bool) -> int:
        """Let the model return class scores, or the features before them; return their number."""
        # SlowFast pools its pathways in the block before the head; the others pool in the head
        *_, before, head = self.backbone.blocks
        for module in (before, head):
            _replace(module, "AvgPool3d", partial(nn.AdaptiveAvgPool3d, 1))
        return _open(head, scores)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        values = self.normalize(frames, next(self.backbone.parameters()).dtype).transpose(1, 2)
        return self.encode(values).flatten(1)

    def encode(self, clip: torch.Tensor) -> torch.Tensor:
        """Return vectors of standardized clips [n, C, T, H, W]."""
        vectors: torch.Tensor = self.backbone(clip)
        return vectors

    def stages(self) -> list[nn.Module]:
        """Return the stem and the residual stages, the last one together with the head."""
        *trunk, head = self.backbone.blocks
        # SlowFast's pooling block has no parameters, so it cannot be a stage of its own
        trained = [block for block in trunk if next(block.parameters(), None) is not None]
        return _stages(trained, [head])


class SlowFastEncoder(ZooEncoder):
    """Two pathways made from the same frames: every fourth of them, and all."""

    def __init__(self, architecture: str, row: EncoderRow, context: EncoderContext) -> None:
        if row.frames % SLOWFAST_ALPHA:
            raise ValueError(
                f"item.options.{context.name}.frames is {row.frames}; the slow pathway has one of "
                f"{SLOWFAST_ALPHA} frames: give a multiple of {SLOWFAST_ALPHA}"
            )
        super().__init__(architecture, row, context)

    def encode(self, clip: torch.Tensor) -> torch.Tensor:
        frames = clip.shape[2]
        # the published sampling: evenly spaced, with the first and the last frame
        slow = torch.linspace(0, frames - 1, frames // SLOWFAST_ALPHA, device=clip.device).long()
        vectors: torch.Tensor = self.backbone([clip.index_select(2, slow), clip])
        return vectors


class MViTEncoder(ZooEncoder):
    """A multiscale vision transformer for one clip size; its vector is the class token's."""

    def settings(self, row: EncoderRow) -> dict[str, Any]:
        # its tables of positions are built for one clip size
        return {"temporal_size": row.frames, "spatial_size": row.size, **row.config}

    def open_head(self, scores: bool) -> int:
        return _open(self.backbone.head, scores)

    def stages(self) -> list[nn.Module]:
        model = self.backbone
        # parts that the architecture's options leave out are None
        parts = (model.patch_embed, model.cls_positional_encoding, model.norm_patch_embed)
        front = [part for part in parts if part is not None]
        return _stages([nn.ModuleList(front), *model.blocks], [model.norm_embed, model.head])


class ImageMViTEncoder(MViTEncoder):
    """The image version of MViT over each frame, and the mean."""

    def settings(self, row: EncoderRow) -> dict[str, Any]:
        return {"spatial_size": row.size, **row.config}

    def encode(self, clip: torch.Tensor) -> torch.Tensor:
        frames = clip.shape[2]
        # [n, C, T, H, W] to n * T images
        vectors: torch.Tensor = self.backbone(clip.transpose(1, 2).flatten(0, 1))
        return vectors.view(len(clip), frames, -1).mean(dim=1)


class EfficientX3DEncoder(ZooEncoder):
    """X3D in blocks made for phones; its head is laid out in its own way."""

    def open_head(self, scores: bool) -> int:
        model = self.backbone
        linear = model.projection.model
        model.dropout = nn.Identity()
        model.act = nn.Identity()
        if not scores:
            model.projection = nn.Identity()
        return int(linear.out_features if scores else linear.in_features)

    def stages(self) -> list[nn.Module]:
        model = self.backbone
        trunk = [model.s1, model.s2, model.s3, model.s4, model.s5]
        return _stages(trunk, [model.head, model.projection])


def _open(head: Any, scores: bool) -> int:
    """Let a head return class scores, or the features before them; return their number."""
    width: int = head.proj.out_features if scores else head.proj.in_features
    # the published activation is a softmax; an item's vector is what comes before it
    head.dropout = None
    head.activation = None
    if not scores:
        head.proj = nn.Identity()
    return width


def _stages(trunk: list[nn.Module], after: list[nn.Module]) -> list[nn.Module]:
    """Return the trunk's blocks, the last one together with the modules after it."""
    *blocks, last = trunk
    return [*blocks, nn.ModuleList([last, *after])]


def _replace(module: nn.Module, kind: str, replacement: Callable[[], nn.Module]) -> None:
    """Replace every submodule whose class is named `kind` by a new `replacement()`."""
    # lists, because setattr changes what is iterated over
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == kind:
                setattr(parent, name, replacement())


def _row(
    encoder: type[ZooEncoder],
    architecture: str,
    weights: str,
    paper: str,
    frames: int,
    size: int,
    width: int,
    **changes: Any,
) -> EncoderRow:
    """Return a row of the zoo; `changes` are fields that differ from the other rows."""
    # the zoo's normalization and its 400 classes of Kinetics
    usual: dict[str, Any] = {"mean": (0.45,) * 3, "std": (0.225,) * 3, "scores": 400}
    return EncoderRow(
        build=partial(encoder, architecture),
        modality=Modality.VIDEO,
        paper=paper,
        frames=frames,
        size=size,
        width=width,
        checkpoint=f"{ZOO}/{weights}",
        licence="Apache-2.0",
        **{**usual, **changes},
    )


C2D = "Wang et al., Non-local Neural Networks, 2018"
I3D = (
    "Carreira and Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, "
    "2017"
)
SLOWFAST = "Feichtenhofer et al., SlowFast Networks for Video Recognition, 2019"
R2PLUS1D = (
    "Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, 2018; "
    "MicroLens' r3d50"
)
CSN = "Tran et al., Video Classification with Channel-Separated Convolutional Networks, 2019"
X3D = "Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, 2020"
MVIT = "Fan et al., Multiscale Vision Transformers, 2021"
IMAGENET: dict[str, Any] = {
    "mean": base.IMAGENET_MEAN,
    "std": base.IMAGENET_STD,
    "scores": 1000,
    "config": {"head_num_classes": 1000},
}

# Class, function of the hub, weights, paper, frames, size in pixels, width of the features.
# SlowFast's 2304 features are 2048 of the slow and 256 of the fast pathway.
PYTORCHVIDEO_ENCODERS = {
    "video/c2d_r50": _row(ZooEncoder, "c2d_r50", "kinetics/C2D_8x8_R50.pyth", C2D, 8, 224, 2048),
    "video/i3d_r50": _row(ZooEncoder, "i3d_r50", "kinetics/I3D_8x8_R50.pyth", I3D, 8, 224, 2048),
    "video/slow_r50": _row(
        ZooEncoder, "slow_r50", "kinetics/SLOW_8x8_R50.pyth", SLOWFAST, 8, 224, 2048
    ),
    "video/r3d_r50": _row(
        ZooEncoder, "r2plus1d_r50", "kinetics/R2PLUS1D_16x4_R50.pyth", R2PLUS1D, 16, 224, 2048
    ),
    "video/csn_r101": _row(
        ZooEncoder, "csn_r101", "kinetics/CSN_32x2_R101.pyth", CSN, 32, 224, 2048
    ),
    "video/slowfast_r50": _row(
        SlowFastEncoder, "slowfast_r50", "kinetics/SLOWFAST_8x8_R50.pyth", SLOWFAST, 32, 224, 2304
    ),
    "video/slowfast_r101": _row(
        SlowFastEncoder,
        "slowfast_16x8_r101_50_50",
        "kinetics/SLOWFAST_16x8_R101_50_50.pyth",
        SLOWFAST,
        64,
        224,
        2304,
    ),
    "video/x3d_xs": _row(ZooEncoder, "x3d_xs", "kinetics/X3D_XS.pyth", X3D, 4, 160, 2048),
    "video/x3d_s": _row(ZooEncoder, "x3d_s", "kinetics/X3D_S.pyth", X3D, 13, 160, 2048),
    "video/x3d_m": _row(ZooEncoder, "x3d_m", "kinetics/X3D_M.pyth", X3D, 16, 224, 2048),
    "video/x3d_l": _row(ZooEncoder, "x3d_l", "kinetics/X3D_L.pyth", X3D, 16, 312, 2048),
    "video/efficient_x3d_xs": _row(
        EfficientX3DEncoder,
        "efficient_x3d_xs",
        "kinetics/efficient_x3d_xs_original_form.pyth",
        X3D,
        4,
        160,
        2048,
    ),
    "video/efficient_x3d_s": _row(
        EfficientX3DEncoder,
        "efficient_x3d_s",
        "kinetics/efficient_x3d_s_original_form.pyth",
        X3D,
        13,
        160,
        2048,
    ),
    "video/mvit_b_16x4": _row(
        MViTEncoder, "mvit_base_16x4", "kinetics/MVIT_B_16x4.pyth", MVIT, 16, 224, 768
    ),
    "video/mvit_b_32x3": _row(
        MViTEncoder, "mvit_base_32x3", "kinetics/MVIT_B_32x3_f294077834.pyth", MVIT, 32, 224, 768
    ),
    "video/mvit_b_16": _row(
        ImageMViTEncoder,
        "mvit_base_16",
        "imagenet/MVIT_B_16_f292487636.pyth",
        MVIT,
        5,
        224,
        768,
        **IMAGENET,
    ),
}
