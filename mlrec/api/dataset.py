"""Packed data sets: items, frames, histories and batches.

Shape letters: N items of the data set, T frames, H W height and width (pixels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import get_worker_info

from mlrec.api.batches import Batch, epoch_batches
from mlrec.api.media import input_spec, read_item
from mlrec.api.settings import (
    Settings,
    as_overrides,
    as_place,
    check_number,
    check_raw_id,
    check_split,
    shown,
)
from mlrec.config import Config, TrainConfig, override
from mlrec.config.paths import with_absolute_paths
from mlrec.data.format import Split
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.runtime.printable import as_cell

_USERS_PER_READ = 1 << 14
"""Users whose histories are read at a time."""


def open(url: str | Path, settings: Settings | None = None) -> Dataset:
    """Open a packed data set at a folder or URL.

    Reads catalogue and histories now, and items when asked. The settings
    are those of the section data, such as {"data.cache_dir": "/scratch"}.

    Raises:
        ValueError: there is no data set, or none that this version reads.
        RuntimeError: the server cannot be reached.

    Example:
        >>> data = mlrec.open("s3://bucket/microlens-50k")
    """
    overrides = as_overrides(settings)
    for setting in overrides:
        if not setting.startswith("data."):
            raise ValueError(
                f"{setting} is not a setting of a data set. Pass keys of the section data, such as "
                "data.cache_dir; see: mlrec list keys"
            )
    config = override(Config(), [f"data.url={as_place('url', url)}", *overrides])
    return Dataset(open_data(with_absolute_paths(config).data))


class History(NamedTuple):
    """A user's history before a held-out item."""

    user: str
    """Raw id of the user."""
    items: list[str]
    """Raw ids, oldest first."""
    target: str
    """Raw id of the held-out item, which the user watched next."""


