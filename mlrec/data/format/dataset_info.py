"""dataset.json: the content of a data set, and size and sha256 of every other file."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from mlrec import storage
from mlrec.data.features.info import MAX_WIDTH, NAME
from mlrec.data.format.counts import check_counts
from mlrec.data.format.splits import SplitInfo
from mlrec.data.media.policies import COUNT_POLICIES, FRAME_POLICIES
from mlrec.runtime.printable import printable
from mlrec.storage.typed_json import MAX_JSON_BYTES, STRICT, parse_json

FORMAT = "mlrec"
VERSION = 2
"""Version that is written. Readers accept every version from 1."""
DATASET_FILE = "dataset.json"
CATALOGUE_FILE = "catalogue.parquet"
FAILURES_FILE = "failures.jsonl"
"""One line per raw file that could not be packed: item, raw_id, kind, reason."""
ORACLE_FILE = "oracle.json"
"""Reference results that a synthetic data set brings along."""

AUDIO_RATE = 16_000
"""Samples per second of the mono FLAC members of items."""

SINGLE_FILES = (CATALOGUE_FILE, FAILURES_FILE, ORACLE_FILE)
# A pattern for whole paths, so that no entry of `files` can lead outside the data set.
_SHARD_PATH = re.compile(r"(items|sequences)/\1-(\d{5,9})\.tar", re.ASCII)

MAX_FILE_BYTES = 1 << 50
MAX_NAME_CHARACTERS = 500
# Limits of MediaInfo. The packer refuses larger settings.
MAX_FRAMES = 10_000
MAX_INTERVAL = 1_000_000
MAX_SIZE = 8192
MAX_FEATURES = 32
"""Largest number of kinds of features."""
MAX_REMARKS = 1000
MAX_REMARK_CHARACTERS = 2000

REMEDY = "Pack the data set again with mlrec-shards make, or fetch an intact copy"

Count = Annotated[int, Field(ge=0, lt=1 << 48)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Remark = Annotated[str, Field(max_length=MAX_REMARK_CHARACTERS)]


def item_shard(shard: int) -> str:
    """Return the path of an item shard within the data set."""
    return f"items/items-{shard:05d}.tar"


def sequence_shard(shard: int) -> str:
    """Return the path of a sequence shard within the data set."""
    return f"sequences/sequences-{shard:05d}.tar"


class NoDatasetError(ValueError):
    """There is no data set at a URL."""


@dataclass(frozen=True)
class MediaInfo:
    """What the item samples hold of a video."""

    __pydantic_config__ = STRICT

    kind: Literal["frames", "clip", "none"]
    """JPEG frames, the video itself, or nothing."""
    policy: str = "middle"
    """Row of FRAME_POLICIES that chose the frames."""
    title_weights: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the CLIP weights that compared frames with titles (policy title)."""
    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] = 5
    interval: Annotated[int, Field(ge=1, le=MAX_INTERVAL)] = 1
    """Distance of neighbouring frames, in frames of the video (policy middle)."""
    size: Annotated[int, Field(ge=16, le=MAX_SIZE)] = 224
    """Height and width in pixels."""
    has_cover: bool = False
    has_audio: bool = False
    features: Annotated[dict[str, Width], Field(max_length=MAX_FEATURES)] = field(
        default_factory=dict
    )
    """Width of each kind of features by its name. A sample has the vector as NAME.npy."""

    def __post_init__(self) -> None:
        for name in self.features:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"the features {name!r} have a name that is not 1 to 64 letters, digits, _ or -"
                )
        if self.policy not in FRAME_POLICIES:
            known = ", ".join(FRAME_POLICIES)
            raise ValueError(f"unknown frame policy {self.policy!r}; this mlrec knows {known}")
        if self.kind == "clip" and self.policy not in COUNT_POLICIES:
            raise ValueError(
                f"clips have the frame policy {self.policy!r}; their frames are chosen at each "
                f"read, by {' or '.join(COUNT_POLICIES)}"
            )


@dataclass(frozen=True)
class FileInfo:
    """One file of the data set."""

    __pydantic_config__ = STRICT

    path: str
    """Path within the data set: one of SINGLE_FILES, or an item or sequence shard."""
    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def __post_init__(self) -> None:
        if self.path not in SINGLE_FILES and not _SHARD_PATH.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is not the path of a file that a data set has")


