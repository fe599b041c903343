"""What a run reads and encodes, from dataset.json alone, or from the plan of its steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.data.decode import check_inputs, members_of
from mlrec.data.features.join import ItemIds
from mlrec.data.features.stored import StoredFeatures
from mlrec.data.format import AUDIO_RATE, DatasetInfo, MediaInfo, SplitInfo, read_dataset_info
from mlrec.data.samples import stored
from mlrec.data.schema import InputSpec
from mlrec.models.formulas import distinct_items, most_items
from mlrec.runtime.printable import counted

MICROLENS_50K = {"users": 50_000, "items": 19_220, "interactions": 359_708, "train": 239_511}
"""Counts that a plan without a data set assumes."""
FRAME_BYTES_PER_PIXEL = 0.25
"""Size of a JPEG frame that a plan assumes (bytes per pixel)."""
CLIP_PICTURES = 30
"""Size of a whole clip that a plan assumes, as a multiple of a JPEG frame's."""
AUDIO_SECONDS = 10
"""Length of a sound track that a plan assumes. FLAC takes about a byte per sample."""
TAR_BLOCK = 512
"""Size of a member's header in a shard, and the multiple to which its content is padded."""


@dataclass(frozen=True)
class DatasetCounts:
    """Counts of a data set, as dataset.json has them."""

    name: str
    users: int
    items: int
    interactions: int
    train: int
    """Training interactions."""
    split: SplitInfo
    media: MediaInfo | None
    """Media of the items; None if they are assumed to be those that the encoders read."""
    shard_bytes: int
    """Size of the item shards; 0 without a data set."""
    assumption: str = ""
    """What is assumed of the data set, as a clause; empty if there is one."""

    @property
    def mean_length(self) -> float:
        """Mean training interactions of a user."""
        return min(self.train / self.users, float(self.split.train_length))

    def check_inputs(self, specs: tuple[InputSpec, ...], url: str) -> None:
        """Check that the data set holds what the encoders read.

        Raises:
            ValueError: it does not.
        """
        if self.media is not None:
            check_inputs(specs, self.media, url)

    def item_ids(self) -> ItemIds:
        """Return the items as far as encoders of shapes alone ask for them."""
        features = {}
        for name, width in (self.media.features if self.media else {}).items():
            features[name] = StoredFeatures(width, 0, _unreadable)
        return ItemIds(pa.nulls(0, pa.string()), self.name, "", features=features)


def _unreadable() -> np.ndarray:
    raise AssertionError("a plan reads no vectors")


def counts_of(config: Config) -> DatasetCounts:
    """Return the counts of the data set at data.url, or those of MicroLens-50K without one.

    Raises:
        ValueError: there is no data set at data.url, or it has nothing to train on.
    """
    if not config.data.url:
        return DatasetCounts(
            name="made-up sequences",
            **MICROLENS_50K,
            split=SplitInfo(),
            media=None,
            shard_bytes=0,
            assumption="data.url is not set, so counts are those of MicroLens-50K",
        )
    counts = counts_in(read_dataset_info(config.data.url))
    if counts.train < 2:
        raise ValueError(
            f"{config.data.url} has {counted(counts.train, 'training interaction')} of "
            f"{counted(counts.users, 'user')}. No user has two, so there is nothing to train on. "
            "Pack a data set with more interactions before its validation and test targets"
        )
    return counts


def counts_in(info: DatasetInfo) -> DatasetCounts:
    """Return the counts of a data set."""
    counts = info.counts
    return DatasetCounts(
        name=info.name,
        users=counts["users"],
        items=counts["items"],
        interactions=counts["interactions"],
        train=counts["train"],
        split=info.split,
        media=info.media,
        shard_bytes=sum(shard.size for shard in info.shards("items")),
    )


