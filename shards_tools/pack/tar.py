"""Tar files whose bytes depend on their content alone, with each member's offset and crc32."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from mlrec.data.format import Member
from mlrec.storage import writing

MEMBER_MODE = 0o644
"""Permissions of every member, whatever the umask."""


class TarWriter:
    """A new tar file of WebDataset samples, to be used as a context.

    Owner, mode and time of all members are fixed, so that the same samples give the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes written so far."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far."""
        return self._digest.hexdigest()

    def write_sample(self, key: str, members: Mapping[str, bytes]) -> list[Member]:
        """Append the sample's members in their order, and return where their data are."""
        return [self._write_member(key, name, data) for name, data in members.items()]

    def _write_member(self, key: str, name: str, data: bytes) -> Member:
        # owner and time are 0 by default
        header = tarfile.TarInfo(f"{key}.{name}")
        header.size = len(data)
        header.mode = MEMBER_MODE
        # USTAR has no extended headers, which would hold times
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        member = Member(name, offset=self.size, size=len(data), crc32=zlib.crc32(data))
        self._write(data)
        self._pad_to(tarfile.BLOCKSIZE)
        return member

    def _pad_to(self, multiple: int) -> None:
        self._write(bytes(-self.size % multiple))

    def _write(self, data: bytes) -> None:
        with writing(self._path):
            self._file.write(data)
        # while the bytes are in memory: the shard is not read again for its checksum
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
            # two empty blocks mark the end of a tar file
            self._write(bytes(2 * tarfile.BLOCKSIZE))
            self._pad_to(tarfile.RECORDSIZE)
        with writing(self._path):
            self._file.close()
