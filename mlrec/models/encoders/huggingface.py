"""Any model of Hugging Face transformers as an encoder, by the name or folder of its checkpoint."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.architectures import (
    CONFIG_FILE,
    FRAME_KEYS,
    SIZE_KEYS,
    Architecture,
    build_backbone,
    has_own_files,
    read_architecture,
)
from mlrec.models.encoders.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Encoder,
    EncoderContext,
    EncoderRow,
    kept_file,
)
from mlrec.models.encoders.pixels import Pixels, PixelValues
from mlrec.models.encoders.preprocessors import find_pixels
from mlrec.storage.typed_json import parse_json

PIXELS_FILE = "pixels.json"
"""In a run's folder: what happens to the pixels before the model."""


class HuggingFace(Encoder):
    """The part that all modalities share; `spec` and `forward` are theirs."""

    inputs: tuple[str, ...] = ()
    """Names that the main input of a model for this modality has."""

    def __init__(self, architecture: Architecture, shape: dict[str, Any]) -> None:
        """
        Args:
            shape: as of build_backbone.

        Raises:
            ValueError: the checkpoint cannot be read or does not fit, or the model is for another modality.
        """
        super().__init__()
        backbone, self._config, remark = build_backbone(architecture, shape)
        name = architecture.context.name
        if backbone.main_input_name not in self.inputs:
            raise ValueError(
                f"{name} cannot use a {backbone.config.model_type}: it reads {backbone.main_input_name}, not {self.inputs[0]}. "
                f"Set item.options.{name}.checkpoint to a model for this modality"
            )
        self.remarks = (f"{name}: {remark}",) if remark else ()
        self.backbone = _with_movable_tables(backbone)
        self.width = _width_of(self.backbone.config, name)
        self._blocks = _path_of_blocks(
            self.backbone
        )  # now: under ZeRO-3 parameters would have no size later

    def save_files(self, folder: Path) -> None:
        # all keys: a later version of transformers may have other defaults
        self._config.to_json_file(folder / CONFIG_FILE, use_diff=False)

    def stages(self) -> list[nn.Module]:
        """The blocks of the outermost list of blocks; what comes before is the first stage, what comes behind joins the last."""
        front: list[nn.Module] = []
        back: list[nn.Module] = []
        module = self.backbone
        for step in self._blocks:
            direct = [
                parameter for parameter in module._parameters.values() if parameter is not None
            ]
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

    inputs = ("pixel_values",)

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        architecture = read_architecture(row, context)
        pixels = pixels_of(architecture, video=False)
        super().__init__(architecture, {"image_size": pixels.size, "mask_ratio": 0.0})
        self.spec = InputSpec(Modality.COVER, size=pixels.resized)
        self.normalize = PixelValues(pixels)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled(self.backbone(pixel_values=self.normalize(pixels, self.backbone.dtype)))

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        save_pixels(self.normalize.pixels, folder)


class HuggingFaceFrames(HuggingFaceImage):
    """A video's frames through an image model one by one, and their mean: uint8 [n, T, H, W, C] to [n, width]."""

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__(row, context)
        self.spec = InputSpec(Modality.VIDEO, frames=row.frames, size=self.spec.size)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return super().forward(frames.flatten(0, 1)).view(*frames.shape[:2], -1).mean(dim=1)


