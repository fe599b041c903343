"""Stream of steps: each loader worker plans, reads and decodes whole steps of this rank."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.queues
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mlrec.config import DataConfig
from mlrec.data.cache_folder import checked_cache_dir
from mlrec.data.cached_items import CachedItems, decode_partly_cached, partial_inputs
from mlrec.data.decode import Decoded, check_inputs, decode_items, members_of
from mlrec.data.decode_clock import DecodeClock
from mlrec.data.format import Catalogue, DatasetInfo, read_catalogue, read_dataset_info
from mlrec.data.item_store import ItemStore
from mlrec.data.ownership import Owners, owners_of
from mlrec.data.plan import Plan, StepPlan
from mlrec.data.samples import Sample
from mlrec.data.schema import Batch, InputSpec
from mlrec.data.sequences import SequenceTable, open_sequences
from mlrec.data.shared_buffers import BatchMemory
from mlrec.runtime.distributed import pause_before_fork
from mlrec.runtime.ending import end_with_parent
from mlrec.runtime.terminal import say
from mlrec.runtime.time_limit import allow_time_limit

T = TypeVar("T")

WORKER_DEATHS = 3
"""Deaths of loader workers in a row, without a finished step, after which the run ends."""

KILLED_S = 3.0
"""Seconds to wait for a killed worker, which may be stuck in the kernel."""

log = logging.getLogger(__name__)


@dataclass
class Data:
    """An opened data set."""

    config: DataConfig
    url: str
    info: DatasetInfo
    catalogue: Catalogue
    sequences: SequenceTable
    store: ItemStore
    clock: DecodeClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = DecodeClock(self.catalogue.size)

    def owners(self, global_batch: int, nodes: tuple[int, ...]) -> Owners:
        """Return the rule of ownership for `nodes`, the number of ranks on each node."""
        return owners_of(self.config, self.catalogue, self.sequences.num_users, global_batch, nodes)


def open_data(config: DataConfig) -> Data:
    """Open the data set of `config`.

    Raises:
        ValueError: there is none at data.url, or not one that this version reads.
    """
    if not config.url:
        raise ValueError(
            "data.url is not set; give the URL of a packed data set, for example data.url=s3://bucket/microlens-50k"
        )
    info = read_dataset_info(config.url)
    catalogue = read_catalogue(config.url, info)
    cache_dir = checked_cache_dir(Path(config.cache_dir), config.url)
    sequences = open_sequences(config.url, info, catalogue.ok_N1, cache_dir)
    store = ItemStore(config.url, info, catalogue, cache_dir, config.cache_bytes)
    return Data(config, config.url, info, catalogue, sequences, store)


class StepDataset(Dataset[Batch]):
    """Mapping of a step to this rank's batch."""

    def __init__(
        self,
        data: Data,
        plan: Plan,
        rank: int,
        inputs: Sequence[InputSpec],
        local_negatives: bool,
        whole_catalogue: bool = False,
        cached_items: CachedItems | None = None,
    ) -> None:
        """Check that the data set holds the inputs, and prepare the shares of the items.

        Args:
            whole_catalogue: every step has all packed items, not only those of the global batch.
            cached_items: the items whose activations the item tower caches; None without a cache.
        """
        check_inputs(inputs, data.info.media, data.url)
        self.data = data
        self.plan = plan
        self.rank = rank
        self.inputs = tuple(dict.fromkeys(inputs))
        self.local_negatives = local_negatives
        self.items_N = np.flatnonzero(data.catalogue.ok_N1) if whole_catalogue else None
        self.cached_items = cached_items
        self._memory = BatchMemory()
        popularity = data.catalogue.popularity_N1
        with np.errstate(divide="ignore"):
            self.log_p_N1 = np.log(popularity / popularity.sum()).astype(np.float32)

    def __getitem__(self, step: int) -> Batch:
        plan = self.plan.step(step, self.items_N)
        own_items = plan.items_U[plan.items_of(self.rank)]
        store = self.data.store
        bytes_before = store.bytes_read
        local_before = store.local_bytes
        # One copy of the shared table for the batch: the tower may set more entries meanwhile.
        cached_O = self.cached_items.cached_N1[own_items] if self.cached_items else None
        media, valid_O, bad_items = self.load_media(own_items, cached_O)
        slots_BT = plan.slots_GT[plan.users_of(self.rank)]
        inputs_BL, targets_BL = next_item_pairs(slots_BT)
        candidates = slots_BT if self.local_negatives else plan.slots_GT
        return Batch(
            step=step,
            users_B=torch.from_numpy(plan.users_G[plan.users_of(self.rank)]),
            items_U=torch.from_numpy(plan.items_U),
            count_U=_counts(candidates, plan),
            targets_U=_counts(next_item_pairs(plan.slots_GT)[1], plan),
            log_p_U=torch.from_numpy(self.log_p_N1[plan.items_U]),
            owned_W=plan.owned_W,
            items_O=torch.from_numpy(own_items),
            media=media,
            valid_O=valid_O,
            inputs_BL=torch.from_numpy(inputs_BL),
            targets_BL=torch.from_numpy(targets_BL),
            bad_items=bad_items,
            bytes_read=store.bytes_read - bytes_before,
            local_bytes=store.local_bytes - local_before,
            remote_bytes=store.take_remote_bytes(),
            cached_O=None if cached_O is None else torch.from_numpy(cached_O),
        )

    def load_media(self, items: np.ndarray, cached_n: np.ndarray | None) -> Decoded:
        """Read and decode the media of this rank's items, except those that `cached_n` marks."""
        info = self.data.info.media

        def read(items: np.ndarray, inputs: Sequence[InputSpec]) -> Iterator[Sample]:
            return self.data.clock.timed(
                self.data.store.read_many(items.tolist(), members_of(inputs, info))
            )

        if self.cached_items is None or cached_n is None:
            memory = None if get_worker_info() is None else self._memory.next_batch()
            return decode_items(read(items, self.inputs), len(items), self.inputs, info, memory)
        inputs = partial_inputs(self.inputs, self.cached_items.inputs)
        return decode_partly_cached(
            read(items[~cached_n], inputs.all),
            read(items[cached_n], inputs.of_cached),
            cached_n,
            inputs,
            info,
        )


