"""The data set on storage: names, dataset.json, the catalogue and the sequence shards, written and read here alone.

<url>/dataset.json                      DatasetInfo
<url>/catalogue.parquet                 Catalogue: one row per item, in the order of the ids 1 ... N
<url>/items/items-00000.tar             one WebDataset sample per item
<url>/sequences/sequences-00000.tar     one WebDataset sample per block of users (npy members)
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlrec import storage

FORMAT = "mlrec"
VERSION = 1
DATASET_FILE = "dataset.json"
CATALOGUE_FILE = "catalogue.parquet"
ORACLE_FILE = "oracle.json"
"""Reference results that a synthetic data set brings along."""

CATALOGUE_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),
        ("raw_id", pa.string()),
        ("title", pa.string()),
        ("popularity", pa.int32()),
        ("likes", pa.int64()),
        ("views", pa.int64()),
        ("status", pa.string()),
        ("shard", pa.int32()),
        (
            "members",
            pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])),
        ),
    ]
)
"""popularity counts training interactions; status is ok or failed; without a sample shard is -1 and members is empty."""


def item_key(item: int) -> str:
    """The WebDataset key of an item's sample."""
    return f"{item:09d}"


def item_shard(shard: int) -> str:
    """The path of an item shard within the data set."""
    return f"items/items-{shard:05d}.tar"


def sequence_shard(shard: int) -> str:
    """The path of a sequence shard within the data set."""
    return f"sequences/sequences-{shard:05d}.tar"


@dataclass(frozen=True)
class MediaInfo:
    """What the item samples hold of a video."""

    kind: Literal["frames", "clip", "none"]
    """JPEG frames, the video itself, or nothing."""
    policy: str = "middle"
    """Row of FRAME_POLICIES that chose the frames."""
    frames: int = 5
    interval: int = 1
    """Distance of neighbouring frames, in frames of the video (policy middle)."""
    size: int = 224
    """Height and width in pixels."""
    has_cover: bool = False
    has_audio: bool = False


@dataclass(frozen=True)
class SplitInfo:
    """Leave-one-out: of each user's last `keep_last` items the last is test, the one before validation, the rest training.

    MicroLens' protocol: users with 5 or more interactions, the last 13 kept.
    """

    keep_last: int = 13
    min_interactions: int = 5

    def __post_init__(self) -> None:
        if self.min_interactions < 4 or self.keep_last < self.min_interactions:
            raise ValueError(
                f"the split keeps the last {self.keep_last} of at least {self.min_interactions} interactions; leave-one-out "
                "needs min_interactions of 4 or more (two to train on, two held out) and keep_last not below it"
            )

    @property
    def history_length(self) -> int:
        """L: the longest history that predicts a training target."""
        return self.keep_last - 3


@dataclass(frozen=True)
class FileInfo:
    """One file of the data set."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class DatasetInfo:
    """The content of dataset.json."""

    name: str
    counts: dict[str, int]
    """users, items, interactions (all that were packed), train / validation / test interactions, failed_items, ..."""
    media: MediaInfo
    split: SplitInfo
    files: tuple[FileInfo, ...]
    """Every other file, sorted by path."""
    format: str = FORMAT
    version: int = VERSION
    fingerprint: str = field(default="", compare=False)
    """SHA-256 of dataset.json, and so of every byte of the data set; not stored in it."""

    def to_bytes(self) -> bytes:
        """dataset.json as bytes; the same content gives the same bytes."""
        content = {key: value for key, value in asdict(self).items() if key != "fingerprint"}
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    def shards(self, folder: Literal["items", "sequences"]) -> list[FileInfo]:
        """The files below `folder`, in order."""
        return [file for file in self.files if file.path.startswith(folder + "/")]

    def has(self, path: str) -> bool:
        """Whether `path` is one of the data set's files."""
        return any(file.path == path for file in self.files)


