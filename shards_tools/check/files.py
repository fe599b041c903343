"""Check one file of a data set: its members' headers and crc32, its length and sha256."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from mlrec import storage
from mlrec.data.format import FileInfo, Member
from mlrec.runtime.printable import brief
from mlrec.runtime.progress import Task


class NamedMember(NamedTuple):
    """A member of a shard."""

    name: str
    """Name in the tar file."""
    member: Member


def _ignore(name: str, content: bytes) -> None:
    """Drop a member."""


def check_file(
    url: str,
    file: FileInfo,
    progress: Task,
    members: Sequence[NamedMember] = (),
    use: Callable[[str, bytes], None] = _ignore,
) -> Iterator[str]:
    """Yield the faults of one file, which is read once.

    Args:
        url: URL of the data set.
        progress: Task that advances by the bytes read.
        members: Members to check, by offset.
        use: Called with the name and content of each intact member.
    """
    check = _FileCheck(file)
    try:
        with storage.open_stream(storage.join(url, file.path)) as stream:
            yield from check.read(_HashedStream(stream, progress), members, use)
    # a fault like any other: the remaining files are still checked
    except FileNotFoundError:
        yield f"{file.path}: missing"
    except OSError as error:
        yield f"{file.path}: cannot be read ({brief(error)})"


def first_fault(url: str, file: FileInfo, progress: Task) -> str | None:
    """Return the first fault of one file, members aside; None if it has no fault."""
    return next(check_file(url, file, progress), None)


class _HashedStream:
    """A stream that is read from front to back, with the digest of what was read."""

    def __init__(self, stream: IO[bytes], progress: Task) -> None:
        self._stream = stream
        self._progress = progress
        self._digest = hashlib.sha256()
        self.position = 0
        """Bytes read so far."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far."""
        return self._digest.hexdigest()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end of the file."""
        data = self._stream.read(size)
        # one pass for sha256 and members: a data set may have terabytes
        self._digest.update(data)
        self.position += len(data)
        self._progress.advance(len(data))
        return data

    def read_rest(self) -> None:
        """Read to the end of the file."""
        while self.read(storage.READ_BYTES):
            pass


class _FileCheck:
    """The check of one file."""

    def __init__(self, file: FileInfo) -> None:
        self._file = file
        self._num_faults = 0
        self._num_lost = 0
        """Number of members that the file is too short for."""

    def read(
        self,
        stream: _HashedStream,
        members: Sequence[NamedMember],
        use: Callable[[str, bytes], None],
    ) -> Iterator[str]:
        """Read the file, and yield its faults."""
        for name, member in members:
            # up to the content come the header and the padding of the member before it
            header = stream.read(member.offset - stream.position)
            content = stream.read(member.size)
            # counted, not listed: a shard cut short would print a line per lost member
            if len(content) < member.size:
                self._num_lost += 1
                continue
            fault = _member_fault(name, member, header, content)
            if fault:
                self._num_faults += 1
                yield f"{self._file.path}: {fault}"
            else:
                use(name, content)
        stream.read_rest()
        yield from self._whole_file_faults(stream)

    def _whole_file_faults(self, stream: _HashedStream) -> Iterator[str]:
        """Yield the fault of the file's length, or that of its sha256."""
        file = self._file
        if stream.position != file.size:
            lost = f"; {self._num_lost} members are lost" if self._num_lost else ""
            yield (
                f"{file.path}: is {stream.position} bytes long, dataset.json says {file.size}{lost}"
            )
        # a damaged member changes the sha256 too, and is the more precise fault
        elif not self._num_faults and stream.sha256 != file.sha256:
            yield f"{file.path}: does not have the sha256 that dataset.json names"


def _member_fault(name: str, member: Member, header: bytes, content: bytes) -> str:
    """Return what is wrong with a member; "" if nothing is."""
    # the crc32 covers the content, the name covers the header and the offset
    if zlib.crc32(content) != member.crc32:
        return f"{name} does not have the crc32 that the catalogue names"
    if _name_in(header) != name:
        return f"{name} is not at the offset that the catalogue names"
    return ""


def _name_in(header: bytes) -> str:
    """Return the name in the tar header that ends `header`; "" if there is none."""
    # strict, because a damaged name must not be replaced by a similar one
    try:
        return tarfile.TarInfo.frombuf(header[-tarfile.BLOCKSIZE :], "utf-8", "strict").name
    except (tarfile.HeaderError, UnicodeDecodeError):
        return ""
