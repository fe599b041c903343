"""Published checksums, zip archives and the parts of split ones."""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from threading import Event
from typing import NamedTuple

from shards_tools.download import http
from shards_tools.download.http import RefusedError
from shards_tools.download.published import archive_of

MAX_CHECKSUMS_BYTES = 64 << 20
_GNU_LINE = re.compile(r"(?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{32})(?:\s+\*?(?P<name>.+))?")
_BSD_LINE = re.compile(
    r"(?:MD5|SHA256) \((?P<name>.+)\) = (?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{32})"
)
_ALGORITHM_OF_LENGTH = {32: "md5", 64: "sha256"}
_END = struct.Struct("<4sHH12xH")
"""End record of a zip archive: signature, number of this part, and of that of the directory."""
_END_SIGNATURE = b"PK\x05\x06"
_MAX_COMMENT = 0xFFFF
_PAGE_BEGINNINGS = (b"<!doctype html", b"<html")
_PAGE_BEGINNING_BYTES = 1 << 10


class Checksum(NamedTuple):
    """A published checksum."""

    algorithm: str
    """md5 or sha256."""
    digest: str
    """Hexadecimal digits, in lower case."""


def read_checksums(path: str, url: str, stopping: Event) -> dict[str, Checksum]:
    """Return the checksums in a published file at `path`, by the paths of the files they are of.

    Raises:
        RefusedError: it cannot be read.
    """

    def get() -> bytes:
        with http.open_url(url) as answer:
            return http.read(answer, MAX_CHECKSUMS_BYTES)

    text = http.retried(get, stopping).decode(errors="replace")
    folder = PurePosixPath(path).parent
    checksums = {}
    for line in text.splitlines():
        match = _GNU_LINE.fullmatch(line.strip()) or _BSD_LINE.fullmatch(line.strip())
        if match is None:
            continue
        # NAME.md5 may hold nothing but the digest
        name = match["name"] or PurePosixPath(path).stem
        digest = match["digest"].lower()
        checksums[str(folder / name)] = Checksum(_ALGORITHM_OF_LENGTH[len(digest)], digest)
    return checksums


def check_content(file: Path, published: Checksum | None, is_split: bool) -> str:
    """Return the SHA-256 of a file, after all checks of its content.

    Args:
        is_split: whether the file is of a split archive, which cannot be tested in parts.

    Raises:
        RefusedError: the content is not what was published, or empty, a web page, or a damaged
            archive.
    """
    sha256 = digest_of(file, "sha256")
    if published is not None:
        digest = sha256 if published.algorithm == "sha256" else digest_of(file, "md5")
        if digest != published.digest:
            raise RefusedError(
                f"its {published.algorithm} is {digest}, and the server publishes "
                f"{published.digest}"
            )
    else:
        _check_plausible(file)
    archive = archive_of(file.name)
    if archive is not None and not is_split:
        _check_zip(file)
    return sha256


def _check_plausible(file: Path) -> None:
    """Check that a file without a published checksum is not what servers send in place of one.

    Raises:
        RefusedError: it is empty, or a web page.
    """
    with file.open("rb") as stream:
        beginning = stream.read(_PAGE_BEGINNING_BYTES)
    if not beginning:
        raise RefusedError("it is empty")
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if file.suffix.lower() not in (".html", ".htm") and text.startswith(_PAGE_BEGINNINGS):
        raise RefusedError("the server sent a web page, such as a login page, instead of the file")


def digest_of(file: Path, algorithm: str) -> str:
    """Return a digest of a file as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _check_zip(file: Path) -> None:
    """Check the CRC of each member of an archive.

    Raises:
        RefusedError: one does not fit, or the archive cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RefusedError(f"it is not an intact zip archive ({error})") from error
    if damaged is not None:
        raise RefusedError(f"{damaged} in this zip archive is damaged")


def missing_parts(last_part: Path) -> list[str]:
    """Return the names of the parts that a split archive lacks.

    Args:
        last_part: its last part, whose name ends in .zip and which knows the number of parts.
    """
    with last_part.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _END.size - _MAX_COMMENT))
        tail = stream.read()
    place = tail.rfind(_END_SIGNATURE)
    if place < 0 or len(tail) - place < _END.size:
        return []
    _, number, _, _ = _END.unpack_from(tail, place)
    names = [f"{last_part.stem}.z{part:02d}" for part in range(1, number + 1)]
    return [name for name in names if not (last_part.parent / name).exists()]
