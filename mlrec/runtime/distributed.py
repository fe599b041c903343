"""The ranks of a run: their process group, and the exchange of item vectors with gradient.

Every function that is collective must be called by all ranks, in the same order.
"""

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
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from mlrec.runtime.launcher_watch import stop_with_launcher
from mlrec.runtime.rendezvous import Place, find_place, open_store

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""Longest wait of a collective for another rank, after which the run ends."""
MIN_OPEN_FILES = 512
"""Open files that a process needs: one per tensor of a batch in flight, and sockets to the storage
and to the other ranks."""
FORK_PAUSE_S = 0.05
"""Time in which the threads of finished collectives end."""


@dataclass(frozen=True)
class World:
    """The place of this process among the ranks of the run."""

    rank: int
    size: int
    device: torch.device
    nodes: tuple[int, ...]
    """Number of ranks of each node; ranks are numbered node by node."""

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes the run's files."""
        return self.rank == 0


def start_world() -> World:
    """Join the process group that the launcher's environment variables describe; collective.

    Without a launcher the group is this process alone. Launchers are mlrec's own, deepspeed,
    torchrun, and srun with the same variables. The backend is NCCL on GPUs, else gloo.

    Raises:
        RuntimeError: the environment is inconsistent, the ranks cannot meet, this machine shows
            fewer GPUs than it has ranks, or the process may open too few files.
    """
    if not torch.cuda.is_available():
        # Before DeepSpeed is imported: it reads the variable once.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    place = find_place()
    # Before the ranks meet, which may take minutes: a launcher may be killed meanwhile.
    stop_with_launcher()
    allow_open_files()
    device = _choose_device(place.local_rank)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_initialized():
        _meet(place, backend)
    _init_deepspeed(place.size, backend)
    local_ranks = gather_objects(place.local_rank)
    return World(place.rank, place.size, device, _nodes(local_ranks))


def lone_world() -> World:
    """Return the world of a process without other ranks, which needs no process group."""
    return World(rank=0, size=1, device=_choose_device(0), nodes=(1,))


def _choose_device(local_rank: int) -> torch.device:
    """Select the rank's GPU, or return the CPU where the machine has none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise RuntimeError(
            f"{socket.gethostname()} shows {gpus} GPUs (see CUDA_VISIBLE_DEVICES), but has more "
            "ranks. Lower its slots"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    # By default torch computes fp32 convolutions in TF32.
    allow_tf32(False)
    return device


def allow_tf32(allowed: bool) -> None:
    """Set whether GPUs compute fp32 products and convolutions in TF32, with 10 mantissa bits."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def _init_deepspeed(num_ranks: int, backend: str) -> None:
    """Make DeepSpeed use the process group that exists; collective."""
    # gloo's tensor collectives warn on every call that they may change.
    warnings.filterwarnings(
        "ignore", message=".*(all_gather_into_tensor|reduce_scatter_tensor|_base).*"
    )
    import deepspeed
    from deepspeed.runtime import compiler
    from deepspeed.utils import groups

    # Use gloo alone on CPUs. DeepSpeed's own all-reduce would be compiled at the first launch, with
    # a compiler that the machine may lack, and each rank would leave 64 MB in /dev/shm. DeepSpeed
    # reads this table for nothing else. It would fill it by test compilations for all its ops.
    deepspeed.ops.__compatible_ops__ = {}
    # ZeRO imports DeepSpeed's optimizer Muon, which mlrec does not use. Decorated by torch.compile
    # it would import torch._dynamo and torch._inductor, in 1.9 CPU seconds. This is the decorator
    # that DeepSpeed uses where torch cannot compile.
    compiler.compile = lambda: compiler.dummy_decorator
    deepspeed.init_distributed(backend, timeout=TIMEOUT, verbose=False)
    # DeepSpeed keeps its own group of all ranks. Created by DeepSpeed, it would have the backend's
    # default time limit, and NCCL's is shorter than ours.
    groups._WORLD_GROUP = dist.new_group(range(num_ranks), timeout=TIMEOUT)


def _meet(place: Place, backend: str) -> None:
    """Create the process group; collective."""
    # DeepSpeed reads the same variables. A process without a launcher has none yet.
    os.environ["RANK"] = str(place.rank)
    os.environ["LOCAL_RANK"] = str(place.local_rank)
    os.environ["WORLD_SIZE"] = str(place.size)
    store = open_store(place)
    dist.init_process_group(
        backend, timeout=TIMEOUT, store=store, rank=place.rank, world_size=place.size
    )


