"""The place of the checks: data set, folder and device, with DeepSpeed replaced by a stand-in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from decoding import host_images
from small_encoders import SMALL
from tiny import tiny_overrides
from torch import nn

from mlrec.config import Config, load
from mlrec.data.media.device_jpeg import DEVICE_DECODERS
from mlrec.data.stream import Data, open_data
from mlrec.runtime import flops
from mlrec.runtime.distributed import World
from pretended_gpu.device import CPU, GPU
from pretended_gpu.state import PINNED
from pretended_gpu.torch_patches import pretended_gpu
from pretended_gpu.waits import RECORD

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""Keys of language models. Their dropout draws from the device's generator, which differs."""


class PlainEngine:
    """Stand-in for DeepSpeed's engine without ZeRO: what mlrec calls of it."""

    enable_backward_allreduce = True

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer

    def __call__(self, *arguments: Any) -> Any:
        return self.model(*arguments)

    def train(self) -> None:
        self.model.train()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        self.optimizer.step()
        self.zero_grad()


@dataclass
class Lab:
    """A data set and a folder, and the device on which the next action runs."""

    dataset: Path
    folder: Path
    device: torch.device = CPU
    data: Data = field(init=False)

    def __post_init__(self) -> None:
        self.data = open_data(self.settings().data)

    @property
    def world(self) -> World:
        """A group of one rank on the device."""
        return World(0, 1, self.device, (1,))

    def settings(self, *overrides: str, name: str = "run") -> Config:
        """Return the configuration of a small run in a folder for its device."""
        tiny = tiny_overrides(self.dataset, self.folder / self.device.type)
        if any(word.startswith("recommender.name") for word in overrides):
            # options belong to one recommender
            tiny = [word for word in tiny if not word.startswith("recommender.options")]
        # Two steps of an epoch of seven do more than to train. The others show the waits of a step.
        periods = [f"train.{key}_every=5 steps" for key in ("log", "evaluate", "save")]
        return load([], [*tiny, *periods, f"name={name}", *overrides])

    def fresh(self, config: Config) -> Config:
        """Remove the run's folder, and return its configuration."""
        shutil.rmtree(config.run_path, ignore_errors=True)
        return config

    def to_device(self, module: nn.Module) -> nn.Module:
        """Move a module to the device."""
        return module.to(self.device)

    @contextmanager
    def on_gpu(self) -> Iterator[None]:
        """Run the actions in the context on the pretended GPU."""
        RECORD.clear()
        PINNED.clear()
        self.device = GPU
        try:
            with pretended_gpu():
                yield
        finally:
            self.device = CPU

    @contextmanager
    def without_deepspeed(self) -> Iterator[None]:
        """Run the actions in the context with stand-ins for DeepSpeed and the process group."""

        def initialize(model: nn.Module, optimizer: Any, config: Any) -> tuple[Any, ...]:
            del config
            return PlainEngine(self.to_device(model), optimizer), optimizer, None, None

        with ExitStack() as stack:
            enter = stack.enter_context
            enter(patch("deepspeed.initialize", initialize))
            enter(patch("mlrec.train.loop.start_world", lambda: self.world))
            enter(patch("mlrec.train.loop.stop_world", lambda: None))
            enter(patch("torch.distributed.all_reduce", lambda tensor, **options: None))
            enter(patch.dict(flops.MATRIX_SIZE, cpu=64, cuda=64))
            enter(patch.dict(DEVICE_DECODERS, cpu=host_images, cuda=_images_on_gpu))
            yield


def _images_on_gpu(jpegs: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return the images of JPEGs on the GPU, to which nvJPEG writes without a copy."""
    return host_images(jpegs, CPU).pin_memory().to(device, non_blocking=True)


def encoders(*names: str, config: dict[str, Any] | None = None, **item: Any) -> list[str]:
    """Return the settings of an item tower of small encoders.

    Args:
        config: keys that are added to the encoders' architectures.
        item: other fields of ItemConfig.
    """
    options = {}
    for name in names:
        options[name] = dict(SMALL[name])
        if config:
            options[name]["config"] = {**SMALL[name]["config"], **config}
    settings = {"encoders": list(names), "options": options, **item}
    return [f"item.{key}={value}" for key, value in settings.items()]
