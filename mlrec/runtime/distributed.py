"""The ranks of a run and the exchange of item vectors between them, with gradient."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from mlrec.runtime.ending import stop_with_launcher
from mlrec.runtime.rendezvous import Place, find_place, open_store

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""A collective that waits longer than this for another rank ends the run."""
MIN_OPEN_FILES = 512
"""A process opens a file for each tensor of a batch in flight, and sockets to storage and to the other ranks."""
FORK_PAUSE_S = 0.05


@dataclass(frozen=True)
class World:
    """This process among the ranks of the run."""

    rank: int
    size: int
    device: torch.device
    nodes: tuple[int, ...]
    """Ranks of each node; ranks are numbered node by node."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one rank that writes the run's files."""
        return self.rank == 0


def start_world() -> World:
    """Join the process group that a launcher described in the environment; without one, a group of one.

    Works under the deepspeed launcher, torchrun, srun with the same variables, and plain python; NCCL on GPUs, else gloo.

    Raises:
        RuntimeError: the environment is inconsistent, the ranks cannot meet, this machine shows fewer GPUs than it has ranks,
            or the process may open too few files.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault(
            "DS_ACCELERATOR", "cpu"
        )  # before DeepSpeed is imported: it looks only once
    place = find_place()
    stop_with_launcher()
    allow_open_files()
    if torch.cuda.is_available():
        if place.local_rank >= (gpus := torch.cuda.device_count()):
            raise RuntimeError(
                f"{socket.gethostname()} shows {gpus} GPUs (see CUDA_VISIBLE_DEVICES), but has more "
                "ranks. Lower its slots"
            )
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
        # fp32 is fp32: torch leaves convolutions in TF32, which has 10 bits, and products of matrices not
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    else:
        device = torch.device("cpu")
    if not dist.is_initialized():
        _meet(place, "nccl" if device.type == "cuda" else "gloo")
    # gloo's tensor collectives announce on every call that they may change
    warnings.filterwarnings(
        "ignore", message=".*(all_gather_into_tensor|reduce_scatter_tensor|_base).*"
    )
    import deepspeed
    from deepspeed.utils import groups

    # On the CPU gloo alone: DeepSpeed's own all-reduce would be compiled at the first launch, with a compiler that the machine
    # may not have, and each rank would leave 64 MB in /dev/shm.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        "nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT, verbose=False
    )
    # DeepSpeed's copy of the group of all ranks: made by itself it would have its backend's time limit, and NCCL's is shorter
    groups._WORLD_GROUP = dist.new_group(range(place.size), timeout=TIMEOUT)
    return World(place.rank, place.size, device, _nodes(gather_objects(place.local_rank)))


def _meet(place: Place, backend: str) -> None:
    """Make the process group; DeepSpeed, which looks at the same variables, uses it."""
    names = {"RANK": place.rank, "LOCAL_RANK": place.local_rank, "WORLD_SIZE": place.size}
    os.environ.update({name: str(number) for name, number in names.items()})
    store = open_store(place)
    dist.init_process_group(
        backend, timeout=TIMEOUT, store=store, rank=place.rank, world_size=place.size
    )


def allow_open_files() -> None:
    """Raise this process's limit of open files as far as it may.

    Raises:
        RuntimeError: that is too low: connections and shared batches would be lost on the way.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS allows fewer than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= allowed < MIN_OPEN_FILES:
        raise RuntimeError(
            f"a process may open {allowed} files here, but training takes up to {MIN_OPEN_FILES}; "
            f"raise the limit, for example with ulimit -n {4 * MIN_OPEN_FILES}"
        )


def _nodes(local_ranks: list[int]) -> tuple[int, ...]:
    """Ranks of each node: every launcher numbers the ranks node by node, and a node's from 0."""
    starts = [rank for rank, local_rank in enumerate(local_ranks) if local_rank == 0]
    return tuple(
        end - start for start, end in zip(starts, [*starts[1:], len(local_ranks)], strict=True)
    )


def stop_world() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        from deepspeed.utils import groups

        dist.destroy_process_group()
        groups._release_process_group_references()


def pause_before_fork() -> None:
    """Lets the threads of finished collectives end; called before loader workers are forked.

    A gloo thread that drops the last reference to a tensor takes part in Python for a moment. CPython (3.11 at least) copies a
    lock that it holds in this moment into the forked process, which then waits for ever: 2 of 6,000 that were forked right after
    a collective did.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        time.sleep(FORK_PAUSE_S)


def shares(total: int, parts: int) -> tuple[int, ...]:
    """`total` things cut into `parts` runs whose sizes differ by at most one."""
    return tuple(total * (part + 1) // parts - total * part // parts for part in range(parts))


def gather(own_OX: torch.Tensor, owned_W: Sequence[int]) -> torch.Tensor:
    """All ranks' rows [U, ...] in the order of the ranks, without gradient; rank r brings owned_W[r] rows."""
    if len(owned_W) == 1:
        return own_OX
    most = max(owned_W)
    padded = own_OX.new_zeros((most, *own_OX.shape[1:]))
    padded[: len(own_OX)] = own_OX
    everything = own_OX.new_empty((len(owned_W) * most, *own_OX.shape[1:]))
    dist.all_gather_into_tensor(everything, padded)
    blocks = everything.view(len(owned_W), most, *own_OX.shape[1:])
    return torch.cat([block[:owned] for block, owned in zip(blocks, owned_W, strict=True)])


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, own_OD: torch.Tensor, owned_W: tuple[int, ...], rank: int
    ) -> torch.Tensor:
        ctx.owned_W, ctx.rank = owned_W, rank
        return gather(own_OD, owned_W)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient_UD,) = gradients
        owned_W, most = ctx.owned_W, max(ctx.owned_W)
        # every rank's share padded to the same number of rows, as reduce-scatter wants them; in fp32: bf16 would round each sum
        padded = gradient_UD.new_zeros(
            (len(owned_W), most, *gradient_UD.shape[1:]), dtype=torch.float32
        )
        for block, part in zip(padded, torch.split(gradient_UD, owned_W), strict=True):
            block[: len(part)] = part
        own = torch.empty_like(padded[0])
        dist.reduce_scatter_tensor(own, padded.flatten(0, 1))
        return own[: owned_W[ctx.rank]].to(gradient_UD.dtype), None, None


def exchange(own_OD: torch.Tensor, owned_W: tuple[int, ...], rank: int) -> torch.Tensor:
    """All ranks' item vectors [U, D], with gradient: backward sums each item's gradients over the ranks at its owner."""
    if len(owned_W) == 1:
        return own_OD
    exchanged: torch.Tensor = _Exchange.apply(own_OD, owned_W, rank)  # type: ignore[no-untyped-call]
    return exchanged


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum of `value` over all ranks, in place."""
    dist.all_reduce(value)
    return value


def max_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum of `value` over all ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gather_objects(value: Any) -> list[Any]:
    """`value` of every rank, in the order of the ranks."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def from_main(find: Callable[[], T]) -> T:
    """Return what rank 0 finds, or raise its error, on every rank; collective.

    On a shared file system each rank may see another state of a folder.
    """
    is_main = not dist.is_initialized() or dist.get_rank() == 0
    found: tuple[T | None, Exception | None] = None, None
    if is_main:
        try:
            found = find(), None
        except (ValueError, RuntimeError, OSError) as error:
            found = None, error
    result, failure = gather_objects(found)[0]
    if failure is not None:
        raise failure
    return cast("T", result)


def barrier() -> None:
    """Waits for all ranks."""
    if dist.is_initialized():
        dist.barrier()
