"""Encoders that run any Hugging Face transformers model, by name or folder of its checkpoint.

Shape letters: n items, T frames, H W C height, width and color channels.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlrec.data.schema import InputSpec, Modality
from mlrec.models.encoders.architectures import CONFIG_FILE, Architecture, read_architecture
from mlrec.models.encoders.backbones import build_backbone
from mlrec.models.encoders.base import Encoder, EncoderContext, EncoderRow
from mlrec.models.encoders.image_inputs import frames_of, pixels_of, save_pixels
from mlrec.models.encoders.pixels import PixelValues


class HuggingFace(Encoder):
    """What all modalities share; subclasses set `spec` and implement `forward`."""

    inputs: tuple[str, ...] = ()
    """Names that transformers gives to the main input of this modality's models."""

    def __init__(self, architecture: Architecture, shape: dict[str, Any]) -> None:
        """Build the model of an architecture.

        Args:
            shape: keys for `build_backbone`.

        Raises:
            ValueError: the checkpoint cannot be read or does not fit, or the model is for another
                modality.
        """
        super().__init__()
        name = architecture.context.name
        model, self._config, remark = build_backbone(architecture, shape)
        # transformers states the modality of a model by the name of its main input only
        if model.main_input_name not in self.inputs:
            raise ValueError(
                f"{name} cannot use a {model.config.model_type}: it reads {model.main_input_name}, "
                f"not {self.inputs[0]}. Set item.options.{name}.checkpoint to a model for this "
                "modality"
            )
        self.remarks = (f"{name}: {remark}",) if remark else ()
        self.backbone = _with_movable_tables(model)
        self.width = _width_of(self.backbone.config, name)
        # computed now, because under ZeRO-3 parameters have no size later
        self._path_of_blocks = _path_of_blocks(self.backbone)

    def save_files(self, folder: Path) -> None:
        # all keys, because a later version of transformers may have other defaults
        self._config.to_json_file(folder / CONFIG_FILE, use_diff=False)

    def stages(self) -> list[nn.Module]:
        """Return the model's main list of blocks.

        Parameters that run before the blocks form a first stage. Those that run after them join
        the last stage.
        """
        before_blocks: list[nn.Module] = []
        after_blocks: list[nn.Module] = []
        module = self.backbone
        # Descend to the list of blocks. At each level, the children in front of the path run
        # before the blocks, and the others after them, inner ones first.
        for step in self._path_of_blocks:
            # a class token or a table of positions may belong to no child
            own_parameters = [p for p in module._parameters.values() if p is not None]
            if own_parameters:
                before_blocks.append(nn.ParameterList(own_parameters))
            after_step: list[nn.Module] = []
            side = before_blocks
            for name, child in module.named_children():
                if name == step:
                    side = after_step
                elif _has_parameters(child):
                    side.append(child)
            after_blocks = after_step + after_blocks
            module = module.get_submodule(step)
        *blocks, last = module.children()
        if before_blocks:
            blocks.insert(0, nn.ModuleList(before_blocks))
        if after_blocks:
            last = nn.ModuleList([last, *after_blocks])
        return [*blocks, last]


class HuggingFaceImage(HuggingFace):
    """A cover through an image model: uint8 [n, H, W, C] to [n, width]."""

    inputs = ("pixel_values",)

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        architecture = read_architecture(row, context)
        pixels = pixels_of(architecture, video=False)
        # ViT-MAE would drop three quarters of the patches, as in its pretraining
        super().__init__(architecture, {"image_size": pixels.size, "mask_ratio": 0.0})
        self.spec = InputSpec(Modality.COVER, size=pixels.resized)
        self.normalize = PixelValues(pixels)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled(self.backbone(pixel_values=self.normalize(pixels, self.backbone.dtype)))

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        save_pixels(self.normalize.pixels, folder)


class HuggingFaceFrames(HuggingFaceImage):
    """A video's frames through an image model: uint8 [n, T, H, W, C] to their mean [n, width].

    With item.options.ENCODER.pooling it returns the vectors of the frames, [n, T, width], and the
    pooling reduces them.
    """

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        super().__init__(row, context)
        self.spec = InputSpec(Modality.VIDEO, frames=row.frames, size=self.spec.size)
        if "pooling" in row.configured:
            self.rows = tuple(f"frame {frame}" for frame in range(row.frames))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        # the n * T frames are one batch of images
        vectors = super().forward(frames.flatten(0, 1))
        vectors_nTW = vectors.view(*frames.shape[:2], -1)
        return vectors_nTW if self.rows else vectors_nTW.mean(dim=1)


