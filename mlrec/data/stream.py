"""Stream of steps: each loader worker plans, reads and decodes whole steps of this rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from mlrec.config import DataConfig
from mlrec.data.cache_folder import checked_cache_dir
from mlrec.data.cached_items import CachedItems, decode_partly_cached, partial_inputs
from mlrec.data.decode import Decoded, check_inputs, decode_items, members_of
from mlrec.data.decode_clock import DecodeClock
from mlrec.data.format import Catalogue, DatasetInfo, read_catalogue, read_dataset_info
from mlrec.data.item_store import ItemStore
from mlrec.data.open_sequences import open_sequences
from mlrec.data.ownership import Owners, owners_of
from mlrec.data.plan import Plan, StepPlan
from mlrec.data.samples import Sample
from mlrec.data.schema import Batch, InputSpec
from mlrec.data.sequences import SequenceTable
from mlrec.data.shared_buffers import BatchMemory, ReleasedMemory
from mlrec.data.workers import WorkerDiedError, log_replacement, workers_output


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
        return owners_of(
            self.config, self.catalogue, self.sequences.num_train_users, global_batch, nodes
        )


def open_data(config: DataConfig) -> Data:
    """Open the data set of `config`.

    Raises:
        ValueError: there is none at data.url, or not one that this version reads.
    """
    if not config.url:
        raise ValueError(
            "data.url is not set; give the URL of a packed data set, for example data.url=s3://bucket/microlens-50k"
        )
    # On every rank. The first process of a node makes the sequence table, the others wait for it.
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
        # Encoders with equal inputs share one tensor.
        self.inputs = tuple(dict.fromkeys(inputs))
        self.local_negatives = local_negatives
        self.items_N = np.flatnonzero(data.catalogue.ok_N1) if whole_catalogue else None
        self.cached_items = cached_items
        self._shared_memory = BatchMemory()
        self._own_memory = ReleasedMemory()
        popularity = data.catalogue.popularity_N1
        # Items without training interactions get a logarithm of -inf; they are no candidates.
        with np.errstate(divide="ignore"):
            self.log_p_N1 = np.log(popularity / popularity.sum()).astype(np.float32)

    def __getitem__(self, step: int) -> Batch:
        """Plan a step, load the media of this rank's items, and return this rank's batch.

        Runs in a loader worker. Every rank plans the same step, without communication.
        """
        # 1. Plan: the users and items of the global batch, and this rank's parts of them.
        plan = self.plan.step(step, self.items_N)
        own_users = plan.users_of(self.rank)
        own_items = plan.items_U[plan.items_of(self.rank)]
        # 2. Load the media of the items that this rank owns.
        store = self.data.store
        bytes_before = store.bytes_read
        local_before = store.local_bytes
        # One copy of the shared table for the batch: the tower may set more entries meanwhile.
        cached_O = self.cached_items.cached_N1[own_items] if self.cached_items else None
        decoded = self.load_media(own_items, cached_O)
        # 3. Cut the sequences into inputs and targets, as positions in items_U.
        slots_BT = plan.slots_GT[own_users]
        pairs = next_item_pairs(slots_BT)
        candidate_slots = slots_BT if self.local_negatives else plan.slots_GT
        # Targets of all ranks: their sum divides the loss, so it must not depend on the rank.
        global_targets = next_item_pairs(plan.slots_GT).targets_BL
        return Batch(
            step=step,
            users_B=torch.from_numpy(plan.users_G[own_users]),
            items_U=torch.from_numpy(plan.items_U),
            count_U=_counts(candidate_slots, plan),
            targets_U=_counts(global_targets, plan),
            log_p_U=torch.from_numpy(self.log_p_N1[plan.items_U]),
            owned_W=plan.owned_W,
            items_O=torch.from_numpy(own_items),
            media=decoded.media,
            valid_O=decoded.valid_n,
            inputs_BL=torch.from_numpy(pairs.inputs_BL),
            targets_BL=torch.from_numpy(pairs.targets_BL),
            bad_items=decoded.bad_items,
            bytes_read=store.bytes_read - bytes_before,
            local_bytes=store.local_bytes - local_before,
            remote_bytes=store.take_remote_bytes(),
            cached_O=None if cached_O is None else torch.from_numpy(cached_O),
        )

    def load_media(self, items: np.ndarray, cached_n: np.ndarray | None) -> Decoded:
        """Read and decode the media of this rank's items, except those that `cached_n` marks."""
        info = self.data.info.media

        def read(items: np.ndarray, inputs: Sequence[InputSpec]) -> Iterator[Sample]:
            samples = self.data.store.read_many(items.tolist(), members_of(inputs, info))
            return self.data.clock.timed(samples)

        if self.cached_items is None or cached_n is None:
            samples = read(items, self.inputs)
            if get_worker_info() is None:
                # Nothing to share. A caller may hold on to any batch.
                return decode_items(samples, len(items), self.inputs, info, self._own_memory)
            memory = self._shared_memory.next_batch()
            return decode_items(samples, len(items), self.inputs, info, memory)
        inputs = partial_inputs(self.inputs, self.cached_items.inputs)
        return decode_partly_cached(
            read(items[~cached_n], inputs.all),
            read(items[cached_n], inputs.of_cached),
            cached_n,
            inputs,
            info,
        )


class NextItemPairs(NamedTuple):
    """Training sequences as inputs and the items that follow them."""

    inputs_BL: np.ndarray
    """int64 [B, T - 1]: positions of the input items, -1 for padding."""
    targets_BL: np.ndarray
    """int64 [B, T - 1]: positions of the items that follow, -1 for padding."""


def next_item_pairs(slots_BT: np.ndarray) -> NextItemPairs:
    """Return each training sequence, int64 [B, T], as inputs and the items that follow them."""
    # Invariant: targets_BL[b, l] follows inputs_BL[b, l] in the sequence of user b, or is padding.
    inputs_BL = slots_BT[:, :-1].copy()
    targets_BL = slots_BT[:, 1:].copy()
    # Sequences are right-aligned: after padding comes the first item, which follows nothing.
    targets_BL[inputs_BL < 0] = -1
    return NextItemPairs(inputs_BL, targets_BL)


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
    deaths = 0
    step = first
    while step < last:
        try:
            for batch in workers_output(dataset, range(step, last), num_workers, pin_memory):
                # Counted before the yield: if a worker dies now, the next pass starts after it.
                deaths = 0
                step += 1
                yield batch
        except WorkerDiedError as error:
            deaths += 1
            log_replacement(dataset.data.clock, f"at step {step}", deaths, error)