class HuggingFaceVideo(HuggingFace):
    """A video model: uint8 frames [n, T, H, W, C] to [n, width], the mean over all tokens."""

    inputs = ("pixel_values", "pixel_values_videos")

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        architecture = read_architecture(row, context)
        pixels = pixels_of(architecture, video=True)
        frames = _frames_of(architecture)
        size = pixels.size
        super().__init__(
            architecture,
            {
                "num_frames": frames,
                "frames_per_clip": frames,
                "image_size": size,
                "crop_size": size,
            },
        )
        self.spec = InputSpec(Modality.VIDEO, frames=frames, size=pixels.resized)
        self.normalize = PixelValues(pixels)
        # V-JEPA 2 would run the predictor of its training as well
        self.options = (
            {"skip_predictor": True}
            if "skip_predictor" in inspect.signature(self.backbone.forward).parameters
            else {}
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        values = self.normalize(frames, self.backbone.dtype)
        output = self.backbone(**{self.backbone.main_input_name: values}, **self.options)
        mean: torch.Tensor = output.last_hidden_state.mean(dim=1)
        return mean

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        save_pixels(self.normalize.pixels, folder)


def pooled(output: Any) -> torch.Tensor:
    """The vectors [n, width] of a model's output: its own pooling where it has one, else the mean over all tokens."""
    vectors: torch.Tensor | None = getattr(output, "pooler_output", None)
    if vectors is None:
        vectors = output.last_hidden_state.mean(dim=1)
    return vectors.flatten(1)


def _width_of(config: Any, encoder: str) -> int:
    """Width of the model's vectors.

    Raises:
        ValueError: the configuration does not state it.
    """
    widths = [
        getattr(config, "hidden_size", None),
        *(getattr(config, "hidden_sizes", None) or [])[-1:],
    ]
    stated = [width for width in widths if isinstance(width, int)]
    if not stated:
        raise ValueError(
            f"{encoder} cannot use a {config.model_type}: its config.json does not state the width of its vectors"
        )
    return stated[0]


def _frames_of(architecture: Architecture) -> int:
    """T: the option's, the row's or the model's number of frames.

    Raises:
        ValueError: the row's and the checkpoint's differ, or it is no multiple of what the model joins.
    """
    row, context = architecture.row, architecture.context
    stated = architecture.stated(FRAME_KEYS)
    _check_same("frames", stated, architecture)
    frames = row.frames or stated or 16
    tubelet = getattr(architecture.image, "tubelet_size", None) or 1
    tubelet = (
        tubelet if isinstance(tubelet, int) else int(tubelet[0])
    )  # ViViT: frames, height, width
    if frames % tubelet:
        raise ValueError(
            f"item.options.{context.name}.frames is {frames}; the model joins {tubelet} frames into a token: "
            f"give a multiple of {tubelet}"
        )
    return frames


def _check_same(
    option: str, stated: int, architecture: Architecture, where: str = CONFIG_FILE
) -> None:
    """Check that a number of the row, which nobody has set, is the checkpoint's."""
    row, context = architecture.row, architecture.context
    number = getattr(row, option)
    if not number or not stated or number == stated or option in row.given:
        return
    if has_own_files(row, context) and not context.restored:
        raise ValueError(
            f"{context.name} reads {option}={number}, and the checkpoint {row.checkpoint!r} states {stated} in its {where}; "
            f"set item.options.{context.name}.{option}={stated}, or to another number that the model can read"
        )


def pixels_of(architecture: Architecture, video: bool) -> Pixels:
    """Return what happens to the pixels of an image before the model, at the size that it reads.

    Raises:
        ValueError: the preprocessor's file is invalid or states a step that mlrec does not know, or sizes do not fit.
    """
    row, context = architecture.row, architecture.context
    if context.files is not None:
        where = kept_file(context.files, PIXELS_FILE)
        return parse_json(where.read_bytes(), Pixels, str(where), "Copy the run's folder again")
    pixels, file = _statistics(architecture, video)
    stated = architecture.stated(SIZE_KEYS)
    _check_same("size", stated, architecture)
    _check_same("size", pixels.size, architecture, file)
    size = row.size or pixels.size or stated or 224
    if size % architecture.patch():
        raise ValueError(
            f"item.options.{context.name}.size is {size}; the model cuts images into patches of {architecture.patch()} pixels: "
            f"give a multiple of {architecture.patch()}"
        )
    return pixels.of_size(size)


def _statistics(architecture: Architecture, video: bool) -> tuple[Pixels, str]:
    """The preprocessor's statement and its file; of the row where an option, or no file, says otherwise."""
    row, context = architecture.row, architecture.context
    own = Pixels(row.mean or IMAGENET_MEAN, row.std or IMAGENET_STD)
    # runs of earlier versions were trained with the row's own, whatever their checkpoint says
    earlier = context.restored and row.mean is not None and row.std is not None
    if earlier or {"mean", "std"} <= row.given or not has_own_files(row, context):
        return own, ""
    found = find_pixels(row.checkpoint, context.name, video)
    if found is None:
        if row.mean is None or row.std is None:
            raise ValueError(
                f"the checkpoint {row.checkpoint!r} of {context.name} has no preprocessor_config.json that states the mean and "
                f"standard deviation of pixels; set item.options.{context.name}.mean and .std, for example [0.5, 0.5, 0.5]"
            )
        return own, ""
    pixels, file = found
    changed = {key: getattr(own, key) for key in {"mean", "std"} & row.given}
    return replace(pixels, **changed), file


def save_pixels(pixels: Pixels, folder: Path) -> None:
    """Write what happens to the pixels into `folder`."""
    (folder / PIXELS_FILE).write_text(json.dumps(asdict(pixels), indent=1) + "\n")


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
        if isinstance(module, nn.ModuleList) and not any(
            name.startswith(f"{outer}.") for outer in lists
        ):
            lists[name] = sum(parameter.numel() for parameter in module.parameters())
    if not lists:
        raise ValueError(
            f"a {type(model).__name__} has no list of blocks, of which mlrec trains the last ones; choose another model"
        )
    return max(lists, key=lambda name: lists[name]).split(".")
