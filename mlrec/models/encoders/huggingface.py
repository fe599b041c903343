"""Any model of Hugging Face transformers as an encoder, by the name or folder of its checkpoint."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlrec.models.encoders.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, EncoderContext, EncoderRow, Normalize
from mlrec.models.encoders.pretrained import load_pretrained, local_folder
from mlrec.schema import InputSpec, Modality


class HuggingFace(Encoder):
    """The part that all modalities share; `spec` and `forward` are theirs."""

    def __init__(self, row: EncoderRow, context: EncoderContext, shape: dict[str, Any]) -> None:
        """
        Args:
            shape: attributes to set on the configuration where the architecture has them; None leaves its own.

        Raises:
            ValueError: there is neither a checkpoint nor a model type, or the checkpoint is not at hand.
        """
        super().__init__()
        self.backbone = _with_movable_tables(_without_unused(_build(row, context, shape)))
        config = self.backbone.config
        self.width = int(getattr(config, "hidden_size", 0) or config.hidden_sizes[-1])
        self._blocks = _path_of_blocks(self.backbone)  # now: under ZeRO-3 parameters would have no size later

    def stages(self) -> list[nn.Module]:
        """The blocks of the outermost list of blocks; what comes before is the first stage, what comes behind joins the last."""
        front: list[nn.Module] = []
        back: list[nn.Module] = []
        module = self.backbone
        for step in self._blocks:
            direct = [parameter for parameter in module._parameters.values() if parameter is not None]
            if direct:
                front.append(nn.ParameterList(direct))
            behind: list[nn.Module] = []
            side = front
            for name, child in module.named_children():
                if name == step:
                    side = behind
                elif next(child.parameters(), None) is not None:
                    side.append(child)
            back = behind + back
            module = module.get_submodule(step)
        *blocks, last = module.children()
        first = [nn.ModuleList(front)] if front else []
        return [*first, *blocks, nn.ModuleList([last, *back]) if back else last]


class HuggingFaceImage(HuggingFace):
    """A cover through an image model: uint8 [n, H, W, C] to [n, width]."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__(row, context, {"image_size": row.size or None, "mask_ratio": 0.0})
        size = row.size or int(getattr(self.backbone.config, "image_size", 224))
        self.spec = InputSpec(Modality.COVER, size=size)
        self.normalize = Normalize(*_statistics(row, context))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled(self.backbone(pixel_values=self.normalize(pixels, self.backbone.dtype)))


class HuggingFaceFrames(HuggingFaceImage):
    """A video's frames through an image model one by one, and their mean: uint8 [n, T, H, W, C] to [n, width]."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__(row, context)
        self.spec = InputSpec(Modality.VIDEO, frames=row.frames, size=self.spec.size)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return super().forward(frames.flatten(0, 1)).view(*frames.shape[:2], -1).mean(dim=1)


class HuggingFaceVideo(HuggingFace):
    """A video model: uint8 frames [n, T, H, W, C] to [n, width], the mean over all tokens."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        frames, size = row.frames or None, row.size or None
        super().__init__(row, context, {"num_frames": frames, "frames_per_clip": frames, "image_size": size, "crop_size": size})
        config = self.backbone.config
        frames = frames or int(getattr(config, "num_frames", 0) or getattr(config, "frames_per_clip", 16))
        size = size or int(getattr(config, "image_size", 0) or getattr(config, "crop_size", 224))
        tubelet = getattr(config, "tubelet_size", 1)
        tubelet = tubelet if isinstance(tubelet, int) else int(tubelet[0])
        if frames % tubelet:
            raise ValueError(
                f"item.options.{context.name}.frames is {frames}; the model joins {tubelet} frames into a token: "
                f"give a multiple of {tubelet}"
            )
        self.spec = InputSpec(Modality.VIDEO, frames=frames, size=size)
        self.normalize = Normalize(*_statistics(row, context))
        # V-JEPA 2 would run the predictor of its training as well
        self.options = {"skip_predictor": True} if "skip_predictor" in inspect.signature(self.backbone.forward).parameters else {}

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        values = self.normalize(frames, self.backbone.dtype)
        output = self.backbone(**{self.backbone.main_input_name: values}, **self.options)
        mean: torch.Tensor = output.last_hidden_state.mean(dim=1)
        return mean


