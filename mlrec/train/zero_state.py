"""Full fp32 weights and Adam state of a parameter at any ZeRO stage.

Checkpoints therefore depend neither on stages nor on ranks. Written against DeepSpeed 0.19. It uses
the public `safe_get_*` and `safe_set_*` calls. Before the first step these have no state to set:
the partitions below them are used. All calls are collective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from deepspeed.runtime.utils import combine_grad_norm_groups
from deepspeed.runtime.zero.partition_parameters import GatheredParameters
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")
AVERAGE = "average"
"""Entry of the optimizer's state for the moving average of a weight (train.ema).

As it lies next to Adam's moments, DeepSpeed gathers it as it gathers them.
"""


def skip_non_finite(zero_optimizer: Any) -> None:
    """Make stages 1 to 3 skip a step by the norm of its gradient alone; call it after `add_norm`.

    DeepSpeed reads this norm in any case: it clips by it, and skips a step whose norm is not
    finite. Three differences between stages are removed. In bf16, stages 1 and 2 first read the
    device once more to search each gradient for overflow, which the norm shows too. They read the
    norm again for each parameter group that they clip: now it is in host memory. Stage 3 sums
    squares in fp64, the others in fp32. Now a sum of squares that overflows fp32 counts as not
    finite at stage 3 too.
    """
    if hasattr(zero_optimizer, "check_grad_overflow"):  # stages 1 and 2
        # Not by bf16.check_grad_overflow=false, with which stages 1 and 2 would skip no step.
        zero_optimizer.check_overflow = _search_nothing
        find_norm = zero_optimizer.scaled_global_norm
        zero_optimizer.scaled_global_norm = lambda: find_norm().cpu()
    if hasattr(zero_optimizer, "_get_norm_groups"):  # stage 3
        find_norms = zero_optimizer._get_norm_groups
        zero_optimizer._get_norm_groups = lambda: _as_in_fp32(torch.stack(find_norms()).cpu())


def add_norm(zero_optimizer: Any, find_norm: Callable[[], torch.Tensor]) -> None:
    """Make stages 1 to 3 clip and skip by a norm that includes another one.

    Args:
        find_norm: returns the norm of gradients that DeepSpeed does not hold, the same on all
            ranks.
    """
    # Norms of an offloaded optimizer are on the host, hence the moves.
    if hasattr(zero_optimizer, "_get_norm_groups"):  # stage 3
        find_norms = zero_optimizer._get_norm_groups

        def find_all_norms() -> list[torch.Tensor]:
            norms: list[torch.Tensor] = find_norms()
            return [*norms, find_norm().to(norms[0])]

        zero_optimizer._get_norm_groups = find_all_norms
    elif hasattr(zero_optimizer, "scaled_global_norm"):  # stages 1 and 2
        find_own_norm = zero_optimizer.scaled_global_norm

        def find_joint_norm() -> torch.Tensor:
            own_norm: torch.Tensor = find_own_norm()
            norms = [own_norm, find_norm().to(own_norm.device)]
            joint_norm: torch.Tensor = combine_grad_norm_groups(norms)
            return joint_norm

        zero_optimizer.scaled_global_norm = find_joint_norm


def _search_nothing(partition_gradients: bool = True) -> None:
    # DeepSpeed passes the argument by name.
    del partition_gradients


def _as_in_fp32(norms: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return norms one by one, infinite where the sum of squares would overflow fp32."""
    overflows = norms.double().square() > torch.finfo(torch.float32).max
    return torch.where(overflows, torch.inf, norms).unbind()


