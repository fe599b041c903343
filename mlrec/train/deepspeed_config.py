"""DeepSpeed's configuration as a pure function of a run's configuration."""

from __future__ import annotations

from typing import Any

import torch

from mlrec.config import Config

MAX_BUCKET_ELEMENTS = 500_000_000
"""Gradient elements that are averaged at a time: DeepSpeed's own default of reduce_bucket_size."""
NEVER = 1 << 62
"""Steps between two of DeepSpeed's progress lines."""


REUSE_DISTANCE_ELEMENTS = 1_000_000_000
"""DeepSpeed's default of stage3_max_reuse_distance: a parameter that is used again within this
number of elements stays gathered."""
LIVE_ELEMENTS = 1_000_000_000
"""DeepSpeed's default of stage3_max_live_parameters, beyond which it prefetches none."""
PREFETCHED_ELEMENTS = 50_000_000
"""DeepSpeed's default of stage3_prefetch_bucket_size."""


def gathered_elements(config: Config, largest: int) -> int:
    """Return the most parameters that stay gathered on a rank at ZeRO stage 3.

    They are those that are used again within the reuse distance, and those that are prefetched.

    Args:
        largest: number of parameters of the model's largest tensor.
    """
    reused = _stage_3_option(config, "max_reuse_distance", REUSE_DISTANCE_ELEMENTS)
    live = _stage_3_option(config, "max_live_parameters", LIVE_ELEMENTS)
    prefetched = _stage_3_option(config, "prefetch_bucket_size", PREFETCHED_ELEMENTS)
    return max(reused, largest) + min(prefetched, live)


def _stage_3_option(config: Config, name: str, default: int) -> int:
    """Return an option of DeepSpeed's, which may be written with the prefix stage3_."""
    options = config.zero.options
    value: int = options.get(f"stage3_{name}", options.get(name, default))
    return value


def zero_stage(config: Config, ranks: int) -> int:
    """Return the ZeRO stage of a run on this number of ranks."""
    zero = config.zero
    if zero.stage != "auto":
        return zero.stage
    # bf16 needs the fp32 weights that ZeRO keeps, and the other settings are for ZeRO
    needs_zero = config.train.precision == "bf16" or zero.offload_optimizer or zero.options
    return 2 if ranks > 1 or needs_zero else 0


def deepspeed_config(config: Config, world_size: int, trained: int) -> dict[str, Any]:
    """Return the DeepSpeed configuration of a run.

    There is no gradient accumulation: a step is one plan and one exchange.
    The batch size is informational.

    Args:
        trained: number of trained parameters.
    """
    # From stage 1 on DeepSpeed allocates a buffer of this size, even for fewer gradients.
    stage = zero_stage(config, world_size)
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": min(MAX_BUCKET_ELEMENTS, trained),
        **config.zero.options,
    }
    if config.zero.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    # Without ZeRO the engine clips by the norm that it has read. DeepSpeed would compute it again.
    clip_norm = config.optim.clip_norm if stage else 0.0
    return {
        "train_micro_batch_size_per_gpu": -(-config.train.global_batch // world_size),
        "gradient_accumulation_steps": 1,
        # DeepSpeed clips by the same norm that decides whether a step is skipped.
        "gradient_clipping": clip_norm,
        "bf16": {"enabled": config.train.precision == "bf16", "check_grad_overflow": True},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": NEVER,
        # The throughput timer would wait for the device twice per step.
        "timers": {"throughput": {"enabled": False}},
    }
