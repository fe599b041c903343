"""Names of media files: what kind of file it is, and which item it belongs to."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from mlrec.data.raw_ids import IdMatcher

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
_PART_OF_KIND: dict[Kind, Part] = {"video": "videos", "image": "covers", "audio": "audio"}
"""Part of a file that is no frame."""
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
OTHER_SPELLING_RANK = 2
ELSEWHERE_RANK = 4
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


class Readings(NamedTuple):
    """What the folder and the name of a media file say, which may be different items."""

    by_folder: MediaName | None
    """The item of the folder, if the folder has the id of an item as its name."""
    by_name: MediaName | None
    """The item of the file's own name; None if the name has no id."""
    label: tuple[str, int] | None
    """The text in the file's name that is, or may be, an id, and its number.

    None where one of the readings is certain.
    """


NO_ITEM = Readings(None, None, None)


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


def read_name(path: str, kind: Kind, matcher: IdMatcher) -> Readings:
    """Return what the path of a media file says.

    Args:
        path: Path relative to the raw folder.
        kind: `kind_of` the path.
    """
    folder, _, name = path.rpartition("/")
    if kind == "image" and place_of(folder) != "covers":
        return _read_image_name(folder, name, matcher)
    part = _PART_OF_KIND[kind]
    match = _match_stem(name, matcher)
    if match is None:
        return NO_ITEM
    rank = _rank(folder, name, part)
    by_name = MediaName(part, match.raw_id, 0, folder, rank + match.spelling_rank)
    item_folder = _match_folder(folder, matcher)
    if item_folder is None:
        return Readings(None, by_name, None)
    by_folder = MediaName(part, item_folder.raw_id, 0, folder, rank + item_folder.spelling_rank)
    return Readings(by_folder, by_name, (_stem(name), 0))


def _read_image_name(folder: str, name: str, matcher: IdMatcher) -> Readings:
    item_folder = _match_folder(folder, matcher)
    number = LAST_NUMBER.search(_stem(name))
    frame = FRAME_NAME.fullmatch(_stem(name))
    if item_folder is None or number is None:
        return Readings(None, _read_frame_name(folder, name, frame, matcher), None)
    # ID/K.jpg
    set_folder = folder if item_folder.is_archive else folder.rpartition("/")[0]
    rank = _rank(folder, name, "frames") + item_folder.spelling_rank
    by_folder = MediaName("frames", item_folder.raw_id, int(number[1]), set_folder, rank)
    if frame is None:
        return Readings(by_folder, None, None)
    by_name = _read_frame_name(folder, name, frame, matcher)
    return Readings(by_folder, by_name, (frame[1], int(frame[2])))


def _read_frame_name(
    folder: str, name: str, frame: re.Match[str] | None, matcher: IdMatcher
) -> MediaName | None:
    """Return what the name of an image says without its folder: ID.jpg or ID-K.jpg."""
    match = _match_stem(name, matcher)
    if match is not None:
        part: Part = "frames" if place_of(folder) == "frames" else "covers"
        rank = _rank(folder, name, part) + match.spelling_rank
        return MediaName(part, match.raw_id, 0, folder, rank)
    match = None if frame is None else _match_text(frame[1], matcher)
    if frame is None or match is None:
        return None
    rank = _rank(folder, name, "frames") + match.spelling_rank
    return MediaName("frames", match.raw_id, int(frame[2]), folder, rank)


class _Match(NamedTuple):
    """An item whose id is in a path."""

    raw_id: str
    is_exact: bool
    """False for another spelling of the id, such as 017."""
    is_archive: bool = False
    """Whether it is the name of the archive."""

    @property
    def spelling_rank(self) -> int:
        """Part of a rank: the exact id comes before other spellings."""
        return 0 if self.is_exact else OTHER_SPELLING_RANK


def _match_text(text: str, matcher: IdMatcher) -> _Match | None:
    raw_id = matcher.match(text)
    return None if raw_id is None else _Match(raw_id, text == raw_id)


def _match_folder(folder: str, matcher: IdMatcher) -> _Match | None:
    """Return the item of a file's folder, or of the archive that the file is in: ID.zip."""
    match = _match_text(folder.rpartition("/")[2], matcher)
    end = folder.lower().find(".zip")
    if match is not None or end < 0:
        return match
    match = _match_text(folder[:end].rpartition("/")[2], matcher)
    return None if match is None else match._replace(is_archive=True)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if _suffix(name) in KIND_OF_SUFFIX else name


def _match_stem(name: str, matcher: IdMatcher) -> _Match | None:
    match = _match_text(_stem(name), matcher)
    if match is None and "." in name:
        # a suffix that is not known
        match = _match_text(name.rpartition(".")[0], matcher)
    return match


def _rank(folder: str, name: str, part: Part) -> int:
    # a folder that is named for the part says more than a suffix
    is_elsewhere = place_of(folder) != part
    is_unusual = KIND_OF_SUFFIX.get(_suffix(name)) != KIND_OF_PART[part]
    return ELSEWHERE_RANK * is_elsewhere + is_unusual
