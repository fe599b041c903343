"""Zip archives on any storage: their members, listed once and read one by one.

The directory of an archive with 100,000 members takes a second to parse and tens of megabytes.
Only the planning process does that. Workers read a member by its place in the archive.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO, NamedTuple, cast

from mlrec import storage
from mlrec.runtime.printable import brief

MAX_DIRECTORY_BYTES = 256 << 20
"""Largest directory of an archive that is read. It holds 2.5 million members."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, and lengths of name and extra field, of the header before a member."""
LOCAL_SIGNATURE = b"PK\x03\x04"
MAX_HEADER_BYTES = LOCAL_HEADER.size + 2 * 0xFFFF
DEFLATE_OVERHEAD_BYTES = 1000
ENCRYPTED_FLAG = 1
DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    struct.error,
    EOFError,
    OverflowError,
)
"""What zipfile raises for directories that it cannot read."""


class MemberError(Exception):
    """A member cannot be read. The message is the reason, without paths."""


class ZipMember(NamedTuple):
    """Place of a file in an archive."""

    offset: int
    """Start of its header in the archive."""
    span: int
    """Bytes from there that are certain to hold its header and content."""
    compressed_size: int
    size: int
    method: int
    """zipfile.ZIP_STORED or zipfile.ZIP_DEFLATED."""
    crc32: int


class ZippedFile(NamedTuple):
    """A file in an archive."""

    path: str
    """Path in the archive."""
    member: ZipMember


def list_zip(url: str) -> list[ZippedFile]:
    """Return the files in the archive at `url`, sorted by path.

    Raises:
        ValueError: the archive is damaged, encrypted, split, or too large.
    """
    try:
        with (
            storage.open_seekable(url) as stream,
            zipfile.ZipFile(cast("IO[bytes]", _BoundedReader(stream))) as archive,
        ):
            infos = [info for info in archive.infolist() if not info.is_dir()]
            end = archive.start_dir
    except DAMAGE as error:
        raise ValueError(
            f"{url} cannot be read as a zip archive ({brief(error)}). Download it again, "
            "extract it to a folder beside it, or remove it"
        ) from error
    for info in infos:
        # the member is in another part, which has a number, or begins before this file
        if info.volume or info.header_offset < 0:
            raise split_archive(url)
        if info.flag_bits & ENCRYPTED_FLAG:
            raise ValueError(f"{url} is encrypted. Extract it with its password")
    return sorted(_members(infos, end))


def split_archive(url: str) -> ValueError:
    """Return the error about an archive that was split into parts."""
    name = url.rpartition("/")[2]
    joined = f"{name[: -len('.zip')]}_joined.zip"
    return ValueError(
        f"{url} is the last part of a split archive. Join the parts with "
        f"`zip -s 0 {name} --out {joined}` and remove them, or extract them to a folder beside it"
    )


def _members(infos: list[zipfile.ZipInfo], end: int) -> list[ZippedFile]:
    """Return the files of an archive.

    Args:
        end: Start of the archive's directory, where its last member ends.
    """
    # each member ends where the next begins, whatever order the directory has
    infos = sorted(infos, key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in infos[1:]), end]
    files = []
    for info, member_end in zip(infos, ends, strict=True):
        member = ZipMember(
            info.header_offset,
            min(member_end - info.header_offset, MAX_HEADER_BYTES + info.compress_size),
            info.compress_size,
            info.file_size,
            info.compress_type,
            info.CRC,
        )
        # some programs of Windows write the separators of Windows
        files.append(ZippedFile(info.filename.replace("\\", "/"), member))
    return files


def read_member(url: str, member: ZipMember) -> bytes:
    """Return the content of a member of the archive at `url`.

    At most the size that the archive's directory states is decompressed.

    Raises:
        MemberError: the member is damaged, or compressed by another method than deflate.
    """
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MemberError(
            f"its zip archive uses compression method {member.method}, which is not read"
        )
    if not _is_possible(member):
        raise MemberError("its zip archive is damaged")
    block = storage.read_range(url, member.offset, member.span)
    signature, name_length, extra_length = LOCAL_HEADER.unpack_from(block)
    start = LOCAL_HEADER.size + name_length + extra_length
    data = block[start : start + member.compressed_size]
    if signature != LOCAL_SIGNATURE or len(data) < member.compressed_size:
        raise MemberError("its zip archive is damaged")
    content = data if member.method == zipfile.ZIP_STORED else _inflate(data, member.size)
    if len(content) != member.size or zlib.crc32(content) != member.crc32:
        raise MemberError("its zip archive is damaged")
    return content


def _is_possible(member: ZipMember) -> bool:
    """Return whether an archive can have such a member, before memory is allocated for it."""
    # deflate stores what it cannot compress in blocks, which add less than 1 %
    most_compressed = member.size + member.size // 100 + DEFLATE_OVERHEAD_BYTES
    has_place = member.offset >= 0 and member.span > LOCAL_HEADER.size
    return has_place and member.compressed_size <= most_compressed


def _inflate(data: bytes, size: int) -> bytes:
    # one byte more than the size, so that a member that is longer does not pass
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as error:
        raise MemberError("its zip archive is damaged") from error


class _BoundedReader:
    """An archive, of which zipfile reads no more at once than the largest directory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; without a size, those up to the end.

        Raises:
            ValueError: they are too many.
            RuntimeError: the storage cannot read them.
        """
        # zipfile reads a directory at once
        if size > MAX_DIRECTORY_BYTES:
            raise ValueError(f"its directory has {size:,} bytes")
        try:
            return self._stream.read(size)
        except ValueError as error:
            # a server without ranged reads: the archive itself is not damaged
            raise RuntimeError(str(error)) from error
