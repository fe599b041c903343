"""Files of a node's sequence table: plain arrays, and table.json with their lengths and sha256."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from pydantic import Field

from mlrec.data.format import SEQUENCE_MEMBERS, Block, Cuts, SplitInfo, held_out
from mlrec.storage.typed_json import STRICT, parse_json

TABLE_FILE = "table.json"
"""Written last, so that a folder with it is complete."""

_DTYPES: dict[str, type[np.generic]] = {
    **SEQUENCE_MEMBERS,
    "validation_lengths": np.int32,
    "test_lengths": np.int32,
    "train_users": np.int64,
}
"""Type of each array. Only a split by time needs the three that are no members of shards."""


@dataclass(frozen=True)
class _ArrayFile:
    """One array of a table on disk: plain values, without a header."""

    __pydantic_config__ = STRICT

    length: Annotated[int, Field(ge=0, lt=1 << 48)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class _TableFile:
    """The content of table.json."""

    __pydantic_config__ = STRICT

    users: _ArrayFile
    offsets: _ArrayFile
    items: _ArrayFile
    raw_users: _ArrayFile | None = None
    raw_user_offsets: _ArrayFile | None = None
    validation_lengths: _ArrayFile | None = None
    test_lengths: _ArrayFile | None = None
    train_users: _ArrayFile | None = None

    def arrays(self) -> dict[str, _ArrayFile]:
        """Return the arrays that the table has, by name."""
        return {name: file for name, file in vars(self).items() if file is not None}


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays in the folder, mapped into memory after each was verified by its sha256.

    Raises:
        FileNotFoundError: there is no table.
        ValueError: table.json is damaged, or an array is not the one that it names.
    """
    raw = (folder / TABLE_FILE).read_bytes()
    table = parse_json(raw, _TableFile, str(folder / TABLE_FILE), "It is made again")
    return {
        name: _mapped(folder / f"{name}.bin", name, file) for name, file in table.arrays().items()
    }


def _mapped(path: Path, name: str, file: _ArrayFile) -> np.ndarray:
    """Map an array's file into memory.

    Raises:
        ValueError: it does not have its length or its sha256.
    """
    dtype = np.dtype(_DTYPES[name])
    if path.stat().st_size != file.length * dtype.itemsize:
        raise ValueError(f"{path.name} does not have the length that {TABLE_FILE} names")
    with open(path, "rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
            raise ValueError(f"{path.name} does not have the sha256 that {TABLE_FILE} names")
    return np.memmap(path, dtype, mode="r") if file.length else np.empty(0, dtype)


class TableWriter:
    """Writer of a table's arrays, front to back.

    Plain writes make a full disk an error. A write to a memory map would kill the process.
    """

    def __init__(self, folder: Path, stack: ExitStack, split: SplitInfo) -> None:
        self._folder = folder
        self._stack = stack
        self._split = split
        self._files: dict[str, _HashedFile] = {}
        self._users = 0
        self._interactions = 0
        self._id_bytes = 0
        self._has_raw_users: bool | None = None

    def add(self, block: Block) -> None:
        """Append a block.

        Raises:
            ValueError: it has raw user ids and the blocks before it have none, or vice versa.
        """
        if self._has_raw_users not in (None, block.raw_users is not None):
            raise ValueError("some blocks have raw_users.npy and others have none")
        self._has_raw_users = block.raw_users is not None
        self._write("users", block.users)
        self._write("offsets", self._interactions + block.offsets[:-1])
        self._write("items", block.items)
        self._interactions += len(block.items)
        if block.raw_users is not None and block.raw_user_offsets is not None:
            self._write("raw_users", block.raw_users)
            self._write("raw_user_offsets", self._id_bytes + block.raw_user_offsets[:-1])
            self._id_bytes += len(block.raw_users)
        # Leave-one-out follows from the offsets alone.
        if self._split.kind == "time":
            self._add_split(block)
        self._users += len(block.users)

    def _add_split(self, block: Block) -> None:
        lengths = held_out(self._split, block.offsets, block.times)
        self._write("validation_lengths", lengths.validation_U)
        self._write("test_lengths", lengths.test_U)
        is_trained = Cuts.of(block.offsets[:-1], block.offsets[1:], lengths).is_trained()
        self._write("train_users", self._users + np.flatnonzero(is_trained))

    def finish(self) -> None:
        """Write the ends of the last runs and table.json, and close the files."""
        for name in ("users", "items"):
            self._write(name, np.empty(0))
        self._write("offsets", np.array([self._interactions]))
        if self._has_raw_users:
            self._write("raw_user_offsets", np.array([self._id_bytes]))
        self._stack.close()
        table = _TableFile(**{name: file.written() for name, file in self._files.items()})
        content = {name: asdict(file) for name, file in table.arrays().items()}
        (self._folder / TABLE_FILE).write_text(json.dumps(content, indent=1) + "\n")

    def _write(self, name: str, values: np.ndarray) -> None:
        if name not in self._files:
            opened = self._stack.enter_context((self._folder / f"{name}.bin").open("wb"))
            self._files[name] = _HashedFile(opened)
        self._files[name].write(values.astype(_DTYPES[name]))


class _HashedFile:
    """A file of an array's values that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._length = 0

    def write(self, values: np.ndarray) -> None:
        raw = values.tobytes()
        self._file.write(raw)
        self._digest.update(raw)
        self._length += len(values)

    def written(self) -> _ArrayFile:
        return _ArrayFile(self._length, self._digest.hexdigest())