def next_item_pairs(slots_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each training sequence as inputs and the items that follow them.

    Returns:
        Inputs and targets, both int64 [B, T - 1], -1 for padding.
    """
    inputs_BL = slots_BT[:, :-1].copy()
    targets_BL = slots_BT[:, 1:].copy()
    targets_BL[inputs_BL < 0] = -1  # the first item of a sequence follows nothing
    return inputs_BL, targets_BL


def _counts(slots: np.ndarray, plan: StepPlan) -> torch.Tensor:
    return torch.from_numpy(np.bincount(slots[slots >= 0], minlength=len(plan.items_U)))


def stream_steps(
    dataset: StepDataset, first: int, last: int, num_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Yield the batches of steps `first` ... `last` - 1, `num_workers` of them in flight.

    A worker that dies is replaced. Workers reuse the memory of a batch's media: its tensors are
    valid until the batch after the next is requested.

    Raises:
        RuntimeError: workers die again and again, or a batch cannot be built.
    """
    deaths, step = 0, first
    while step < last:
        try:
            for batch in workers_output(dataset, range(step, last), num_workers, pin_memory):
                deaths, step = 0, step + 1
                yield batch
        except WorkerDiedError as error:
            deaths += 1
            log_replacement(dataset.data.clock, f"at step {step}", deaths, error)


class WorkerDiedError(Exception):
    """A loader worker ended before its work was done."""


def workers_output(
    dataset: Dataset[T],
    sampler: Iterable[int] | None,
    num_workers: int,
    pin_memory: bool,
    prefetch_factor: int = 1,
) -> Iterator[T]:
    """Yield what loader workers make of a data set; none of them is left afterwards.

    Raises:
        WorkerDiedError: a worker ended; all have ended then.
        RuntimeError: a worker raised an error.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        multiprocessing_context="fork"
        if num_workers
        else None,  # workers share the data set's arrays
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
    )
    pause_before_fork()
    before = set(multiprocessing.active_children())
    try:
        batches = iter(loader)
        # torch's handler would raise anywhere in the main thread. Without it the loader notices a
        # death within seconds.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield from batches
    except ValueError as error:  # not of the command's input, and perhaps on one rank only
        raise RuntimeError(str(error)) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        # one that dies as it hands a batch over breaks the connection before the loader notices
        broke_off = num_workers > 0 and not isinstance(error, RuntimeError)
        if not (broke_off or str(error).startswith("DataLoader worker")):
            raise
        raise WorkerDiedError(str(error)) from error
    finally:
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()  # torch would wait for each of them, and they ignore its SIGTERM
            worker.join(KILLED_S)


def log_replacement(clock: DecodeClock, place: str, deaths: int, error: WorkerDiedError) -> None:
    """Log why workers are replaced.

    Raises:
        RuntimeError: they died too often without progress.
    """
    overdue = clock.find_overdue()
    if overdue:
        log.warning("%s: the decoding of items %s took too long; they are left out", place, overdue)
    elif deaths == WORKER_DEATHS:
        raise RuntimeError(
            f"{place}: loader workers died {deaths} times in a row, last with: {error}"
        ) from error
    else:
        log.warning("a loader worker died %s and is replaced: %s", place, error)


def start_worker(worker: int) -> None:
    """Prepare a loader worker: it has one thread and ends with its parent.

    It ignores stop signals: the last steps of a run that stops need it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    allow_time_limit()
    # a batch that cannot be handed over would be lost, and waited for without end
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_worker(error: BaseException, batch: object) -> None:
    say(f"a loader worker cannot hand over a batch: {error}", error=True, flush=True)
    os._exit(1)
