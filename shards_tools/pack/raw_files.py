"""Read raw media files from any storage, with one reason for each way in which that fails."""

from __future__ import annotations

import os
import stat

from mlrec import storage
from mlrec.storage import transfer
from shards_tools.raw.media.raw_file import RawFile
from shards_tools.raw.media.zips import MemberError, read_member

MAX_RAW_BYTES = 1 << 30
"""Largest raw file that is read, because files are held in memory whole."""
MAX_IMAGE_BYTES = 400_000_000
"""Largest image that is read: the largest cover that is decoded, as 16-bit RGBA."""


class MediaError(Exception):
    """A raw file cannot be packed.

    The message is the reason. It has no paths and is the same in each run, because it is packed as
    well.
    """


def read_file(file: RawFile | None, max_bytes: int = MAX_RAW_BYTES) -> bytes:
    """Return the content of a raw media file, which may have `max_bytes`.

    Raises:
        MediaError: it is missing, empty, too large or unreadable.
        PermissionError: remote storage denies access, which it will to all files.
        RuntimeError: remote storage failed after all retries.
    """
    # a failure like any other, so that it is listed with its item
    if file is None:
        raise MediaError("the file is missing")
    if file.size is not None and file.size > max_bytes:
        raise MediaError(
            f"the file has {file.size:,} bytes, more than the {max_bytes:,} that are read"
        )
    try:
        content = _read(file, max_bytes)
    except FileNotFoundError as error:
        raise MediaError("the file is missing") from error
    except transfer.CutShortError as error:
        raise MediaError("the file is shorter than the listing of its folder says") from error
    except MemberError as error:
        raise MediaError(str(error)) from error
    except OSError as error:
        # An expired token is no fault of the file: all others would fail for the same reason.
        if isinstance(error, PermissionError) and not storage.is_local(file.url):
            raise
        raise MediaError(_reason_of(error)) from error
    if not content:
        raise MediaError("the file is empty")
    return content


def _reason_of(error: OSError) -> str:
    """Return the system's words for an error.

    The error's own text may name addresses and requests, which differ from run to run.
    """
    return type(error).__name__ if error.errno is None else os.strerror(error.errno)


def _read(file: RawFile, max_bytes: int) -> bytes:
    if file.member is not None:
        return read_member(file.url, file.member)
    if not storage.is_local(file.url):
        return storage.read_bytes(file.url, file.size)
    path = storage.local_path(file.url)
    # A device may have no end. A pipe that nobody writes to is left to the time limit of its item.
    kind = path.stat().st_mode
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
        raise MediaError("it is no regular file")
    with path.open("rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise MediaError(f"the file has more than the {max_bytes:,} bytes that are read")
    return content