class Dataset:
    """A packed data set, as `mlrec.open` returns it. Items and users are named by their raw ids.

    Example:
        >>> data = mlrec.open("runs/quickstart/data")
        >>> history = data.history(data.users[0])
        >>> [data.title(item) for item in history]
    """

    def __init__(self, data: Data) -> None:
        """Hold what `mlrec.open` has opened."""
        self._data = data

    @property
    def url(self) -> str:
        """Folder or URL of the data set."""
        return self._data.url

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._data.info.name

    @cached_property
    def items(self) -> list[str]:
        """Raw ids of all N items, in the order of the catalogue."""
        raw_ids: list[str] = self._data.catalogue.table["raw_id"].to_pylist()
        return raw_ids

    @cached_property
    def users(self) -> list[str]:
        """Raw ids of all users."""
        sequences = self._data.sequences
        return [sequences.raw_user(user) for user in range(sequences.num_users)]

    @property
    def popularity(self) -> np.ndarray:
        """Training interactions of each item, int64 [N]; 0 for cold-start items."""
        return self._data.catalogue.popularity_N1[1:].copy()

    @property
    def packed(self) -> np.ndarray:
        """Whether each item was packed, bool [N]; others are neither trained on nor ranked."""
        return self._data.catalogue.ok_N1[1:].copy()

    def title(self, item: str) -> str:
        """Return the title of an item, "" if it has none.

        Raises:
            ValueError: the data set has no such item.
        """
        return self._data.catalogue.title(self._number_of(item))

    def frames(self, item: str, frames: int | None = None, size: int | None = None) -> np.ndarray:
        """Return frames of an item's video in the order of time, uint8 [T, H, W, 3], RGB.

        Args:
            item: raw id.
            frames: T, sampled evenly from the stored frames; None for all of them.
            size: H and W (pixels); None for the stored size.

        Raises:
            ValueError: the data set has no videos or no such item, the item cannot be read, or
                frames or size is below 1.

        Example:
            >>> plt.imshow(np.hstack(data.frames("17")))
        """
        spec = input_spec(self._data, "video", frames, size)
        return read_item(self._data, self._number_of(item), spec)

    def cover(self, item: str, size: int | None = None) -> np.ndarray:
        """Return the cover of an item, uint8 [H, W, 3], RGB; black for an item without one.

        Args:
            item: raw id.
            size: H and W (pixels); None for the stored size.

        Raises:
            ValueError: the data set has no covers or no such item, the item cannot be read, or size
                is below 1.
        """
        spec = input_spec(self._data, "cover", None, size)
        return read_item(self._data, self._number_of(item), spec)

    def history(self, user: str) -> list[str]:
        """Return the raw ids of everything that a user has watched, oldest first.

        Held-out items are included.

        Raises:
            ValueError: the data set has no such user.
        """
        check_raw_id("user", user)
        sequences = self._data.sequences
        number = sequences.number_of(user)
        # the look-up of the commands ignores spaces around an id
        if sequences.raw_user(number) != user:
            raise ValueError(f"{self.url} has no user {user!r}. Pass {user.strip()!r}")
        items = sequences.items_of(number)
        return [self.items[item - 1] for item in items.tolist()]

    def histories(self, split: Split = "test") -> Iterator[History]:
        """Return the users with a held-out item, with what they watched before it.

        These are the users whom `mlrec.evaluate` ranks, and the items that it excludes.

        Args:
            split: "test" or "validation".

        Raises:
            ValueError: there is no such split.

        Example:
            >>> user, items, target = next(data.histories("test"))
        """
        check_split(split)
        return self._histories(split)

    def _histories(self, split: Split) -> Iterator[History]:
        sequences = self._data.sequences
        users_V = sequences.evaluated_users(split)
        for start in range(0, len(users_V), _USERS_PER_READ):
            users_B = users_V[start : start + _USERS_PER_READ]
            seen_BS = sequences.seen(users_B, split)
            target_B = sequences.target(users_B, split)
            for user, seen_S, target in zip(users_B, seen_BS, target_B.tolist(), strict=True):
                # 0 pads the left
                items = [self.items[item - 1] for item in seen_S[seen_S > 0].tolist()]
                yield History(sequences.raw_user(user), items, self.items[target - 1])

    def batches(
        self,
        batch_size: int = TrainConfig.global_batch,
        *,
        epoch: int = 0,
        seed: int = Config.seed,
        media: Sequence[str] = (),
        frames: int | None = None,
        size: int | None = None,
    ) -> Iterator[Batch]:
        """Return the batches of one epoch, for a training loop of one's own.

        They are those of `mlrec.train` on one rank with the same train.global_batch and seed: every
        user with two or more training interactions once, in a seeded order, and each distinct item
        of a batch decoded once. data.num_workers loader processes decode the next batch meanwhile.

        Args:
            batch_size: most users of a batch; batches differ by at most one user.
            epoch: number of the epoch, from 0, each with an order of its own.
            seed: seed of the order.
            media: what to decode of the items: "video", "cover", "features/NAME".
            frames: T of a video; None for the stored frames.
            size: H and W (pixels) of videos and covers; None for the stored size.

        Raises:
            ValueError: the data set does not hold such media, or a number is out of range.
            RuntimeError: loader processes die again and again, or it is called in a worker of
                a DataLoader. While iterating, also if more than data.max_bad_items items could
                not be read.

        Example:
            >>> for epoch in range(10):
            ...     for batch in data.batches(256, epoch=epoch, media=("video",)):
            ...         loss = model(batch.to("cuda"))
        """
        check_number("batch_size", batch_size, 1)
        check_number("epoch", epoch, 0)
        check_number("seed", seed, 0)
        if get_worker_info() is not None:
            raise RuntimeError(
                "batches cannot run inside a loader worker, because it starts workers of its own. "
                "Iterate it in the main process"
            )
        if not isinstance(media, Iterable):
            raise TypeError(f"media is {shown(media)}. Pass a list of names, such as ['video']")
        names = (media,) if isinstance(media, str) else tuple(media)
        specs = {name: input_spec(self._data, name, frames, size) for name in names}
        owners = self._data.owners(batch_size, (1,))
        plan = Plan(self._data.sequences, seed, batch_size, owners)
        dataset = StepDataset(self._data, plan, 0, tuple(specs.values()), local_negatives=False)
        return epoch_batches(dataset, epoch, specs, self.items)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {raw_id: item for item, raw_id in enumerate(self.items, start=1)}

    def _number_of(self, item: str) -> int:
        check_raw_id("item", item)
        if item not in self._numbers:
            first = ", ".join(map(as_cell, self.items[:3]))
            raise ValueError(f"{self.url} has no item {item!r}. Its first items are {first}")
        return self._numbers[item]