def gradient_norm(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Return the L2 norm of all gradients, fp32, infinite above the bound of stages 1 to 3."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # Row by row, because fp32 loses four digits over millions of values. A copy in fp64 would take
    # longer than AdamW.
    squares = [torch.linalg.vector_norm(g, dim=-1).double().square().sum() for g in gradients]
    # Rounding to fp32 makes a sum of squares infinite at the same bound as in stages 1 and 2.
    return torch.stack(squares).sum().float().sqrt()


def get_weight(parameter: nn.Parameter) -> torch.Tensor:
    """Return the fp32 weight of a parameter, or the model's own weight if it is frozen."""
    # None without ZeRO in fp32 training: then the model's own weight is the one that is updated.
    master = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
    if master is not None:
        weight: torch.Tensor = master.detach()
        return weight
    with GatheredParameters([parameter], enabled=_is_partitioned(parameter)):
        return parameter.detach().clone()


def get_moment(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, moment: str
) -> torch.Tensor:
    """Return an Adam moment or the average of the parameter, fp32; call `link_state` before."""
    full = safe_get_full_optimizer_state(parameter, moment)
    state: torch.Tensor = optimizer.state[parameter][moment] if full is None else full
    return state.detach()


def set_weight(parameter: nn.Parameter, weight: torch.Tensor) -> None:
    """Set the fp32 weight that the optimizer updates; the model's own copy stays as it is."""
    if _is_partitioned(parameter):
        safe_set_local_fp32_param(parameter, _own_part(parameter, weight))
    else:
        safe_set_full_fp32_param(parameter, weight)


def set_moment(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, moment: str, value: torch.Tensor
) -> None:
    """Set an Adam moment or the average of the parameter; call `create_state` before."""
    if _is_partitioned(parameter):
        safe_set_local_optimizer_state(parameter, _own_part(parameter, value), moment)
    elif hasattr(parameter, "_hp_mapping"):  # stages 1 and 2
        safe_set_full_optimizer_state(parameter, value, moment)
    else:
        optimizer.state[parameter][moment].copy_(value)


def create_state(zero_optimizer: Any, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Create zero moments and the step count `steps` for every tensor of the optimizer."""
    for tensor in _updated_tensors(zero_optimizer, optimizer):
        # torch's AdamW counts in a tensor, DeepSpeed's CPU Adam in an int.
        count: Any = steps
        if isinstance(optimizer, torch.optim.AdamW):
            count = torch.tensor(float(steps))
            # The fused kernel updates the count on the device, the others on the host.
            if optimizer.defaults.get("fused"):
                count = count.to(tensor.device)
        state = {"step": count}
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(tensor)
        optimizer.state[tensor] = state
    link_state(zero_optimizer)


def create_averages(zero_optimizer: Any, optimizer: torch.optim.Optimizer) -> None:
    """Start the moving averages from the current weights; call `create_state` before."""
    for tensor in _updated_tensors(zero_optimizer, optimizer):
        optimizer.state[tensor][AVERAGE] = tensor.detach().clone()
    link_state(zero_optimizer)


def update_averages(zero_optimizer: Any, optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Move the averages towards the current weights: decay x average + (1 - decay) x weight.

    Each rank updates its own part of the fp32 weights, without communication.
    """
    for tensor in _updated_tensors(zero_optimizer, optimizer):
        optimizer.state[tensor][AVERAGE].lerp_(tensor.detach(), 1 - decay)


def own_values(parameter: Any) -> torch.Tensor:
    """Return the values of the model's own copy of a weight, at stage 3 this rank's part."""
    values: torch.Tensor = parameter.ds_tensor if _is_partitioned(parameter) else parameter.data
    return values


def own_part(parameter: nn.Parameter, full: torch.Tensor) -> torch.Tensor:
    """Return the part of a full tensor that belongs to `own_values`."""
    return _own_part(parameter, full) if _is_partitioned(parameter) else full


def release_gathered(zero_optimizer: Any) -> None:
    """Release gathered copies of partitioned parameters, so that the next use gathers them."""
    if hasattr(zero_optimizer, "fp32_partitioned_groups_flat"):  # stage 3
        # As DeepSpeed does in each step: gathered copies do not follow the partitions.
        zero_optimizer._partition_all_parameters()


def link_state(zero_optimizer: Any) -> None:
    """Link the parameters of stages 1 and 2 to their moments; call it before reading or setting."""
    if hasattr(zero_optimizer, "_lazy_init_hp_params_optimizer_state"):
        # DeepSpeed links once, after the first group's step, when other groups have no moments yet.
        zero_optimizer._hp_optimizer_states_linked = False
        zero_optimizer._lazy_init_hp_params_optimizer_state()


def _updated_tensors(
    zero_optimizer: Any, optimizer: torch.optim.Optimizer
) -> Iterator[torch.Tensor]:
    """Yield the tensors that the optimizer updates: this rank's partitions, or the parameters."""
    if hasattr(zero_optimizer, "fp32_partitioned_groups_flat"):  # stage 3
        yield from zero_optimizer.fp32_partitioned_groups_flat
    elif hasattr(zero_optimizer, "single_partition_of_fp32_groups"):  # stages 1 and 2
        yield from zero_optimizer.single_partition_of_fp32_groups
    else:
        for group in optimizer.param_groups:
            yield from group["params"]


def _is_partitioned(parameter: nn.Parameter) -> bool:
    # ZeRO-3 gives every parameter an id, also those so small that all ranks keep them whole.
    return hasattr(parameter, "ds_id")


def _own_part(parameter: Any, full: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a stage-3 parameter."""
    # All parts have one size: the end of the last one is padded with zeros.
    size = parameter.ds_tensor.numel()
    start = size * torch.distributed.get_rank()
    part = full.new_zeros(size)
    values = full.flatten()[start : start + size]
    part[: len(values)] = values
    return part