def allow_open_files() -> None:
    """Raise this process's limit of open files as far as the system allows.

    Raises:
        RuntimeError: the system allows fewer than MIN_OPEN_FILES.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS allows fewer than its hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Below 0 there is no limit.
    if 0 <= allowed < MIN_OPEN_FILES:
        raise RuntimeError(
            f"a process may open {allowed} files here, but training takes up to {MIN_OPEN_FILES}; "
            f"raise the limit, for example with ulimit -n {4 * MIN_OPEN_FILES}"
        )


def _nodes(local_ranks: list[int]) -> tuple[int, ...]:
    """Return the number of ranks of each node.

    Every launcher numbers the ranks node by node, and those of a node from 0.

    Args:
        local_ranks: number of each rank on its node.
    """
    # Local rank 0 opens a new node.
    starts = [rank for rank, local_rank in enumerate(local_ranks) if local_rank == 0]
    ends = [*starts[1:], len(local_ranks)]
    return tuple(end - start for start, end in zip(starts, ends, strict=True))


def stop_world() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        from deepspeed.utils import groups

        dist.destroy_process_group()
        groups._release_process_group_references()


def pause_before_fork() -> None:
    """Let the threads of finished collectives end; called before loader workers are forked.

    A gloo thread that drops the last reference to a tensor enters Python for a moment. A fork in
    this moment copies a lock that the thread holds, at least in CPython 3.11, and the forked
    process then waits for ever. That happened to 2 of 6,000 processes forked right after a
    collective.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        time.sleep(FORK_PAUSE_S)


def shares(total: int, parts: int) -> tuple[int, ...]:
    """Return the sizes of `parts` runs that cover `total`; they differ by at most one."""
    bounds = [total * part // parts for part in range(parts + 1)]
    return tuple(end - start for start, end in pairwise(bounds))


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of host memory on `device`, for which the host does not wait."""
    # A GPU copies from pinned memory while the host goes on. Until that is done, torch's allocator
    # does not give the pinned memory to anything else.
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def gather(own_OX: torch.Tensor, owned_W: Sequence[int]) -> torch.Tensor:
    """Return the rows [U, ...] of all ranks, in their order and without gradient; collective.

    Args:
        own_OX: rows of this rank [O, ...].
        owned_W: number of rows of each rank.
    """
    if len(owned_W) == 1:
        return own_OX
    # The all-gather needs the same number of rows on every rank: pad, gather, cut.
    most = max(owned_W)
    padded = own_OX.new_zeros((most, *own_OX.shape[1:]))
    padded[: len(own_OX)] = own_OX
    gathered = own_OX.new_empty((len(owned_W) * most, *own_OX.shape[1:]))
    dist.all_gather_into_tensor(gathered, padded)
    blocks = gathered.view(len(owned_W), most, *own_OX.shape[1:])
    return torch.cat([block[:owned] for block, owned in zip(blocks, owned_W, strict=True)])


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, own_OD: torch.Tensor, owned_W: tuple[int, ...], rank: int
    ) -> torch.Tensor:
        ctx.owned_W = owned_W
        ctx.rank = rank
        return gather(own_OD, owned_W)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient_UD,) = gradients
        owned_W = ctx.owned_W
        most = max(owned_W)
        # Reduce-scatter needs the same number of rows for every rank. It sums in fp32, as bf16
        # would round each partial sum.
        padded = gradient_UD.new_zeros(
            (len(owned_W), most, *gradient_UD.shape[1:]), dtype=torch.float32
        )
        for block, part in zip(padded, torch.split(gradient_UD, owned_W), strict=True):
            block[: len(part)] = part
        own = torch.empty_like(padded[0])
        dist.reduce_scatter_tensor(own, padded.flatten(0, 1))
        return own[: owned_W[ctx.rank]].to(gradient_UD.dtype), None, None


def exchange(own_OD: torch.Tensor, owned_W: tuple[int, ...], rank: int) -> torch.Tensor:
    """Return the item vectors [U, D] of all ranks, with gradient; collective.

    Backward is collective as well: it sums each item's gradients over the ranks at its owner.

    Args:
        own_OD: vectors of the items that this rank owns.
        owned_W: number of items that each rank owns.
        rank: this rank.
    """
    if len(owned_W) == 1:
        return own_OD
    exchanged: torch.Tensor = _Exchange.apply(own_OD, owned_W, rank)  # type: ignore[no-untyped-call]
    return exchanged


def num_ranks() -> int:
    """Return the number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Replace `value` by its sum over all ranks, and return it; collective."""
    dist.all_reduce(value)
    return value


def max_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Replace `value` by its elementwise maximum over all ranks, and return it; collective."""
    if dist.is_initialized():
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gather_objects(value: Any) -> list[Any]:
    """Return `value` of every rank, in the order of the ranks; collective."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(function: Callable[[], T]) -> T:
    """Return the result of rank 0, or raise its error, on every rank; collective.

    Rank 0 alone calls the function: on a shared file system, each rank may see another state of a
    folder.
    """
    # Without a process group there is one rank, as in commands that do not train.
    is_main = not dist.is_initialized() or dist.get_rank() == 0
    result: T | None = None
    failure: Exception | None = None
    if is_main:
        try:
            result = function()
        except (ValueError, RuntimeError, OSError) as error:
            failure = error
    # Rank 0 sends its error too: the others would wait for it otherwise.
    main_result, main_failure = gather_objects((result, failure))[0]
    if main_failure is not None:
        raise main_failure
    return cast("T", main_result)


def barrier() -> None:
    """Wait for all ranks; collective."""
    if dist.is_initialized():
        dist.barrier()
