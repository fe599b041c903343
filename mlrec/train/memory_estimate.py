"""Estimate the memory of a rank before training: parameters, optimizer state and activations."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mlrec.config import Config
from mlrec.models.building import training_dtype
from mlrec.models.formulas import MIN_CHUNK
from mlrec.models.simulation import tower_cost
from mlrec.models.tower import ItemTower
from mlrec.runtime.units import megabytes_or_gigabytes
from mlrec.train.deepspeed_config import deepspeed_config, zero_stage

ADAM_MOMENTS_BYTES = 8
"""AdamW's two moments of a parameter in fp32 (bytes)."""
MASTER_WEIGHT_BYTES = 4
"""A parameter's fp32 copy, which the optimizer updates (bytes)."""
AVERAGE_BYTES = 4
"""A parameter's moving average in fp32 (bytes)."""


@dataclass(frozen=True)
class StateBytes:
    """Memory that a rank holds between its steps (bytes)."""

    parameters: int
    gradients: int
    bucket: int
    """Buffer for gradients that are sent to the other ranks."""
    optimizer: int

    @staticmethod
    def of(trained: int, total: int, config: Config, ranks: int, in_tables: int = 0) -> StateBytes:
        """Return the estimate for these numbers of trained and of all parameters.

        Args:
            in_tables: number of trained parameters in tables of ids that the ranks share.
        """
        trained -= in_tables
        total -= in_tables
        stage = zero_stage(config, ranks)
        width = 2 if config.train.precision == "bf16" else 4

        # ZeRO partitions the optimizer state from stage 1 on, gradients from stage 2 and
        # parameters from stage 3 (Rajbhandari et al., 2020).
        def share(size: int, first_stage: int) -> int:
            return -(-size // ranks) if stage >= first_stage else size

        # From stage 1 on DeepSpeed keeps a copy of the weights in fp32, in fp32 training too.
        optimizer_bytes = ADAM_MOMENTS_BYTES
        if config.train.ema:
            optimizer_bytes += AVERAGE_BYTES
        bucket_bytes = 0
        if stage >= 1:
            optimizer_bytes += MASTER_WEIGHT_BYTES
            zero = deepspeed_config(config, ranks, trained)["zero_optimization"]
            bucket_bytes = width * zero["reduce_bucket_size"]
        # Rows of shared tables are partitioned at any stage, and only those of a step have a
        # gradient. Their fp32 weights are all the weights they have.
        own_weights = -(-in_tables // ranks)
        row_bytes = ADAM_MOMENTS_BYTES + (AVERAGE_BYTES if config.train.ema else 0)
        row_parameters = MASTER_WEIGHT_BYTES * own_weights
        row_optimizer = row_bytes * own_weights
        if config.zero.offload_optimizer:
            # The weights lie next to their moments.
            row_parameters, row_optimizer = 0, row_parameters + row_optimizer
        return StateBytes(
            parameters=share(width * total, 3) + row_parameters,
            gradients=share(width * trained, 2),
            bucket=bucket_bytes,
            optimizer=share(optimizer_bytes * trained, 1) + row_optimizer,
        )

    def on_device(self, offload_optimizer: bool) -> int:
        """Return the part on the device; an offloaded optimizer is in host memory."""
        weights_and_gradients = self.parameters + self.gradients + self.bucket
        return (
            weights_and_gradients if offload_optimizer else weights_and_gradients + self.optimizer
        )


@dataclass(frozen=True)
class ActivationBytes:
    """Memory of the item tower's activations on a rank (bytes)."""

    item_bytes: float
    """Activations of one item."""
    held_bytes: float
    """Activations of all items of a step, without activation checkpointing."""
    recomputed_bytes: float
    """Activations of one chunk, with activation checkpointing."""
    checkpoint: str
    """Value of item.checkpoint: auto, always or never."""

    @staticmethod
    def of(tower: ItemTower, items: int, config: Config) -> ActivationBytes | None:
        """Return the estimate for a step of `items` items, or None if no encoder is trained."""
        if not tower.trained:
            return None
        chunk = MIN_CHUNK if config.item.chunk == "auto" else config.item.chunk
        cost = tower_cost(tower, training_dtype(config))
        item_bytes = cost.saved_bytes(chunk) / chunk
        return ActivationBytes(
            item_bytes=item_bytes,
            held_bytes=items * item_bytes,
            recomputed_bytes=min(items, chunk) * item_bytes,
            checkpoint=config.item.checkpoint,
        )

    @property
    def least_bytes(self) -> float:
        """Least memory that item.checkpoint allows (bytes)."""
        return self.held_bytes if self.checkpoint == "never" else self.recomputed_bytes

    def in_words(self) -> str:
        """Return one line about activations with and without activation checkpointing."""
        choice = {
            "auto": "held if they fit in half of the memory that is free when the run starts, "
            "else recomputed chunk by chunk",
            "always": "recomputed chunk by chunk",
            "never": "held",
        }[self.checkpoint]
        return (
            f"activations of the item tower {megabytes_or_gigabytes(self.item_bytes)} per item, "
            f"{megabytes_or_gigabytes(self.held_bytes)} for all items of a step, "
            f"{megabytes_or_gigabytes(self.recomputed_bytes)} for a chunk; "
            f"item.checkpoint={self.checkpoint}: {choice}"
        )

    def remedy(self, free_bytes: float) -> str:
        """Return the settings with which the activations fit into `free_bytes`."""
        chunk = int(free_bytes / self.item_bytes)
        if chunk < 1:
            return (
                "those of one item do not fit; choose a smaller encoder or input, "
                "or train less of it (item.tuning)"
            )
        # A chunk's size matters only where chunks are recomputed, so the order is this.
        settings = []
        if self.checkpoint == "never":
            settings.append("item.checkpoint=auto")
        if self.recomputed_bytes >= free_bytes:
            settings.append(f"item.chunk={chunk} or lower")
        return f"set {' and '.join(settings)}"


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory that a rank needs, and memory that its device has."""

    state: StateBytes
    offload_optimizer: bool
    """Whether the optimizer state is in host memory."""
    device: str
    """Name of the device."""
    device_bytes: int
    """Memory of the device (bytes)."""
    needed_bytes: int
    """Part of `state` on the device (bytes)."""
    activations: ActivationBytes | None
    """Activations of the item tower; None if no encoder is trained."""

    @staticmethod
    def of(
        state: StateBytes, activations: ActivationBytes | None, config: Config, ranks: int
    ) -> MemoryEstimate:
        """Return the estimate for the first GPU, or for this machine's memory without one."""
        offload_optimizer = config.zero.offload_optimizer
        if torch.cuda.is_available():
            device = torch.cuda.get_device_name()
            device_bytes = torch.cuda.get_device_properties(0).total_memory
            needed_bytes = state.on_device(offload_optimizer)
        else:
            # On a CPU, host memory is the device: offloading moves nothing out of it.
            device = f"this machine's memory, shared by {ranks} ranks"
            device_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks
            needed_bytes = state.on_device(offload_optimizer=False)
        return MemoryEstimate(
            state, offload_optimizer, device, device_bytes, needed_bytes, activations
        )

    @property
    def free_bytes(self) -> int:
        """Memory of the device that is left for activations (bytes); negative if it lacks some."""
        return self.device_bytes - self.needed_bytes

    @property
    def fits(self) -> bool:
        """Whether the device has room for the state and the activations."""
        activation_bytes = self.activations.least_bytes if self.activations else 0
        return self.needed_bytes + activation_bytes < self.device_bytes

    def as_json(self) -> dict[str, Any]:
        """Return the estimate for programs, without the activations; units are in the keys."""
        state = {f"{name}_bytes": size for name, size in asdict(self.state).items()}
        return {
            **state,
            "offload_optimizer": self.offload_optimizer,
            "device": self.device,
            "device_bytes": self.device_bytes,
            "fits": self.fits,
            "needed_bytes": self.needed_bytes,
        }

    def in_words(self) -> str:
        """Return one line about the state by its parts."""
        place = " of host memory" if self.offload_optimizer else ""
        return (
            f"parameters {megabytes_or_gigabytes(self.state.parameters)}, "
            f"gradients {megabytes_or_gigabytes(self.state.gradients)}, "
            f"gradient bucket {megabytes_or_gigabytes(self.state.bucket)}, "
            f"optimizer {megabytes_or_gigabytes(self.state.optimizer)}{place}"
        )

    def verdict(self) -> str:
        """Return one line: whether the run fits, and what to change if it does not."""
        room = megabytes_or_gigabytes(self.device_bytes)
        left = megabytes_or_gigabytes(self.free_bytes)
        if self.free_bytes <= 0:
            return (
                f"does not fit {self.device}, {room}: set zero.stage=3 on several ranks, "
                "start more ranks, or set zero.offload_optimizer=true"
            )
        if self.activations is None or self.fits:
            return f"fits {self.device}: {left} of {room} are left for activations"
        return (
            f"does not fit {self.device}: the item tower's activations take "
            f"{megabytes_or_gigabytes(self.activations.least_bytes)}, and "
            f"{left} of {room} are left for them: {self.activations.remedy(self.free_bytes)}"
        )
