"""Zip archives on any storage: their members, listed once and read one by one.

The directory of an archive with 100,000 members takes a second to parse and tens of megabytes.
Only the planning process does that. Workers read a member by its place in the archive.
"""

from __future__ import annotations

import io
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
MAX_EXPANSION = 100
"""Largest ratio of a large member's size to its compressed size.

Media are compressed already. Deflate reaches 1,000 for files that are all zeros.
"""
MAX_FREE_BYTES = 64 << 20
"""Size up to which a member may expand by any ratio, such as a white image as BMP."""
LARGE_SPAN_BYTES = 8 << 20
INFLATED_BLOCK_BYTES = 1 << 20
DAMAGED = "its zip archive is damaged"
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
        MemberError: the member is damaged, expands too much, or is compressed by another method
            than deflate.
    """
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MemberError(
            f"its zip archive uses compression method {member.method}, which is not read"
        )
    _check_sizes(member)
    content = _compressed_content(url, member)
    if len(content) < member.compressed_size:
        raise MemberError(DAMAGED)
    if member.method == zipfile.ZIP_DEFLATED:
        content = _inflate(content, member.size)
    if len(content) != member.size or zlib.crc32(content) != member.crc32:
        raise MemberError(DAMAGED)
    return content


def _check_sizes(member: ZipMember) -> None:
    """Check that media in an archive can have such sizes, before memory is allocated for them.

    Raises:
        MemberError: they cannot.
    """
    # deflate stores what it cannot compress in blocks, which add less than 1 %
    most_compressed = member.size + member.size // 100 + DEFLATE_OVERHEAD_BYTES
    has_place = member.offset >= 0 and member.span > LOCAL_HEADER.size
    if not has_place or member.compressed_size > most_compressed:
        raise MemberError(DAMAGED)
    is_large = member.size > MAX_FREE_BYTES
    if is_large and member.size > MAX_EXPANSION * member.compressed_size:
        raise MemberError(
            f"its {member.compressed_size:,} bytes in a zip archive expand to {member.size:,}, "
            f"more than {MAX_EXPANSION}-fold, which no media do"
        )


def _compressed_content(url: str, member: ZipMember) -> bytes:
    """Return the bytes of a member as the archive has them."""
    if member.span < LARGE_SPAN_BYTES:
        # header and content by one request
        block = storage.read_range(url, member.offset, member.span)
        start = _content_start(block)
        return block[start : start + member.compressed_size]
    # two requests, so that memory holds the content once
    start = _content_start(storage.read_range(url, member.offset, LOCAL_HEADER.size))
    size = min(member.compressed_size, member.span - start)
    return storage.read_range(url, member.offset + start, size)


def _content_start(header: bytes) -> int:
    """Return the length of the header before a member's content."""
    signature, name_length, extra_length = LOCAL_HEADER.unpack_from(header)
    if signature != LOCAL_SIGNATURE:
        raise MemberError(DAMAGED)
    return LOCAL_HEADER.size + int(name_length) + int(extra_length)


def _inflate(data: bytes, size: int) -> bytes:
    """Return the decompressed content, up to one byte more than `size`.

    The additional byte tells a member that is longer than the archive says.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    # the buffer grows with the content, because a damaged member may end early
    content = io.BytesIO()
    try:
        for start in range(0, len(data), INFLATED_BLOCK_BYTES):
            rest = data[start : start + INFLATED_BLOCK_BYTES]
            while rest and content.tell() <= size:
                most = min(INFLATED_BLOCK_BYTES, size + 1 - content.tell())
                content.write(inflater.decompress(rest, most))
                rest = inflater.unconsumed_tail
        # all input is consumed, and few bytes of output are left
        if content.tell() <= size:
            content.write(inflater.flush())
    except zlib.error as error:
        raise MemberError(DAMAGED) from error
    return content.getvalue()


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
