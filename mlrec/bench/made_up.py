"""What the benches run on beside stored media: media in memory, and sequences where no data set is given."""

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

DIFFERENT = 64
"""Media that differ; items share them in turn, for a catalogue's would not fit in memory."""
USERS, ITEMS = 50_000, 19_220
"""Of the made-up sequences: MicroLens-50K's."""
MEAN_LENGTH = 7.2
POPULARITY_SCALE = 1.4
"""Standard deviation of the logarithm of an item's popularity: MicroLens-50K's 2.6 slots per distinct item at 480 users."""


def data_of(config: DataConfig) -> Data:
    """The data set at data.url; without one, made-up sequences of MicroLens-50K's size and no media.

    Raises:
        ValueError: there is no data set at data.url.
    """
    return open_data(config) if config.url else _made_up(config)


def _made_up(config: DataConfig) -> Data:
    rng, split = np.random.default_rng(0), SplitInfo()
    lengths = (
        split.min_interactions
        + rng.geometric(1 / (MEAN_LENGTH - split.min_interactions + 1), size=USERS)
        - 1
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.exp(POPULARITY_SCALE * rng.standard_normal(ITEMS))
    items = (1 + rng.choice(ITEMS, size=int(offsets[-1]), p=weights / weights.sum())).astype(
        np.int32
    )
    sequences = SequenceTable(items, offsets, np.arange(USERS), split)
    train = sequences.train(np.arange(USERS))
    popularity = np.bincount(train[train > 0], minlength=ITEMS + 1)[1:]
    columns = {
        "item": np.arange(1, ITEMS + 1),
        "raw_id": [str(item) for item in range(1, ITEMS + 1)],
        "title": [""] * ITEMS,
        "popularity": popularity,
        "likes": np.zeros(ITEMS, dtype=np.int64),
        "views": np.zeros(ITEMS, dtype=np.int64),
        "status": ["ok"] * ITEMS,
        "shard": np.full(ITEMS, -1),
        "members": [[]] * ITEMS,
    }
    catalogue = Catalogue(pa.table(columns, schema=CATALOGUE_SCHEMA))
    counts = {"users": USERS, "items": ITEMS, "interactions": len(items)}
    info = DatasetInfo("made-up sequences", counts, MediaInfo("none"), split, files=())
    cache_dir = Path(config.cache_dir).expanduser()
    return Data(
        config, "", info, catalogue, sequences, ItemStore("", info, catalogue, cache_dir, 0)
    )


class MediaPool:
    """Made-up media of any item, as the stream delivers them; of item 0, padding, zeros."""

    def __init__(
        self, specs: Sequence[InputSpec], device: torch.device | str = "cpu", floats: bool = False
    ) -> None:
        """
        Args:
            floats: bytes as float32, as MicroLens' trainer has them.
        """
        self._pools: dict[InputSpec, torch.Tensor] = {}
        for spec in specs:
            if spec.modality is not Modality.ID:
                media = random_media(spec, DIFFERENT)
                pool = torch.cat([torch.zeros_like(media[:1]), media])
                self._pools[spec] = (
                    pool.float() if floats and pool.dtype is torch.uint8 else pool
                ).to(device)
        self._ids = tuple(spec for spec in specs if spec.modality is Modality.ID)

    def of(self, items_n: torch.Tensor) -> dict[InputSpec, torch.Tensor]:
        """The media of the items, int64 [n]."""
        rows = torch.where(items_n > 0, 1 + items_n % DIFFERENT, 0)
        return {spec: pool[rows] for spec, pool in self._pools.items()} | dict.fromkeys(
            self._ids, items_n
        )


class MadeUpSteps(StepDataset):
    """The steps of a plan with made-up media in the place of stored ones."""

    def __init__(
        self,
        data: Data,
        plan: Plan,
        rank: int,
        pool: MediaPool | None,
        local: bool,
        whole_catalogue: bool,
    ) -> None:
        """
        Args:
            pool: None to leave the media out.
            local: whether only the rank's own users give candidates.
        """
        super().__init__(data, plan, rank, (), local, whole_catalogue)
        self._pool = pool

    def load_media(self, items: np.ndarray, cached_n: np.ndarray | None) -> Decoded:
        media = {} if self._pool is None else self._pool.of(torch.from_numpy(items))
        return media, torch.ones(len(items), dtype=torch.bool), {}
