"""Rows of cover encoders: uint8 pixels [n, H, W, C] to vectors [n, width]."""

from __future__ import annotations

from mlrec.data.schema import Modality
from mlrec.models.encoders.base import EncoderRow
from mlrec.models.encoders.huggingface import HuggingFaceImage

IMAGE_ENCODERS = {
    # any image model: size, mean and std come from the checkpoint
    "image/huggingface": EncoderRow(
        build=HuggingFaceImage,
        modality=Modality.COVER,
        paper="of the checkpoint, for example SigLIP, DINOv2, ConvNeXt",
        mean=None,
        std=None,
    ),
    "image/resnet50": EncoderRow(
        build=HuggingFaceImage,
        modality=Modality.COVER,
        paper="He et al., Deep Residual Learning for Image Recognition, 2016",
        size=224,
        width=2048,
        checkpoint="microsoft/resnet-50",
        licence="Apache-2.0",
        config={"model_type": "resnet"},
    ),
    "image/vit_mae": EncoderRow(
        build=HuggingFaceImage,
        modality=Modality.COVER,
        paper="He et al., Masked Autoencoders Are Scalable Vision Learners, 2022",
        size=224,
        width=768,
        checkpoint="facebook/vit-mae-base",
        licence="Apache-2.0",
        config={"model_type": "vit_mae"},
    ),
    "image/clip_vit_b32": EncoderRow(
        build=HuggingFaceImage,
        modality=Modality.COVER,
        paper="Radford et al., Learning Transferable Visual Models From Natural Language "
        "Supervision, 2021",
        size=224,
        width=768,
        # CLIP's own statistics, not ImageNet's
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        checkpoint="openai/clip-vit-base-patch32",
        licence="MIT",
        config={"model_type": "clip_vision_model"},
    ),
    "image/swin": EncoderRow(
        build=HuggingFaceImage,
        modality=Modality.COVER,
        paper="Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted "
        "Windows, 2021",
        size=224,
        width=768,
        checkpoint="microsoft/swin-tiny-patch4-window7-224",
        licence="Apache-2.0",
        config={"model_type": "swin"},
    ),
}