@dataclass(frozen=True)
class DatasetInfo:
    """The content of dataset.json."""

    __pydantic_config__ = STRICT

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
    counts: dict[str, Count]
    """Numbers of users, items, packed interactions, train / validation / test interactions, ..."""
    media: MediaInfo
    split: SplitInfo
    files: tuple[FileInfo, ...]
    """Every other file, sorted by path."""
    sources: Annotated[tuple[Remark, ...], Field(max_length=MAX_REMARKS)] = ()
    """Files and folders that were packed, and those that were not used, a line each."""
    remarks: Annotated[tuple[Remark, ...], Field(max_length=MAX_REMARKS)] = ()
    """What was dropped, repeated, guessed or left out of the raw files, a sentence each."""
    format: Literal["mlrec"] = "mlrec"
    version: Annotated[int, Field(ge=1)] = VERSION
    # max_length=0 refuses a stored fingerprint, by which a file could pose as another data set.
    fingerprint: Annotated[str, Field(max_length=0)] = field(default="", compare=False)
    """SHA-256 of dataset.json, and so of every byte of the data set; never stored in the file."""

    def check(self) -> None:
        """Check that counts, split and files fit each other.

        Raises:
            ValueError: counts, split and files contradict each other.
        """
        check_counts(self.counts, self.split)
        self._check_files()

    def _check_files(self) -> None:
        repeats = Counter(file.path for file in self.files).most_common(1)
        if repeats and repeats[0][1] > 1:
            raise ValueError(f"files names {repeats[0][0]} {repeats[0][1]} times")
        if not self.has(CATALOGUE_FILE):
            raise ValueError(f"files does not name {CATALOGUE_FILE}")
        if not self.shards("sequences"):
            raise ValueError("files names no sequence shard")
        # Without gaps, because the catalogue refers to item shards by number.
        for folder, path_of in (("sequences", sequence_shard), ("items", item_shard)):
            for shard, file in enumerate(self.shards(folder)):  # type: ignore[arg-type]
                if file.path != path_of(shard):
                    raise ValueError(f"files names {file.path} and not {path_of(shard)}")
        # Readers allocate by these counts, so the counts must be plausible for the bytes there are.
        if self.counts["items"] > self.file(CATALOGUE_FILE).size:
            raise ValueError(
                f"{self.counts['items']} items in {self.file(CATALOGUE_FILE).size} bytes "
                f"of {CATALOGUE_FILE}"
            )
        # two int64 of each user and an int32 of each interaction, uncompressed
        needed = 16 * self.counts["users"] + 4 * self.counts["interactions"]
        if needed > (stored := sum(shard.size for shard in self.shards("sequences"))):
            raise ValueError(
                f"{self.counts['users']} users and {self.counts['interactions']} interactions "
                f"do not fit {stored} bytes of sequence shards"
            )

    def to_bytes(self) -> bytes:
        """Return dataset.json as bytes; the same content gives the same bytes."""
        content = {key: value for key, value in asdict(self).items() if key != "fingerprint"}
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    @property
    def num_files(self) -> int:
        """Number of files, dataset.json included."""
        # dataset.json does not list itself
        return len(self.files) + 1

    @property
    def num_bytes(self) -> int:
        """Size of all files but dataset.json."""
        return sum(file.size for file in self.files)

    def shards(self, folder: Literal["items", "sequences"]) -> list[FileInfo]:
        """Return the files below `folder` in the order of their numbers."""
        shards = [file for file in self.files if file.path.startswith(folder + "/")]
        # By length first, because as a text shard 100000 would come before shard 99999.
        return sorted(shards, key=lambda file: (len(file.path), file.path))

    def has(self, path: str) -> bool:
        """Return whether `path` is one of the data set's files."""
        return any(file.path == path for file in self.files)

    def file(self, path: str) -> FileInfo:
        """Return the file `path`, which the data set has."""
        return next(file for file in self.files if file.path == path)


@dataclass(frozen=True)
class _Header:
    """Fields that tell whether this mlrec can read the rest."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    format: str
    version: int


def parse_dataset_info(raw: bytes, where: str) -> DatasetInfo:
    """Return the content of a dataset.json.

    Raises:
        ValueError: it is damaged, inconsistent, not mlrec's, or of a newer version.
    """
    # Parsed alone first, because a newer version may have fields that the strict parse refuses.
    header = parse_json(raw, _Header, where, REMEDY)
    if header.format != FORMAT:
        raise ValueError(
            f"{where}: its format is {header.format[:40]!r}, not {FORMAT!r}. {REMEDY}."
        )
    if header.version > VERSION:
        raise ValueError(
            f"{where}: its format version is {header.version}, "
            f"this mlrec reads up to {VERSION}. Update mlrec."
        )
    stored = parse_json(raw, DatasetInfo, where, REMEDY)
    try:
        stored.check()
    except ValueError as error:
        raise ValueError(f"{where} is invalid: {printable(str(error))}. {REMEDY}.") from error
    return replace(stored, fingerprint=hashlib.sha256(raw).hexdigest())


def read_dataset_info(url: str) -> DatasetInfo:
    """Return the dataset.json of the data set at `url`.

    Raises:
        NoDatasetError: there is no data set.
        ValueError: it is not one that this version reads.
    """
    where = storage.join(url, DATASET_FILE)
    try:
        size = storage.size_of(where)
        if size > MAX_JSON_BYTES:
            raise ValueError(
                f"{where} is {size:,} bytes long, at most {MAX_JSON_BYTES:,} are read. {REMEDY}."
            )
        raw = storage.read_bytes(where, size)
    except (FileNotFoundError, NotADirectoryError) as error:
        # NotADirectoryError means that a parent of the path is a file, so nothing is packed there.
        remedy = (
            f"Name a data set that mlrec-shards make packed, or run mlrec-shards make RAW {url}"
        )
        raise NoDatasetError(storage.why_absent(url, "a data set", DATASET_FILE, remedy)) from error
    return parse_dataset_info(raw, where)
