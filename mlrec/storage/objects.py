"""Files by URL, on any storage that fsspec knows: read, list, publish; writes are complete or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from mlrec.runtime.printable import brief
from mlrec.runtime.urls import EXTRAS, check_url, scheme_of
from mlrec.storage import transfer

READ_BYTES = 16 << 20
"""Remote reads ask for this much at once: with s3fs' default of 5 MiB a stream runs at under half the speed."""
BLOCKS_IN_FLIGHT = 3
"""Blocks of a stream that are asked for ahead."""

REMOTE: dict[str, Any] = {"use_listings_cache": False}
"""Options of remote file systems: a listing that was kept would not know what other processes have written since."""
_HTTP: dict[str, Any] = {**REMOTE, "client_kwargs": {"trust_env": True}}
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {**REMOTE, "config_kwargs": {"retries": {"total_max_attempts": 1}}},
    "http": _HTTP,
    "https": _HTTP,
}
"""Options of some schemes. Left alone, botocore and s3fs would turn one try of transfer.py into 25 requests, and aiohttp would
read neither ~/.netrc, where a user and a password belong, nor the proxy's environment variables."""


_opened: dict[int, Any] = {}
"""Every file system used so far. In a forked process fsspec forgets its parent's; collected there, they would close connections
on the parent's event loop, with a page of errors."""


def is_local(url: str) -> bool:
    """Whether `url` names a file of this machine."""
    return scheme_of(url) == "file"


def local_path(url: str) -> Path:
    """The path of a local `url`."""
    return Path(url.removeprefix("file://")).expanduser()


def join(url: str, *parts: str) -> str:
    """`url` with path parts behind it."""
    return "/".join([url.rstrip("/"), *parts])


def _filesystem(url: str) -> tuple[Any, str]:
    check_url(url)
    scheme = scheme_of(url)
    options = OPTIONS.get(scheme, REMOTE if scheme != "file" else {})
    try:
        # fsspec's own url_to_fs takes the "::" of an IPv6 address, or of a local path, for a chain of URLs
        kind = fsspec.get_filesystem_class(scheme)
        fs, path = kind(**options, **kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)
    except ImportError as error:
        remedy = f"pip install 'mlrec[{EXTRAS[scheme]}]'" if scheme in EXTRAS else "install it"
        raise ValueError(
            f"{url}: the scheme {scheme!r} needs a package that is not installed ({brief(error)}); {remedy}"
        ) from error
    except (OSError, ValueError, TypeError) as error:  # some connect at once, or miss an option
        raise RuntimeError(f"{url}: this storage cannot be opened ({brief(error)})") from error
    if hasattr(fs, "retries"):
        fs.retries = 1  # s3fs and gcsfs: once, for transfer.py tries again
    _opened[id(fs)] = fs
    return fs, path


def exists(url: str) -> bool:
    """Whether a file or folder stands at `url`."""
    return bool(_call(url, "exists"))


def _call(url: str, method: str, limit_s: float = transfer.TIMEOUT_S, **options: Any) -> Any:
    fs, path = _filesystem(url)
    if is_local(url):
        return getattr(fs, method)(path, **options)
    return transfer.call(fs, method, path, limit_s=limit_s, **options)


def read_bytes(url: str, size: int | None = None) -> bytes:
    """The whole content of `url`; `size` as for `open_stream`."""
    with open_stream(url, size) as stream:
        return stream.read()


def read_range(url: str, start: int, size: int) -> bytes:
    """Bytes [start, start + size) of `url`.

    Raises:
        transfer.CutShortError: the file ends before.
        RuntimeError: every try failed.
    """
    if is_local(url):
        return _read_local(local_path(url), start, size)
    (data,) = read_ranges([(url, start, size)], in_flight=1)
    if isinstance(data, Exception):
        raise data
    return data


