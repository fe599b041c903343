"""Numbers of parameters of published models."""

from typing import Any

import pytest
import torch
from torch import nn

from mlrec.models.encoders import ENCODERS, Encoder, EncoderContext

# Millions of parameters with class scores, from the Kinetics-400 table of PyTorchVideo's model zoo
# (docs/source/model_zoo.md of facebookresearch/pytorchvideo). EfficientX3D has the numbers of
# X3D-XS and X3D-S of that table.
ZOO = {
    "video/c2d_r50": 24.33,
    "video/i3d_r50": 28.04,
    "video/slow_r50": 32.45,
    "video/slowfast_r50": 34.57,
    "video/slowfast_r101": 53.77,
    "video/csn_r101": 22.21,
    "video/r3d_r50": 28.11,
    "video/x3d_xs": 3.79,
    "video/x3d_s": 3.79,
    "video/x3d_m": 3.79,
    "video/x3d_l": 6.15,
    "video/efficient_x3d_xs": 3.79,
    "video/efficient_x3d_s": 3.79,
    "video/mvit_b_16x4": 36.61,
    "video/mvit_b_32x3": 36.61,
    "video/mvit_b_16": 37.0,  # the paper's table of ImageNet models
}

# Millions of parameters of the encoder alone. Parts that only the source counts are subtracted: a
# class head of 768 x 1000 (Swin) or 2048 x 1000 (ResNet), CLIP's projection of 768 x 512, a pooler
# of width x width (BERT, RoBERTa).
TRANSFORMERS = {
    "video/videomae": 86.2,  # ViT-B: 87 M in Tong et al., 2022, with a class head
    "image/resnet50": 25.56 - 2.05,  # torchvision's table for ResNet-50
    "image/vit_mae": 85.8,  # ViT-B: 86 M in Dosovitskiy et al., 2021, without a head
    "image/clip_vit_b32": 87.85 - 0.39,  # open_clip's table for ViT-B-32, image half
    "image/swin": 28.29 - 0.77,  # Liu et al., 2021, table 1: 29 M; timm's table: 28.29
    "text/bert_tiny": 4.4 - 0.02,  # Turc et al., 2019, table 1
    "text/bert_mini": 11.2 - 0.07,
    "text/bert_small": 28.8 - 0.26,
    "text/bert_medium": 41.4 - 0.26,
    "text/bert_base": 109.5 - 0.59,
    "text/bert_large": 335.1 - 1.05,
    "text/roberta": 124.6 - 0.59,
    "audio/ast": 86.2,  # Gong et al., 2021: 87 M with a class head
}


def build(name: str, scratch: bool = False, **options: Any) -> Encoder:
    row = ENCODERS[name].changed(name, {"checkpoint": "", **options})
    return row.build(row, EncoderContext(16, 50, scratch, name))


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_published_counts_cover_every_row_with_weights() -> None:
    weighted = {
        name
        for name, row in ENCODERS.items()
        if row.checkpoint and getattr(row.build, "reads_weights", True)
    }
    assert weighted == set(ZOO) | set(TRANSFORMERS) | {"video/r3d_r18"}, (
        "R3D-18: 33.37 M, counted by hand beside torchvision"
    )


@pytest.mark.parametrize("name", ZOO)
def test_zoo_model_has_the_published_number_of_parameters(name: str) -> None:
    if "mvit" in name:  # its drop-path rates are computed with a tensor
        encoder = build(name, output="scores")
    else:
        with torch.device("meta"):
            encoder = build(name, output="scores")
    assert millions(encoder) == pytest.approx(
        ZOO[name], abs=0.006 if name != "video/mvit_b_16" else 0.3
    )
    assert encoder.spec.frames == ENCODERS[name].frames


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_model_has_the_published_number_of_parameters(name: str) -> None:
    vocabulary = {
        "text/roberta": {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    }
    config = vocabulary.get(name, {"vocab_size": 30522} if name.startswith("text/") else {})
    with torch.device("meta"):
        encoder = build(name, config=config)
    assert millions(encoder) == pytest.approx(TRANSFORMERS[name], rel=0.003)
    assert encoder.width == ENCODERS[name].width