def pooled(output: Any) -> torch.Tensor:
    """The vectors [n, width] of a model's output: its own pooling where it has one, else the mean over all tokens."""
    vectors: torch.Tensor | None = getattr(output, "pooler_output", None)
    if vectors is None:
        vectors = output.last_hidden_state.mean(dim=1)
    return vectors.flatten(1)


def has_own_files(row: EncoderRow, context: EncoderContext) -> bool:
    """Whether configuration and tokenizer come from the row's checkpoint: a folder serves random weights too."""
    return bool(row.checkpoint) and (not context.scratch or "://" in row.checkpoint or Path(row.checkpoint).is_dir())


def _build(row: EncoderRow, context: EncoderContext, shape: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModel

    settings = dict(row.config)
    model_type = settings.pop("model_type", "")
    if has_own_files(row, context):
        config = load_pretrained(AutoConfig.from_pretrained, row.checkpoint, context.name, **settings)
    elif model_type:
        config = AutoConfig.for_model(model_type, **settings)
    else:
        raise ValueError(
            f"{context.name} stands for any model: set item.options.{context.name}.checkpoint to a name at the Hugging Face hub "
            f"or a folder, or item.options.{context.name}.config.model_type for random weights"
        )
    inner = getattr(config, "vision_config", config)
    for name, value in shape.items():
        if value is not None and name not in settings and hasattr(inner, name):
            setattr(inner, name, value)
    if not row.checkpoint or context.scratch:
        return AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    # without a dtype the model would have that of the file
    options = {"config": config, "use_safetensors": True, "dtype": torch.float32}
    return load_pretrained(AutoModel.from_pretrained, row.checkpoint, context.name, **options)


def _without_unused(model: Any) -> Any:
    """The model without the parts that its vectors do not come from: they would be trained parameters without a gradient."""
    model = getattr(model, "vision_model", model)  # CLIP, SigLIP: the image's half of a pair
    if hasattr(model, "predictor"):
        model.predictor = None  # V-JEPA 2: guesses masked patches
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Linear) or hasattr(pooler, "dense"):
        model.pooler = None  # made for another task, and missing in most checkpoints
    for module in list(model.modules()):
        if getattr(module, "mask_token", None) is not None:
            token = module.mask_token.data
            del module.mask_token
            module.register_buffer("mask_token", token)
    return model


def _with_movable_tables(model: Any) -> Any:
    """The model with its tables of positions as buffers, which go to the device with it, and are in no checkpoint.

    VideoMAE's is a plain tensor, which each forward would cast on the CPU and copy from there while the host waits. A forward
    casts it to the activations' type in any case: so it loses nothing where the whole model is cast.
    """
    for module in model.modules():
        table = vars(module).get("position_embeddings")
        if isinstance(table, torch.Tensor):
            del module.position_embeddings
            module.register_buffer("position_embeddings", table, persistent=False)
    return model


def _path_of_blocks(model: nn.Module) -> list[str]:
    """Where the model's list of blocks is: of the lists that lie in no other list, the one with most parameters."""
    lists: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = sum(parameter.numel() for parameter in module.parameters())
    return max(lists, key=lambda name: lists[name]).split(".")


def _statistics(row: EncoderRow, context: EncoderContext) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the pixels: the row's, or those in the preprocessor's configuration of its checkpoint.

    Raises:
        ValueError: neither states them.
    """
    if row.mean is not None and row.std is not None:
        return row.mean, row.std
    if not has_own_files(row, context):
        return IMAGENET_MEAN, IMAGENET_STD
    from transformers.utils.hub import cached_file

    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        path = cached_file(local_folder(row.checkpoint), name, _raise_exceptions_for_missing_entries=False)
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
        if {"image_mean", "image_std"} <= set(content):
            return tuple(content["image_mean"]), tuple(content["image_std"])
    raise ValueError(
        f"the checkpoint {row.checkpoint!r} of {context.name} has no preprocessor_config.json that states the pixels' mean and "
        f"standard deviation; set item.options.{context.name}.mean and .std, for example [0.5, 0.5, 0.5]"
    )
