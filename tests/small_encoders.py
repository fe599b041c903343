"""Small versions of all encoders, and media for them."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch

from mlrec.config import ItemConfig
from mlrec.data.schema import InputSpec, Modality
from mlrec.models.tower import ItemTower

TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
RESNET = {"checkpoint": "", "frames": 4, "size": 16, "config": {"stem_dim_out": 4}}
X3D = {"checkpoint": "", "frames": 4, "size": 16, "config": {"stem_dim_in": 8, "head_dim_out": 32}}
SLOWFAST = {"checkpoint": "", "frames": 8, "size": 16, "config": {"stem_dim_outs": [8, 1]}}
MVIT = {
    "checkpoint": "",
    "frames": 4,
    "size": 32,
    "config": {"patch_embed_dim": 8, "head_num_classes": 400},
}
BERT = {"checkpoint": "", "length": 12, "config": {**TRANSFORMER}}
IMAGE = {"checkpoint": "", "size": 32}

SMALL: dict[str, dict[str, Any]] = {
    "id/embedding": {},
    "video/tiny": {"size": 32, "width": 16},
    "video/videomae": {"checkpoint": "", "frames": 4, "size": 32, "config": TRANSFORMER},
    "video/huggingface": {
        "frames": 4,
        "size": 32,
        "config": {"model_type": "vivit", **TRANSFORMER},
    },
    "video/image_frames": {
        "frames": 2,
        "size": 32,
        "config": {"model_type": "dinov2", **TINY, "patch_size": 8},
    },
    "video/c2d_r50": RESNET,
    "video/i3d_r50": RESNET,
    "video/slow_r50": RESNET,
    "video/r3d_r50": RESNET,
    "video/csn_r101": RESNET,
    "video/slowfast_r50": SLOWFAST,
    "video/slowfast_r101": SLOWFAST,
    "video/x3d_xs": X3D,
    "video/x3d_s": X3D,
    "video/x3d_m": X3D,
    "video/x3d_l": X3D,
    "video/efficient_x3d_xs": {"checkpoint": "", "frames": 4, "size": 16},
    "video/efficient_x3d_s": {"checkpoint": "", "frames": 4, "size": 16},
    "video/mvit_b_16x4": MVIT,
    "video/mvit_b_32x3": MVIT,
    "video/mvit_b_16": {
        **MVIT,
        "frames": 2,
        "config": {"patch_embed_dim": 8, "head_num_classes": 400},
    },
    "image/huggingface": {
        **IMAGE,
        "config": {"model_type": "siglip_vision_model", **TRANSFORMER, "patch_size": 8},
    },
    "image/resnet50": {
        **IMAGE,
        "config": {"embedding_size": 8, "hidden_sizes": [8, 8, 16], "depths": [1, 1, 1]},
    },
    "image/vit_mae": {**IMAGE, "config": {**TRANSFORMER, "patch_size": 8}},
    "image/clip_vit_b32": {**IMAGE, "config": {**TRANSFORMER, "patch_size": 8}},
    "image/swin": {
        **IMAGE,
        "config": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2},
    },
    "text/embedding_bag": {"checkpoint": "", "length": 12},
    "text/huggingface": {
        "length": 12,
        "config": {"model_type": "electra", **TRANSFORMER, "embedding_size": 8},
    },
    **{f"text/bert_{size}": BERT for size in ("tiny", "mini", "small", "medium", "base", "large")},
    "text/roberta": BERT,
    "audio/ast": {
        "checkpoint": "",
        "length": 4000,
        "config": {**TRANSFORMER, "num_mel_bins": 32, "patch_size": 8},
    },
}
"""Options of each row, except those that need a file (features/vectors) or torchvision
(video/r3d_r18)."""
TWINS = {
    "video/x3d_s": "video/x3d_xs",
    "video/x3d_m": "video/x3d_xs",
    "video/efficient_x3d_s": "video/efficient_x3d_xs",
    "video/mvit_b_32x3": "video/mvit_b_16x4",
    **{
        f"text/bert_{size}": "text/bert_tiny"
        for size in ("mini", "small", "medium", "base", "large")
    },
}
"""Rows that are the same network as another at these sizes; test_encoders.py checks it."""
TABLES = ("id/embedding", "text/embedding_bag")
"""Rows that are one trained table, without stages below."""
DISTINCT = [name for name in SMALL if name not in TWINS]
"""Rows whose networks differ."""
DEEPER = {
    "video/slowfast_r101": "video/slowfast_r50",
    "video/x3d_l": "video/x3d_xs",
    "video/i3d_r50": "video/c2d_r50",
    "video/slow_r50": "video/c2d_r50",
    "video/csn_r101": "video/c2d_r50",
}
"""Rows that consist of the same classes of modules as another, in other numbers and sizes;
test_encoders.py checks it."""
KINDS = [name for name in DISTINCT if name not in DEEPER]
"""Rows whose classes of modules differ: enough for tests of what a module does."""

TOWER_WIDTH = 16


_tried_networks: set[str] = set()
"""Rows that have passed the trial forward in this process."""


def small_tower(name: str, **changes: Any) -> ItemTower:
    """Build an item tower of one small encoder.

    Args:
        changes: fields of ItemConfig.
    """
    torch.manual_seed(0)
    config = ItemConfig(encoders=(name,), options={name: SMALL[name]}, **changes)
    # The trial forward on the meta device takes about half of the time of a build. It depends on
    # the network alone, so it runs at the first build of each.
    network = TWINS.get(name, name)
    if network in _tried_networks:
        with patch("mlrec.models.encoder_building.check_runs"):
            return ItemTower(config, TOWER_WIDTH, catalogue_size=50)
    tower = ItemTower(config, TOWER_WIDTH, catalogue_size=50)
    _tried_networks.add(network)
    return tower


def media_of(spec: InputSpec, count: int) -> dict[InputSpec, torch.Tensor]:
    """Return random media for `count` items, as the stream delivers them."""
    pixels = (spec.size, spec.size, 3)
    if spec.modality is Modality.VIDEO:
        return {spec: torch.randint(256, (count, spec.frames, *pixels), dtype=torch.uint8)}
    if spec.modality is Modality.COVER:
        return {spec: torch.randint(256, (count, *pixels), dtype=torch.uint8)}
    if spec.modality is Modality.AUDIO:
        return {spec: torch.randint(-999, 999, (count, spec.length), dtype=torch.int16)}
    if spec.modality is Modality.TITLE:
        lengths = torch.randint(2, spec.length + 1, (count, 1))
        mask = (torch.arange(spec.length) < lengths).long()
        tokens = torch.randint(3, 259, mask.shape) * mask
        return {spec: torch.stack([tokens, mask], dim=1)}
    return {spec: torch.arange(1, count + 1)}
