"""What decides the bytes of a data set, beside the raw folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlrec.data.format import SplitInfo
from mlrec.data.format.dataset_info import MAX_FRAMES, MAX_INTERVAL, MAX_NAME_CHARACTERS, MAX_SIZE
from mlrec.data.media.frames import FRAME_POLICIES
from mlrec.storage.typed_json import STRICT


@dataclass(frozen=True)
class Settings:
    """Everything beside the raw folder that a byte of the data set depends on."""

    __pydantic_config__ = STRICT

    name: str = ""
    """Empty for the name of the raw files."""
    media: Literal["frames", "clip"] = "frames"
    policy: str = "middle"
    frames: int = 5
    interval: int = 1
    size: int = 224
    quality: int = 90
    items_per_shard: int = 1024
    users_per_shard: int = 1 << 18
    keep_last: int = 13
    min_interactions: int = 5

    def __post_init__(self) -> None:
        for key in ("frames", "interval", "items_per_shard", "users_per_shard"):
            if getattr(self, key) < 1:
                raise ValueError(f"{_flag(key)} is {getattr(self, key)}; it must be 1 or more")
        for key, most in (("frames", MAX_FRAMES), ("interval", MAX_INTERVAL)):
            if getattr(self, key) > most:
                raise ValueError(f"{_flag(key)} is {getattr(self, key)}; it must be {most} or less")
        if not 16 <= self.size <= MAX_SIZE or self.size % 2:
            raise ValueError(
                f"--size is {self.size}; it must be even (H.264 takes no other), 16 or more and {MAX_SIZE} or less"
            )
        if len(self.name) > MAX_NAME_CHARACTERS:
            raise ValueError(
                f"--name has {len(self.name)} characters; it must have {MAX_NAME_CHARACTERS} or less"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality is {self.quality}; JPEG's goes from 1 to 100")
        if self.policy not in FRAME_POLICIES:
            raise ValueError(f"--policy is {self.policy!r}; there are {', '.join(FRAME_POLICIES)}")
        SplitInfo(self.keep_last, self.min_interactions)

    @property
    def split(self) -> SplitInfo:
        """The split that the counts and popularities follow."""
        return SplitInfo(self.keep_last, self.min_interactions)


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")