class HuggingFaceVideo(HuggingFace):
    """A video model, averaged over all its tokens: uint8 [n, T, H, W, C] to [n, width]."""

    inputs = ("pixel_values", "pixel_values_videos")

    def __init__(self, row: EncoderRow, context: EncoderContext) -> None:
        architecture = read_architecture(row, context)
        pixels = pixels_of(architecture, video=True)
        frames = frames_of(architecture)
        # architectures differ in the names of these keys; each takes those that it has
        shape = {
            "num_frames": frames,
            "frames_per_clip": frames,
            "image_size": pixels.size,
            "crop_size": pixels.size,
        }
        super().__init__(architecture, shape)
        self.spec = InputSpec(Modality.VIDEO, frames=frames, size=pixels.resized)
        self.normalize = PixelValues(pixels)
        self.options: dict[str, Any] = {}
        # V-JEPA 2 would also run the predictor of its pretraining
        if "skip_predictor" in inspect.signature(self.backbone.forward).parameters:
            self.options["skip_predictor"] = True

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        values = self.normalize(frames, self.backbone.dtype)
        output = self.backbone(**{self.backbone.main_input_name: values}, **self.options)
        # [n, tokens, width]: tokens of all frames and patches, and a class token if there is one
        mean: torch.Tensor = output.last_hidden_state.mean(dim=1)
        return mean

    def save_files(self, folder: Path) -> None:
        super().save_files(folder)
        save_pixels(self.normalize.pixels, folder)


def pooled(output: Any) -> torch.Tensor:
    """Return the vectors [n, width] of a model's output: its own pooling, or the mean of tokens."""
    vectors: torch.Tensor | None = getattr(output, "pooler_output", None)
    if vectors is None:
        vectors = output.last_hidden_state.mean(dim=1)
    # ResNet's pooling returns [n, width, 1, 1]
    return vectors.flatten(1)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _width_of(config: Any, encoder: str) -> int:
    """Return the width of the model's vectors.

    Raises:
        ValueError: the configuration does not state it.
    """
    width = getattr(config, "hidden_size", None)
    if isinstance(width, int):
        return width
    # ResNet and others have a width per stage; the vectors come from the last one
    widths = getattr(config, "hidden_sizes", None)
    if widths and isinstance(widths[-1], int):
        return int(widths[-1])
    raise ValueError(
        f"{encoder} cannot use a {config.model_type}: its config.json does not state the width of "
        "its vectors. Choose another checkpoint"
    )


def _with_movable_tables(model: Any) -> Any:
    """Return the model with its tables of positions as non-persistent buffers.

    VideoMAE's table is a plain tensor on the CPU. Each forward would cast it there and copy it to
    the device while the host waits. As a buffer it moves with the model. Casting the whole model
    loses nothing, because each forward casts the table to the activations' dtype anyway.
    """
    for module in model.modules():
        table = vars(module).get("position_embeddings")
        if isinstance(table, torch.Tensor):
            del module.position_embeddings
            module.register_buffer("position_embeddings", table, persistent=False)
    return model


def _path_of_blocks(model: nn.Module) -> list[str]:
    """Return the path to the list of blocks: the outermost list with the most parameters.

    Raises:
        ValueError: the model has no list of modules.
    """
    num_parameters: dict[str, int] = {}
    for name, module in model.named_modules():
        # named_modules lists outer modules first, so an outer list is known before its inner ones
        is_inner = any(name.startswith(f"{outer}.") for outer in num_parameters)
        if isinstance(module, nn.ModuleList) and not is_inner:
            num_parameters[name] = sum(parameter.numel() for parameter in module.parameters())
    if not num_parameters:
        raise ValueError(
            f"a {type(model).__name__} has no list of blocks, of which mlrec trains the last ones; "
            "choose another model"
        )
    return max(num_parameters, key=num_parameters.__getitem__).split(".")
