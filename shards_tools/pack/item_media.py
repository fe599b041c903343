"""The media of a data set's items: which raw files each item is packed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mlrec.data.format import MediaInfo
from mlrec.runtime.printable import counted
from shards_tools.pack.settings import Settings
from shards_tools.raw.folder import RawFolder
from shards_tools.raw.media.files import Media
from shards_tools.raw.media.raw_file import RawFile


class ItemFiles(NamedTuple):
    """The raw files of one item."""

    video: RawFile | None
    frames: tuple[RawFile, ...]
    """Images that stand for the video, in their order; empty for an item with a video."""
    cover: RawFile | None
    audio: RawFile | None


@dataclass(frozen=True)
class ItemMedia:
    """The raw files of all items."""

    info: MediaInfo
    media: Media
    sources: list[str]
    """What was recognized, and which files are not used, a line each."""
    remarks: list[str]
    """What was guessed or left out, a sentence each."""

    def files(self, raw_id: str) -> ItemFiles:
        """Return the files of an item."""
        video = self.media.file("videos", raw_id)
        frames: tuple[RawFile, ...] = ()
        if video is None and self.info.kind == "frames":
            frames = tuple(self.media.files["frames"].get(raw_id, ()))
        cover = self.media.file("covers", raw_id)
        return ItemFiles(video, frames, cover, self.media.file("audio", raw_id))


def find_item_media(
    raw: RawFolder, settings: Settings, raw_ids: list[str], features: dict[str, int]
) -> ItemMedia:
    """Return the media of the items with these raw ids.

    Args:
        features: Width of each feature that is packed.

    Raises:
        ValueError: an archive cannot be read, files of a kind are there and match no item, or clips
            cannot be made of what is there.
    """
    media = raw.find_media(raw_ids, settings.parts)
    videos = media.files["videos"]
    frames = media.files["frames"]
    if settings.media == "clip" and frames and not videos:
        raise ValueError(
            f"--media clip needs videos, and {raw.root} holds frames only. "
            "Leave --media clip out, or add the videos"
        )
    info = MediaInfo(
        kind=settings.media if videos or frames else "none",
        policy=settings.policy,
        title_weights=settings.title_weights,
        frames=settings.frames,
        interval=settings.interval,
        size=settings.size,
        has_cover=bool(media.files["covers"]),
        has_audio=bool(media.files["audio"]),
        features=features,
    )
    remarks = media.report.remarks()
    if videos and frames:
        remarks.append(_choice_of_frames(len(videos), len(frames.keys() - videos.keys()), settings))
    return ItemMedia(info, media, media.report.sources(), remarks)


def _choice_of_frames(num_videos: int, num_without_video: int, settings: Settings) -> str:
    """Return the remark about items with frames, where others have videos."""
    if not num_without_video:
        return "the frames are not packed, because all their items have videos"
    items = counted(num_without_video, "item")
    if settings.media == "clip":
        return f"{items} without a video have frames, which are not packed with --media clip"
    return f"{counted(num_videos, 'item')} packed from videos, and {items} from frames"
