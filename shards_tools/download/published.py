"""The published data sets, and which of their files are of which part."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

Part = Literal[
    "pairs", "titles", "likes", "covers", "videos", "audios", "frames", "features", "others"
]
PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT_PARTS: tuple[Part, ...] = ("pairs", "titles", "likes", "covers", "videos")
"""Parts that mlrec-shards make packs. It also packs audio, if --only asks for audios."""
MEDIA_PARTS: tuple[Part, ...] = ("covers", "videos", "audios", "frames")

_PART_OF_WORD: dict[str, Part] = {
    "frame": "frames",
    "cover": "covers",
    "audio": "audios",
    "video": "videos",
}
"""Part of a folder or archive by a word in its name. The first word counts."""
_TABLES: dict[Part, re.Pattern[str]] = {
    "pairs": re.compile(r".*_pairs\.(csv|tsv)"),
    "titles": re.compile(r".*_titles?(_en)?\.csv"),
    "likes": re.compile(r".*_likes_and_views\.txt"),
}
_ARCHIVE = re.compile(r"(?P<stem>.+)\.(?P<end>zip|z[0-9]{2,})", re.IGNORECASE)
CHECKSUM_NAME = re.compile(r".*(md5|sha256)(sums?)?(\.txt)?", re.IGNORECASE)
"""Names of files with checksums: MD5SUMS, sha256.txt, NAME.md5."""


class Dataset(NamedTuple):
    """A published data set."""

    name: str
    """Name on the command line."""
    prefix: str
    """Beginning of the names of its files."""
    base_url: str
    """Folder on the server where it was last known to be."""


_SITE = "https://recsys.westlake.edu.cn"
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("microlens-50k", "MicroLens-50k", f"{_SITE}/MicroLens-50k-Dataset/"),
        Dataset("microlens-100k", "MicroLens-100k", f"{_SITE}/MicroLens-100k-Dataset/"),
    )
}


class Archive(NamedTuple):
    """What the name of a zip archive, or of a part of one, says."""

    stem: str
    """Name without the suffix, which the parts of a split archive share."""
    number: int
    """Number of a part: 1 for .z01; 0 for .zip, which is the last part of a split archive."""


def archive_of(name: str) -> Archive | None:
    """Return what the name of a zip archive or of its part says; None for other files."""
    match = _ARCHIVE.fullmatch(name)
    if match is None:
        return None
    end = match["end"].lower()
    return Archive(match["stem"], 0 if end == "zip" else int(end[1:]))


def part_of(name: str) -> Part:
    """Return the part that a file or folder in the folder of a data set belongs to, by its name."""
    for part, pattern in _TABLES.items():
        if pattern.fullmatch(name):
            return part
    if "feature" in name.lower():
        return "features"
    # the comments have a table of their own, and are no media
    if archive_of(name) is None and "." in name:
        return "others"
    for word, part in _PART_OF_WORD.items():
        if word in name.lower():
            return part
    return "others"


def known_names(prefix: str) -> list[str]:
    """Return the names of the files of a data set, for a server without index pages."""
    tables = ["pairs.csv", "pairs.tsv", "titles.csv", "title_en.csv", "likes_and_views.txt"]
    return [f"{prefix}_{name}" for name in tables]