@dataclass(frozen=True)
class Workload:
    """What the steps of a run encode and read."""

    users_per_step: float
    """Mean users of a step, of all ranks."""
    steps_per_epoch: int
    total_steps: int
    items_per_step: float
    """Mean distinct items of a step, of all ranks."""
    most_items: int
    """Distinct items of the largest step."""
    bytes_per_step: float
    """Mean size of the media that all ranks read in a step, without an activation cache."""
    catalogue: int
    """Items that a validation ranks."""
    whole_catalogue: bool = False
    """Whether every step has all items."""

    def most_items_of_rank(self, ranks: int) -> int:
        """Return the most items that a rank encodes in a step, which the ranks share equally."""
        return max(1, -(-self.most_items // ranks))

    def items_in_words(self) -> str:
        """Return the distinct items of a planned step, and where the figure comes from."""
        if self.whole_catalogue:
            return f"all {self.catalogue:,} items"
        return (
            f"about {self.items_per_step:,.0f} distinct items, expected of a log-normal popularity"
        )

    @property
    def epochs(self) -> float:
        """Epochs of the run."""
        return self.total_steps / self.steps_per_epoch


def expected_workload(
    config: Config,
    counts: DatasetCounts,
    specs: tuple[InputSpec, ...],
    ranks: int,
    whole_catalogue: bool,
) -> Workload:
    """Return what the steps of a run encode and read, from the data set's counts.

    Args:
        whole_catalogue: whether every step has all items.

    Raises:
        ValueError: a step has fewer users than there are ranks.
    """
    if counts.users < ranks:
        raise ValueError(
            f"{counts.name} has {counted(counts.users, 'user')}, fewer than the {ranks:,} GPUs. "
            f"Take at most {counted(counts.users, 'GPU')}"
        )
    steps_per_epoch = -(-counts.users // config.train.global_batch)
    users_per_step = counts.users / steps_per_epoch
    if users_per_step < ranks:
        raise ValueError(
            f"train.global_batch is {config.train.global_batch}, which gives steps of "
            f"{users_per_step:,.0f} users, fewer than the {ranks:,} ranks. Raise it, or take "
            "fewer GPUs"
        )
    items = float(counts.items)
    most = counts.items
    if not whole_catalogue:
        items = distinct_items(users_per_step * counts.mean_length, counts.items)
        most = most_items(items, counts.items)
    return Workload(
        users_per_step=users_per_step,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_of(config.train.duration, steps_per_epoch, 0),
        items_per_step=items,
        most_items=most,
        bytes_per_step=items * _stored_bytes(counts, specs),
        catalogue=counts.items,
        whole_catalogue=whole_catalogue,
    )


def _stored_bytes(counts: DatasetCounts, specs: tuple[InputSpec, ...]) -> float:
    """Return the mean size of what is read of an item (bytes): the members that the inputs need.

    dataset.json has the size of all shards alone. Members share it by their expected sizes.
    """
    if counts.media is None:
        frames = (spec.frames * spec.size**2 for spec in dict.fromkeys(specs))
        return FRAME_BYTES_PER_PIXEL * sum(frames)
    names = stored(members_of(specs, counts.media))
    expected = _expected_members(counts.media)
    # Each sample has a title and a record, which take one block besides their header.
    overhead = 2 * 2 * TAR_BLOCK + len(expected) * 1.5 * TAR_BLOCK
    content = max(0.0, counts.shard_bytes / counts.items - overhead)
    share = sum(expected.get(name, 0.0) for name in names) / max(1.0, sum(expected.values()))
    return share * content


def _expected_members(media: MediaInfo) -> dict[str, float]:
    """Return the expected sizes of a sample's members, but for texts (bytes)."""
    picture = FRAME_BYTES_PER_PIXEL * media.size**2
    expected = {f"{name}.npy": 4.0 * width for name, width in media.features.items()}
    if media.kind == "clip":
        expected["mp4"] = CLIP_PICTURES * picture
    elif media.kind == "frames":
        expected |= {f"{frame}.jpg": picture for frame in range(media.frames)}
    if media.has_cover:
        expected["cover.jpg"] = picture
    if media.has_audio:
        expected["flac"] = AUDIO_SECONDS * AUDIO_RATE
    return expected
