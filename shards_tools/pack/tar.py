"""Tar files whose bytes depend on their content alone, with the place and checksum of each member."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from mlrec.data.format import Member
from mlrec.storage import writing


class TarWriter:
    """Writes WebDataset samples to a new tar file; use as a context.

    Owner, mode and time of all members are fixed: the same samples give the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._digest.hexdigest()

    def write_sample(self, key: str, members: Mapping[str, bytes]) -> list[Member]:
        """Appends the sample's members in their order; returns where their data lie."""
        return [self._write_member(key, name, data) for name, data in members.items()]

    def _write_member(self, key: str, name: str, data: bytes) -> Member:
        header = tarfile.TarInfo(f"{key}.{name}")
        header.size, header.mode = len(data), 0o644  # owner 0 and time 0 by default
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        member = Member(name, offset=self.size, size=len(data), crc32=zlib.crc32(data))
        self._write(data)
        self._write(bytes(-self.size % tarfile.BLOCKSIZE))
        return member

    def _write(self, data: bytes) -> None:
        with writing(self._path):
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._write(bytes(2 * tarfile.BLOCKSIZE))  # the mark of the end
            self._write(bytes(-self.size % tarfile.RECORDSIZE))
        with writing(self._path):
            self._file.close()
