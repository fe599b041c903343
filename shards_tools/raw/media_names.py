"""Names of media files: what kind of file it is, and which item it belongs to."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from shards_tools.raw.ids import IdMatcher

Part = Literal["videos", "frames", "covers", "audio"]
Kind = Literal["video", "image", "audio"]
Place = Literal["videos", "frames", "covers", "images", "audio"]
"""What a folder holds by its name; images may be frames or covers."""

KIND_OF_PART: dict[Part, Kind] = {
    "videos": "video",
    "frames": "image",
    "covers": "image",
    "audio": "audio",
}
"""Kind of the files of each part."""
PLACE_OF_WORD: dict[str, Place] = {
    "frame": "frames",
    "cover": "covers",
    "thumb": "covers",
    "image": "images",
    "audio": "audio",
    "sound": "audio",
    "video": "videos",
}
"""What a folder or archive holds by a word in its name, in any case.

The first word counts: video_frames are frames.
"""

VIDEO_SUFFIXES = "mp4 m4v mov mkv webm avi flv wmv asf mpg mpeg ts mts m2ts 3gp ogv vob h264 hevc"
IMAGE_SUFFIXES = "jpg jpeg jfif png webp gif bmp tif tiff avif jp2 heic"
AUDIO_SUFFIXES = "wav mp3 flac m4a aac ogg oga opus wma aiff aif"
KIND_OF_SUFFIX: dict[str, Kind] = {
    **dict.fromkeys(VIDEO_SUFFIXES.split(), "video"),
    **dict.fromkeys(IMAGE_SUFFIXES.split(), "image"),
    **dict.fromkeys(AUDIO_SUFFIXES.split(), "audio"),
}
"""Kind of a media file by its suffix."""
MOVING_IMAGES = ("gif", "png", "webp", "avif")
"""Suffixes of images that may be animated, and are videos in a folder of videos."""
OTHER_SUFFIXES = """
    json jsonl txt csv tsv srt vtt ass lrc xml nfo md html htm log py sh yaml yml url
    part tmp crdownload ytdl aria2 md5 sha1 sha256 db ini lnk
    npy npz pt pth pkl pickle h5 hdf5 safetensors parquet lmdb mdb inter item
    zip rar 7z tar tgz gz bz2 xz zst
"""
"""Suffixes of files that are no media in any folder, such as subtitles beside a video."""
NO_MEDIA = frozenset(OTHER_SUFFIXES.split())

FRAME_NAME = re.compile(r"(.+)[-_]([0-9]{1,9})")
"""ID-K or ID_K. The last separator counts, because ids may contain them."""
LAST_NUMBER = re.compile(r"([0-9]{1,9})$")


class MediaName(NamedTuple):
    """What the name of a media file says."""

    part: Part
    raw_id: str
    number: int
    """Number of a frame; 0 for other files."""
    set_folder: str
    """Folder of the frames of all items; the file's own folder for other files."""
    rank: int
    """Order among the files of one item; of the lowest, the first by path is packed."""


def is_hidden(path: str) -> bool:
    """Return whether a file is one that systems put beside media, such as .DS_Store."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


@lru_cache(maxsize=4096)
def place_of(folder: str) -> Place | None:
    """Return what a folder holds, by its name or that of the next folder around it.

    Args:
        folder: Path relative to the raw folder. An archive counts as a folder.
    """
    for name in reversed(folder.split("/")):
        for word, place in PLACE_OF_WORD.items():
            if word in name.lower():
                return place
    return None


def kind_of(path: str) -> Kind | None:
    """Return the kind of a media file; None for a file that is none.

    A file without a known suffix has the kind of its folder, if the folder's name tells one.
    """
    folder, _, name = path.rpartition("/")
    place = place_of(folder)
    suffix = _suffix(name)
    if suffix in NO_MEDIA:
        return None
    kind = KIND_OF_SUFFIX.get(suffix)
    if place == "videos" and suffix in MOVING_IMAGES:
        return "video"
    # mp4 and webm may hold nothing but sound
    if place == "audio" and kind == "video":
        return "audio"
    if kind is not None or place is None:
        return kind
    if place in ("videos", "audio"):
        return "video" if place == "videos" else "audio"
    return "image"


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def read_name(path: str, kind: Kind, matcher: IdMatcher) -> MediaName | None:
    """Return what the path of a media file says; None if it names no item.

    Args:
        path: Path relative to the raw folder.
        kind: `kind_of` the path.
    """
    folder, _, name = path.rpartition("/")
    if kind == "image":
        return _read_image_name(folder, name, matcher)
    part: Part = "videos" if kind == "video" else "audio"
    raw_id = _match_stem(name, matcher)
    if raw_id is None:
        return None
    return MediaName(part, raw_id, 0, folder, _rank(folder, name, part))


def _read_image_name(folder: str, name: str, matcher: IdMatcher) -> MediaName | None:
    place = place_of(folder)
    if place != "covers":
        parent, _, last_folder = folder.rpartition("/")
        # ID/K.jpg
        raw_id = matcher.match(last_folder)
        number = LAST_NUMBER.search(_stem(name))
        if raw_id is not None and number is not None:
            rank = _rank(folder, name, "frames")
            return MediaName("frames", raw_id, int(number[1]), parent, rank)
    raw_id = _match_stem(name, matcher)
    if raw_id is not None:
        part: Part = "frames" if place == "frames" else "covers"
        return MediaName(part, raw_id, 0, folder, _rank(folder, name, part))
    frame = FRAME_NAME.fullmatch(_stem(name))
    if place == "covers" or frame is None:
        return None
    raw_id = matcher.match(frame[1])
    if raw_id is None:
        return None
    return MediaName("frames", raw_id, int(frame[2]), folder, _rank(folder, name, "frames"))


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if _suffix(name) in KIND_OF_SUFFIX else name


def _match_stem(name: str, matcher: IdMatcher) -> str | None:
    raw_id = matcher.match(_stem(name))
    if raw_id is None and "." in name:
        # a suffix that is not known
        raw_id = matcher.match(name.rpartition(".")[0])
    return raw_id


def _rank(folder: str, name: str, part: Part) -> int:
    # a folder that is named for the part says more than a suffix
    is_elsewhere = place_of(folder) != part
    is_unusual = KIND_OF_SUFFIX.get(_suffix(name)) != KIND_OF_PART[part]
    return 2 * is_elsewhere + is_unusual
