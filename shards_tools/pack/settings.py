"""The settings that the bytes of a data set depend on, besides the raw folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlrec.data.format import SplitInfo
from mlrec.data.format.dataset_info import MAX_FRAMES, MAX_INTERVAL, MAX_NAME_CHARACTERS, MAX_SIZE
from mlrec.data.media.policies import COUNT_POLICIES, FRAME_POLICIES
from mlrec.storage.typed_json import STRICT
from shards_tools.raw.cut_offs import CutOffs, check_cut_off
from shards_tools.raw.media.names import KIND_OF_PART, Part
from shards_tools.raw.pairs.repeats import Repeats

OPTIONAL_PARTS = (*KIND_OF_PART, "titles")
"""Parts of a raw folder that --without leaves out."""
MIN_SIZE_PX = 16
"""Smallest height and width."""


@dataclass(frozen=True)
class Settings:
    """Settings of a packing."""

    __pydantic_config__ = STRICT

    name: str = ""
    """Name of the data set; "" takes that of the raw files."""
    media: Literal["frames", "clip"] = "frames"
    """JPEG frames or an MP4 clip per video."""
    policy: str = "middle"
    """Which frames of a video are packed, a key of FRAME_POLICIES."""
    feature_digests: str = ""
    """SHA-256 of each file of features, as NAME=SHA256 joined by commas; "" without features."""
    title_weights: str = ""
    """SHA-256 of the CLIP weights of policy title; "" with other policies."""
    frames: int = 5
    """Frames per video."""
    interval: int = 1
    """Source frames from one packed frame to the next, with policy middle."""
    size: int = 224
    """Height and width of frames, clips and covers in pixels."""
    quality: int = 90
    """JPEG quality, from 1 to 100."""
    items_per_shard: int = 1024
    users_per_shard: int = 1 << 18
    keep_last: int = 13
    """Most recent interactions of each user that training and evaluation use."""
    min_interactions: int = 5
    """Least number of interactions; users with fewer are left out."""
    min_item_interactions: int = 1
    """Least number of an item's interactions; items with fewer are left out."""
    repeats: Repeats = "keep"
    """Which of a user's interactions with one item stay: all, the first or the last."""
    split: Literal["leave_one_out", "time"] = "leave_one_out"
    validation_from: str = ""
    """First cut-off of a split by time: an ISO date or a number; "" for 80 % of interactions."""
    test_from: str = ""
    """Second cut-off of a split by time; "" for 90 % of interactions."""
    without: str = ""
    """Parts that are left out, of OPTIONAL_PARTS, with commas between them, sorted."""

    def __post_init__(self) -> None:
        # messages name the flag, because the command line is where these values come from
        at_least_one = ("frames", "interval", "items_per_shard", "users_per_shard")
        for key in (*at_least_one, "min_item_interactions"):
            if getattr(self, key) < 1:
                raise ValueError(f"{_flag(key)} is {getattr(self, key)}; it must be 1 or more")
        for key, most in (("frames", MAX_FRAMES), ("interval", MAX_INTERVAL)):
            if getattr(self, key) > most:
                raise ValueError(f"{_flag(key)} is {getattr(self, key)}; it must be {most} or less")
        # H.264 stores chroma at half the resolution
        if not MIN_SIZE_PX <= self.size <= MAX_SIZE or self.size % 2:
            raise ValueError(
                f"--size is {self.size}; it must be even (H.264 takes no other), "
                f"{MIN_SIZE_PX} or more and {MAX_SIZE} or less"
            )
        if len(self.name) > MAX_NAME_CHARACTERS:
            raise ValueError(
                f"--name has {len(self.name)} characters; "
                f"it must have {MAX_NAME_CHARACTERS} or less"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality is {self.quality}; JPEG's goes from 1 to 100")
        if self.policy not in FRAME_POLICIES:
            raise ValueError(f"--policy is {self.policy!r}; choose {', '.join(FRAME_POLICIES)}")
        if self.media == "clip" and self.policy not in COUNT_POLICIES:
            raise ValueError(
                f"--policy {self.policy} cannot be combined with --media clip. The frames of a "
                "clip are chosen each time it is read, and this policy decodes the whole video. "
                f"Use --media frames, or --policy {' or '.join(COUNT_POLICIES)}"
            )
        if self.policy == "title" and not self.title_weights:
            raise ValueError(
                "--policy title compares frames with titles by a CLIP model. "
                "Give its folder with --title-checkpoint FOLDER"
            )
        # sorted, so that a stopped packing continues whatever order the parts are named in
        if self.without != sorted_parts(self.without):
            raise ValueError(f"--without is {self.without!r}, whose parts are not sorted")
        self._check_split()

    @property
    def parts(self) -> frozenset[Part]:
        """The parts of media that are packed."""
        return frozenset(KIND_OF_PART) - frozenset(self.without.split(","))

    def _check_split(self) -> None:
        for key in ("validation_from", "test_from"):
            value = getattr(self, key)
            if value and self.split != "time":
                raise ValueError(
                    f"{_flag(key)} {value} is a cut-off of a split by time. Add --split time"
                )
            if value:
                check_cut_off(_flag(key), value)
        # Training would see from what it lacks that a user watches the item again later.
        if self.split == "time" and self.repeats == "last":
            raise ValueError(
                "--repeats last takes earlier interactions out of training because of later ones, "
                "which --split time must not. Use --repeats first or keep"
            )
        # SplitInfo checks its own bounds. Cut-offs are compared with the times later.
        if self.split == "time":
            self.split_info(CutOffs(0, 1, "unknown"))
        else:
            self.split_info(None)

    def split_info(self, cut_offs: CutOffs | None) -> SplitInfo:
        """Return the split that counts and popularity follow.

        Args:
            cut_offs: of a split by time; None for leave-one-out.

        Raises:
            ValueError: the numbers do not fit each other.
        """
        try:
            if cut_offs is None:
                return SplitInfo(self.keep_last, self.min_interactions)
            return SplitInfo(self.keep_last, self.min_interactions, "time", *cut_offs)
        except ValueError as error:
            message = str(error)
            for key in ("keep_last", "min_interactions"):
                message = message.replace(key, _flag(key))
            raise ValueError(message) from error


def sorted_parts(text: str) -> str:
    """Return the parts of --without, sorted.

    Raises:
        ValueError: one is unknown.
    """
    parts = {part.strip() for part in text.split(",") if part.strip()}
    for part in parts:
        if part not in OPTIONAL_PARTS:
            raise ValueError(
                f"--without has {part!r}; choose from {', '.join(OPTIONAL_PARTS)}, "
                "with commas between them"
            )
    return ",".join(sorted(parts))


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")