def parse_dataset_info(raw: bytes, where: str) -> DatasetInfo:
    """The content of a dataset.json.

    Raises:
        ValueError: it is damaged, not mlrec's, or of a version from the future.
    """
    try:
        content: dict[str, Any] = json.loads(raw)
        if content.get("format") != FORMAT:
            raise ValueError(f"its format is {content.get('format')!r}, not {FORMAT!r}")
        if content["version"] > VERSION:
            raise ValueError(f"its format version is {content['version']}, this mlrec reads up to {VERSION}: update mlrec")
        content["media"] = MediaInfo(**content["media"])
        content["split"] = SplitInfo(**content["split"])
        content["files"] = tuple(FileInfo(**file) for file in content["files"])
        return DatasetInfo(**content, fingerprint=hashlib.sha256(raw).hexdigest())
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is damaged: {type(error).__name__}: {error}; mlrec-shards make writes it anew") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def read_dataset_info(url: str) -> DatasetInfo:
    """The dataset.json of the data set at `url`.

    Raises:
        ValueError: there is no data set, or not one that this version reads.
    """
    where = storage.join(url, DATASET_FILE)
    try:
        raw = storage.read_bytes(where)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{url} is not a data set: it has no {DATASET_FILE}; mlrec-shards make RAW {url} packs one") from error
    return parse_dataset_info(raw, where)


@dataclass(frozen=True)
class Member:
    """Where one member of an item's sample lies in its shard."""

    name: str
    """The field of the sample: "0.jpg", "mp4", "cover.jpg", "txt", "flac", "json"."""
    offset: int
    size: int
    crc32: int


class Catalogue:
    """The items of a data set; arrays are indexed by item id, row 0 is padding."""

    def __init__(self, table: pa.Table) -> None:
        if table.schema.names != CATALOGUE_SCHEMA.names:
            raise ValueError(f"{CATALOGUE_FILE} has columns {table.schema.names}, expected {CATALOGUE_SCHEMA.names}")
        self.table = table.drop_columns("members")
        """Without the members, which stand in arrays of numbers: for a million items objects of their own would be a gigabyte."""
        self.size = table.num_rows
        """N: the number of items."""
        self.popularity_N1 = self._column("popularity", np.int64)
        self.shard_N1 = self._column("shard", np.int32, padding=-1)
        self.ok_N1 = np.concatenate([[False], np.asarray(table["status"].to_numpy(zero_copy_only=False) == "ok")])
        """bool: items that training and ranking use."""
        members = table["members"].combine_chunks()
        self._starts = members.offsets.to_numpy()
        names, *numbers = members.values.flatten()
        encoded = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
        self._names = encoded.dictionary.to_pylist()
        self._name_codes = encoded.indices.to_numpy().astype(np.uint16)
        self._offsets, self._sizes, self._crcs = (part.to_numpy() for part in numbers)

    def _column(self, name: str, dtype: type, padding: int = 0) -> np.ndarray:
        return np.concatenate([[padding], self.table[name].to_numpy()]).astype(dtype)

    def members(self, item: int) -> list[Member]:
        """The members of the item's sample, in the order of the shard."""
        run = slice(self._starts[item - 1], self._starts[item])
        names = map(self._names.__getitem__, self._name_codes[run].tolist())
        return list(map(Member, names, *(numbers[run].tolist() for numbers in (self._offsets, self._sizes, self._crcs))))

    def title(self, item: int) -> str:
        """The item's title, "" where it has none."""
        return str(self.table["title"][item - 1].as_py() or "")


def read_catalogue(url: str, info: DatasetInfo) -> Catalogue:
    """The catalogue of the data set at `url`, checked against dataset.json.

    Raises:
        ValueError: its bytes are not those that dataset.json names.
    """
    where = storage.join(url, CATALOGUE_FILE)
    file = next((file for file in info.files if file.path == CATALOGUE_FILE), FileInfo(CATALOGUE_FILE, 0, ""))
    raw = storage.read_bytes(where, file.size)
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise ValueError(f"{where} does not have the sha256 that {DATASET_FILE} names; mlrec-shards check {url} lists the faults")
    catalogue = Catalogue(pq.read_table(io.BytesIO(raw), read_dictionary=["members.list.element.name"]))
    pa.default_memory_pool().release_unused()  # with a million items arrow would keep twice of what stays in use
    return catalogue


def catalogue_bytes(columns: dict[str, Any]) -> bytes:
    """catalogue.parquet of the given columns (those of CATALOGUE_SCHEMA), as lists or arrow's arrays."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=CATALOGUE_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


SEQUENCE_MEMBERS = ("users.npy", "offsets.npy", "items.npy", "times.npy")
"""A sequence sample's members: int64 user ids [n], int64 offsets [n + 1], int32 items, int64 times (left out where unknown)."""


def npy_bytes(array: np.ndarray) -> bytes:
    """`array` as an .npy file."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def read_npy(raw: bytes) -> np.ndarray:
    """The array of an .npy file; pickled objects are refused."""
    return np.asarray(np.load(io.BytesIO(raw), allow_pickle=False))
