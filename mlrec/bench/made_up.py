"""Inputs of benchmarks that read no stored media.

Media are random and in memory. Sequences come from the data set, or are random without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mlrec.config import DataConfig
from mlrec.data.decode import Decoded
from mlrec.data.format import CATALOGUE_SCHEMA, Catalogue, DatasetInfo, MediaInfo, SplitInfo
from mlrec.data.item_store import ItemStore
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.sequences import SequenceTable
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.models.random_media import random_media

DISTINCT_MEDIA = 64
"""Number of distinct media. Items share them, because those of a catalogue do not fit in memory."""
NUM_USERS = 50_000
"""Users of the made-up sequences, as in MicroLens-50K."""
NUM_ITEMS = 19_220
"""Items of the made-up sequences, as in MicroLens-50K."""
MEAN_LENGTH = 7.2
"""Mean interactions of a user, as in MicroLens-50K."""
POPULARITY_SCALE = 1.4
"""Standard deviation of the logarithm of an item's popularity.

It gives 2.6 slots per distinct item at 480 users, as in MicroLens-50K.
"""


def data_of(config: DataConfig) -> Data:
    """Return the data set at data.url, or made-up sequences without media if there is no URL.

    Raises:
        ValueError: there is no data set at data.url.
    """
    return open_data(config) if config.url else _made_up(config)


def _made_up(config: DataConfig) -> Data:
    split = SplitInfo()
    sequences = _made_up_sequences(split)
    catalogue = _made_up_catalogue(sequences)
    counts = {"users": NUM_USERS, "items": NUM_ITEMS, "interactions": len(sequences.items)}
    info = DatasetInfo("made-up sequences", counts, MediaInfo("none"), split, files=())
    cache_dir = Path(config.cache_dir).expanduser()
    store = ItemStore("", info, catalogue, cache_dir, 0)
    return Data(config, "", info, catalogue, sequences, store)


def _made_up_sequences(split: SplitInfo) -> SequenceTable:
    """Return random sequences, the same on every rank and in every process."""
    rng = np.random.default_rng(0)
    # A geometric number is at least 1, so that nobody has fewer than min_interactions.
    mean_extra = MEAN_LENGTH - split.min_interactions + 1
    lengths = split.min_interactions + rng.geometric(1 / mean_extra, size=NUM_USERS) - 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.exp(POPULARITY_SCALE * rng.standard_normal(NUM_ITEMS))
    rows = rng.choice(NUM_ITEMS, size=int(offsets[-1]), p=weights / weights.sum())
    items = (1 + rows).astype(np.int32)  # item 0 is padding
    return SequenceTable(items, offsets, np.arange(NUM_USERS), split)


def _made_up_catalogue(sequences: SequenceTable) -> Catalogue:
    train_items = sequences.train(np.arange(NUM_USERS))
    # Popularity counts training slots alone, as the packer does. Row 0 counts padding.
    popularity = np.bincount(train_items[train_items > 0], minlength=NUM_ITEMS + 1)[1:]
    item_ids = np.arange(1, NUM_ITEMS + 1)
    columns = {
        "item": item_ids,
        "raw_id": list(map(str, item_ids)),
        "title": [""] * NUM_ITEMS,
        "popularity": popularity,
        "likes": np.zeros(NUM_ITEMS, dtype=np.int64),
        "views": np.zeros(NUM_ITEMS, dtype=np.int64),
        "status": ["ok"] * NUM_ITEMS,
        "shard": np.full(NUM_ITEMS, -1),
        "members": [[]] * NUM_ITEMS,
    }
    return Catalogue(pa.table(columns, schema=CATALOGUE_SCHEMA))


class MediaPool:
    """Made-up media of any item in the stream's form; padding (item 0) has zeros."""

    def __init__(
        self, specs: Sequence[InputSpec], device: torch.device | str = "cpu", floats: bool = False
    ) -> None:
        """Draw the media of the inputs.

        Args:
            floats: return frames as float32 instead of bytes, as MicroLens' trainer has them.
        """
        self.specs = tuple(dict.fromkeys(specs))
        self._pools: dict[InputSpec, torch.Tensor] = {}
        self._id_specs: list[InputSpec] = []
        for spec in specs:
            if spec.modality is Modality.ID:
                self._id_specs.append(spec)
                continue
            media = random_media(spec, DISTINCT_MEDIA)
            padding = torch.zeros_like(media[:1])
            pool = torch.cat([padding, media])
            if floats and pool.dtype is torch.uint8:
                pool = pool.float()
            self._pools[spec] = pool.to(device)

    def of(self, items_n: torch.Tensor) -> dict[InputSpec, torch.Tensor]:
        """Return the media of the items, int64 [n], by input."""
        # Row 0 of a pool is padding; the media follow.
        rows_n = torch.where(items_n > 0, 1 + items_n % DISTINCT_MEDIA, 0)
        media = {spec: pool[rows_n] for spec, pool in self._pools.items()}
        # The input of an id encoder is the item's number itself.
        return media | dict.fromkeys(self._id_specs, items_n)


class MadeUpSteps(StepDataset):
    """Steps of a plan with made-up media instead of stored ones."""

    def __init__(
        self,
        data: Data,
        plan: Plan,
        rank: int,
        pool: MediaPool | None,
        local: bool,
        whole_catalogue: bool,
    ) -> None:
        """Build the steps of a rank.

        Args:
            pool: source of the media; None leaves them out.
            local: take candidates only from the rank's own users.
        """
        super().__init__(data, plan, rank, (), local, whole_catalogue)
        self._pool = pool
        if pool is not None:
            self.inputs = pool.specs

    def load_media(
        self, items: np.ndarray, cached_n: np.ndarray, media: dict[InputSpec, torch.Tensor]
    ) -> Decoded:
        """Copy made-up media of the items to `media`."""
        if self._pool is not None:
            for spec, tensor in self._pool.of(torch.from_numpy(items)).items():
                media[spec].copy_(tensor)
        return Decoded(media, torch.ones(len(items), dtype=torch.bool), {})
