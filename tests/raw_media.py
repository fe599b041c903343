"""Raw folders of small media files, and what is recognized in them."""

import zipfile
from pathlib import Path

from shards_tools.raw.media.files import Media, find_media
from shards_tools.raw.media.listing import list_raw
from shards_tools.raw.media.names import KIND_OF_PART, Part

RAW_IDS = ["1", "2", "17", "a-3", "x_9"]
ALL_PARTS: frozenset[Part] = frozenset(KIND_OF_PART)


def put(root: Path, *paths: str) -> None:
    """Write files whose content is their path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def put_zip(path: Path, *names: str) -> None:
    """Write a zip archive of files whose content is their name."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)


def find(root: Path, parts: frozenset[Part] = ALL_PARTS) -> Media:
    """Return the media of the items RAW_IDS."""
    return find_media(str(root), list_raw(str(root)), RAW_IDS, parts)


def paths(root: Path, media: Media, part: Part) -> dict[str, list[str]]:
    """Return the paths of a part's files by raw id."""
    shown = {}
    for raw_id, files in media.files[part].items():
        shown[raw_id] = [file.url.removeprefix(f"{root}/") for file in files]
    return shown