def _open_local(path: str | Path) -> int:
    """Open a file of this machine for reading.

    Returns:
        Its descriptor.

    Raises:
        OSError: it is missing, or no regular file: a pipe would wait for a writer, and a device may never end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(f"{path} is a pipe or a device; put a regular file in its place")
    return handle


def _read_local(path: Path, start: int, size: int) -> bytes:
    handle = _open_local(path)
    try:
        data = os.pread(handle, size, start)
    finally:
        os.close(handle)
    if len(data) != size:
        raise transfer.CutShortError(
            f"{path}: asked for {size} bytes at {start}, got {len(data)}: the file is cut short"
        )
    return data


def read_ranges(
    ranges: Sequence[tuple[str, int, int]], in_flight: int
) -> Iterator[bytes | Exception]:
    """The bytes of each (url, start, size) of one remote storage, or why they cannot be had, in order.

    Args:
        in_flight: how many reads run at once.
    """
    if not ranges:
        return iter(())
    opened = {url: _filesystem(url) for url in dict.fromkeys(url for url, _, _ in ranges)}
    fs, _ = opened[ranges[0][0]]
    return transfer.read_ranges(
        fs, ((opened[url][1], start, size) for url, start, size in ranges), in_flight
    )


def size_of(url: str) -> int:
    """Bytes of the file at `url`."""
    return int(_call(url, "info")["size"])


def list_folder(url: str) -> list[dict[str, Any]]:
    """What fsspec tells of each file and folder directly in `url`; empty where there is no such folder."""
    try:
        return list(_call(url, "ls", transfer.LISTING_S, detail=True))
    except FileNotFoundError:
        return []


def list_files(url: str) -> dict[str, int]:
    """Sizes in bytes of all files below `url`, by path relative to it; empty where there is no such folder."""
    _, root = _filesystem(url)
    root = root.rstrip("/")
    try:
        found = _call(url, "find", transfer.LISTING_S, detail=True)
    except FileNotFoundError:
        return {}
    return {str(path)[len(root) + 1 :]: int(info["size"]) for path, info in sorted(found.items())}


class _BlockStream(io.RawIOBase):
    """A stream of blocks that are read ahead."""

    def __init__(self, blocks: Generator[bytes | Exception, None, None]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            block = next(self._blocks, b"")
            if isinstance(block, Exception):
                raise block
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        self._blocks.close()
        super().close()


def open_stream(url: str, size: int | None = None) -> IO[bytes]:
    """`url` open for reading from front to back, in large blocks of which the next are under way.

    Args:
        size: bytes to read, where they are known; it saves a request.

    Raises:
        FileNotFoundError: it is not there.
        RuntimeError: the storage gave up; raised by reads as well.
    """
    fs, path = _filesystem(url)
    if is_local(url):
        return os.fdopen(_open_local(path), "rb")
    length = transfer.call(fs, "info", path)["size"] if size is None else size
    if length is None:
        raise ValueError(
            f"{url}: the server does not tell the size of the file; mlrec needs one that does"
        )
    blocks = (
        (path, start, min(READ_BYTES, length - start)) for start in range(0, length, READ_BYTES)
    )
    return cast(
        "IO[bytes]",
        io.BufferedReader(
            _BlockStream(transfer.read_ranges(fs, blocks, BLOCKS_IN_FLIGHT)), READ_BYTES
        ),
    )


def sha256_of(url: str) -> str:
    """SHA-256 of the content of `url`, as hexadecimal digits; the content is streamed."""
    digest = hashlib.sha256()
    with open_stream(url) as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def download(url: str, target: Path, sha256: str, size: int | None = None) -> None:
    """Streams `url` to the local file `target`; `size` as for `open_stream`.

    Raises:
        RuntimeError: what arrived does not have the given SHA-256.
    """
    digest = hashlib.sha256()
    with writing(target), open_stream(url, size) as stream, open(target, "wb") as copy:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != sha256:
        raise RuntimeError(
            f"{url} does not have the sha256 that dataset.json names; mlrec-shards check lists the faults"
        )


@contextlib.contextmanager
def writing(place: object) -> Iterator[None]:
    """Have the system's errors name the place that cannot be written; those of open files, as of a full disk, do not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def flush(path: Path) -> None:
    """Have the system write a local file, or the entries of a folder, to its disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(source: Path, url: str) -> None:
    """Moves the local file `source` to `url`: the final name holds the whole file or does not exist."""
    fs, path = _filesystem(url)
    if not is_local(url):
        limit_s = transfer.limit_of(source.stat().st_size)
        transfer.call(
            fs, "put_file", str(source), path, limit_s=limit_s
        )  # an object appears when it is complete
        source.unlink()
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        flush(source)
        try:
            os.replace(source, path)
        except OSError:  # another file system: copy beside the target first
            beside = f"{path}.{os.getpid()}.partial"
            fs.copy(str(source), beside)
            os.replace(beside, path)
            source.unlink()


def write_bytes(url: str, data: bytes) -> None:
    """Writes `data` to `url`, complete or not at all."""
    folder = str(local_path(url).parent) if is_local(url) else None
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".partial")
    try:
        with writing(url), os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        publish(Path(name), url)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove(url: str) -> None:
    """Removes the file at `url`, if there."""
    if exists(url):
        _call(url, "rm_file")
