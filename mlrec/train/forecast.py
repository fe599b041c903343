"""Forecast of a run: memory and time of a rank, hours and price, before anything is rented.

`mlrec plan` makes it for GPUs that are not here, `mlrec train --dry-run` for this machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlrec.config import Config
from mlrec.data.host_memory import HostBytes
from mlrec.models.chunk_choice import ChunkChoice
from mlrec.models.formulas import (
    RankingBytes,
    StateBytes,
    StepBytes,
    StepSeconds,
)
from mlrec.models.pass_cost import TowerCost
from mlrec.train.machine import Machine
from mlrec.train.workload import Workload


@dataclass(frozen=True)
class ModelCost:
    """Parameters of a model, and the cost of its passes."""

    total: int
    """Number of all parameters."""
    trained: int
    """Number of trained parameters."""
    trained_in_tower: int
    """Number of trained parameters of the item tower, which each chunk uses."""
    in_tables: int
    """Number of trained parameters in tables of ids that the ranks share."""
    table_width: int
    """Width of a row of these tables together."""
    largest: int
    """Number of parameters of the largest tensor outside these tables."""
    tower: TowerCost
    trains_tower: bool
    """Whether encoding has a backward pass."""
    cached_item_bytes: float
    """Size of an item's activations in the activation cache; 0 if none are cached."""


@dataclass(frozen=True)
class Memory:
    """Memory of a rank's device in a step and in a validation (bytes)."""

    state: StateBytes
    offload_optimizer: bool
    """Whether the optimizer state is in host memory."""
    step: StepBytes
    ranking: RankingBytes
    allowance: float
    """What no tensor takes: context, communication and fragmentation."""
    device: str
    device_bytes: int

    @property
    def state_bytes(self) -> int:
        """Part of the state on the device."""
        return self.state.on_device(self.offload_optimizer)

    @property
    def needed_bytes(self) -> float:
        """The most that the run takes: in a step, or in a validation."""
        return self.state_bytes + max(self.step.most, self._validation_bytes) + self.allowance

    @property
    def largest_part(self) -> Literal["step", "validation"]:
        """The part of the run that takes the most."""
        return "validation" if self._validation_bytes > self.step.most else "step"

    @property
    def _validation_bytes(self) -> float:
        """Memory of a validation, less the gradients, which are released after each step."""
        return self.ranking.most - self.state.gradients

    @property
    def fits(self) -> bool:
        """Whether the device has room for it."""
        return self.needed_bytes <= self.device_bytes

    @property
    def step_fits(self) -> bool:
        """Whether the device has room for a step, without the allowance, which a validation may
        raise."""
        return self.state_bytes + self.step.most <= self.device_bytes

    def as_json(self) -> dict[str, Any]:
        """Return the parts for programs; units are in the keys."""
        parts = {f"{name}_bytes": size for name, size in asdict(self.state).items()}
        parts |= {f"{name}_bytes": size for name, size in asdict(self.step).items()}
        parts |= {f"ranking_{name}_bytes": size for name, size in asdict(self.ranking).items()}
        return {
            **parts,
            "allowance_bytes": self.allowance,
            "offload_optimizer": self.offload_optimizer,
            "device": self.device,
            "device_bytes": self.device_bytes,
            "needed_bytes": self.needed_bytes,
            "largest_part": self.largest_part,
            "fits": self.fits,
        }


@dataclass(frozen=True)
class HostMemory:
    """Host memory of a rank (bytes)."""

    loader: HostBytes
    activation_cache: float
    """Cached activations of frozen stages."""
    optimizer: int
    """Optimizer state that is offloaded."""
    ranks_per_node: int

    @property
    def node_bytes(self) -> float:
        """Host memory of the ranks of a node, without their programs."""
        return self.ranks_per_node * (self.loader.total + self.activation_cache + self.optimizer)

    def as_json(self) -> dict[str, Any]:
        """Return the parts for programs; units are in the keys."""
        return {
            **self.loader.as_json(),
            "activation_cache_bytes": self.activation_cache,
            "optimizer_bytes": self.optimizer,
            "node_bytes": self.node_bytes,
        }


@dataclass(frozen=True)
class StepWork:
    """Arithmetic and kernels of a step."""

    tower_flops: float
    """Floating-point operations of the item tower on all ranks, recomputed chunks included."""
    recommender_flops: float | None
    """The same of recommender and loss; None if unknown."""
    kernels: int | None
    """Kernels on a rank; None if unknown."""

    @property
    def flops(self) -> float | None:
        """Floating-point operations on all ranks; None if unknown."""
        if self.recommender_flops is None:
            return None
        return self.tower_flops + self.recommender_flops


@dataclass(frozen=True)
class Time:
    """Time and price of a run."""

    first_epoch: StepSeconds
    """A step of the first epoch."""
    later_epochs: StepSeconds
    """A step of a later epoch, in which frozen stages are read from the activation cache."""
    validation_s: float
    """Seconds of a ranking of the whole catalogue."""
    validations: int
    """Rankings of the run, that of the final split among them."""
    epoch_s: float
    """Mean seconds of an epoch's steps."""
    run_s: float
    """Seconds of all steps and rankings."""
    gpu_hours: float
    usd: float
    """Price; 0 if unknown."""

    @property
    def hours(self) -> float:
        """Hours of the run."""
        return self.run_s / 3600

    def as_json(self) -> dict[str, Any]:
        """Return the times for programs; units are in the keys."""
        return {
            "step_s": self.later_epochs.step,
            "lacks_recommender": self.later_epochs.recommend is None,
            "first_epoch_step_s": self.first_epoch.step,
            "parts_s": asdict(self.later_epochs),
            "first_epoch_parts_s": asdict(self.first_epoch),
            "loader_is_the_limit": self.later_epochs.waits_for_loader,
            "validation_s": self.validation_s,
            "validations": self.validations,
            "epoch_s": self.epoch_s,
            "run_s": self.run_s,
            "hours": self.hours,
            "gpu_hours": self.gpu_hours,
            "usd": self.usd,
        }


@dataclass(frozen=True)
class Forecast:
    """What a run takes."""

    config: Config
    machine: Machine
    workload: Workload
    cost: ModelCost
    choice: ChunkChoice
    memory: Memory
    host: HostMemory
    cached_share: float
    """Share of the items whose activations the cache holds from the second epoch on; 0 in a run
    without one."""
    first_epoch: StepWork
    """A step of the first epoch."""
    later_epochs: StepWork
    """A step of a later epoch, in which frozen stages are read from the activation cache."""
    time: Time | None
    """None without rates of the device."""

    def work_as_json(self) -> dict[str, Any]:
        """Return arithmetic and kernels of a step for programs; null is unknown."""
        return {
            "cached_share": self.cached_share,
            "flops_per_step": self.later_epochs.flops,
            "first_epoch_flops_per_step": self.first_epoch.flops,
            "recommender_flops_per_step": self.later_epochs.recommender_flops,
            "kernels_per_step": self.later_epochs.kernels,
            "first_epoch_kernels_per_step": self.first_epoch.kernels,
        }
