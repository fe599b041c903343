"""Files by URL, on any storage that fsspec knows: read, list, publish; writes are complete or absent."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import fsspec

Result = TypeVar("Result")

READ_BYTES = 16 << 20
"""Remote reads ask for this much at once: with s3fs' default of 5 MiB a stream runs at under half the speed."""
RETRIES = 5
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0

LASTING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    TypeError,
    NotImplementedError,
)
"""Errors that trying again does not mend."""

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "http": "http", "https": "http"}
"""The extra of setup.py that brings what a scheme needs."""


def scheme_of(url: str) -> str:
    """The scheme of `url`; a plain path has "file"."""
    return url.split("://", 1)[0] if "://" in url else "file"


def is_local(url: str) -> bool:
    """Whether `url` names a file of this machine."""
    return scheme_of(url) == "file"


def local_path(url: str) -> Path:
    """The path of a local `url`."""
    return Path(url.removeprefix("file://"))


def join(url: str, *parts: str) -> str:
    """`url` with path parts behind it."""
    return "/".join([url.rstrip("/"), *parts])


def _filesystem(url: str) -> tuple[Any, str]:
    scheme = scheme_of(url)
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    except ImportError as error:
        extra = EXTRAS.get(scheme, scheme)
        raise ValueError(
            f"{url}: the scheme {scheme!r} needs a package that is not installed ({error}); pip install 'mlrec[{extra}]'"
        ) from error
    except ValueError as error:
        raise ValueError(f"{url}: unknown storage scheme {scheme!r}; known: file, {', '.join(sorted(EXTRAS))}") from error


def retry(action: Callable[[], Result], what: str) -> Result:
    """The result of `action`, tried again with capped exponential backoff and jitter.

    Raises:
        Exception: one of LASTING, at once.
        RuntimeError: every try failed; the last reason is its cause.
    """
    for attempt in range(RETRIES):
        try:
            return action()
        except LASTING:
            raise
        except Exception as error:  # each client library has errors of its own kind
            if attempt == RETRIES - 1:
                raise RuntimeError(f"{what}: failed {RETRIES} times, last with {type(error).__name__}: {error}") from error
            time.sleep(random.uniform(0.5, 1.0) * min(MAX_DELAY_S, FIRST_DELAY_S * 2**attempt))
    raise AssertionError("unreachable")


def exists(url: str) -> bool:
    """Whether a file or folder stands at `url`."""
    fs, path = _filesystem(url)
    return bool(retry(lambda: fs.exists(path), url))


def read_bytes(url: str) -> bytes:
    """The whole content of `url`."""
    fs, path = _filesystem(url)
    return bytes(retry(lambda: fs.cat_file(path), url))


def read_range(url: str, start: int, size: int) -> bytes:
    """Bytes [start, start + size) of `url`.

    Raises:
        RuntimeError: the file ends before.
    """
    fs, path = _filesystem(url)
    data = bytes(retry(lambda: fs.cat_file(path, start=start, end=start + size), url))
    if len(data) != size:
        raise RuntimeError(f"{url}: asked for {size} bytes at {start}, got {len(data)}: the file is cut short")
    return data


def list_files(url: str) -> dict[str, int]:
    """Sizes in bytes of all files below `url`, by path relative to it; empty where there is no such folder."""
    fs, root = _filesystem(url)
    root = root.rstrip("/")
    try:
        found = retry(lambda: fs.find(root, detail=True), url)
    except FileNotFoundError:
        return {}
    return {str(path)[len(root) + 1 :]: int(info["size"]) for path, info in sorted(found.items())}


def open_stream(url: str) -> IO[bytes]:
    """`url` open for reading from front to back in large blocks."""
    fs, path = _filesystem(url)
    if is_local(url):
        return cast("IO[bytes]", open(path, "rb"))
    return cast("IO[bytes]", retry(lambda: fs.open(path, "rb", block_size=READ_BYTES, cache_type="readahead"), url))


def sha256_of(url: str) -> str:
    """SHA-256 of the content of `url`, as hexadecimal digits; the content is streamed."""
    digest = hashlib.sha256()
    with open_stream(url) as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def download(url: str, target: Path, sha256: str) -> None:
    """Streams `url` to the local file `target`.

    Raises:
        RuntimeError: what arrived does not have the given SHA-256.
    """
    digest = hashlib.sha256()
    with open_stream(url) as stream, open(target, "wb") as copy:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != sha256:
        raise RuntimeError(f"{url} does not have the sha256 that dataset.json names; mlrec-shards check lists the faults")


def publish(source: Path, url: str) -> None:
    """Moves the local file `source` to `url`: the final name holds the whole file or does not exist."""
    fs, path = _filesystem(url)
    if not is_local(url):
        retry(lambda: fs.put_file(str(source), path), url)  # an object appears when its upload is complete
        source.unlink()
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as written:
        os.fsync(written.fileno())
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
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        publish(Path(name), url)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove(url: str) -> None:
    """Removes the file at `url`, if there."""
    fs, path = _filesystem(url)
    if fs.exists(path):
        fs.rm_file(path)
