"""Write and remove files by URL; every write is complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlrec.storage import filesystems, transfer
from mlrec.storage.filesystems import is_local, local_path, open_filesystem
from mlrec.storage.reads import READ_BYTES, exists, open_stream


@contextlib.contextmanager
def writing(place: object) -> Iterator[None]:
    """Add the place to errors of the system that name none.

    Errors of open files, for example on a full disk, do not name their file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


def flush(path: Path) -> None:
    """Make the system write a local file, or the entries of a folder, to its disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(source: Path, url: str) -> None:
    """Move the local file `source` to `url`, where it appears whole or not at all."""
    fs, path = open_filesystem(url)
    if is_local(url):
        _publish_locally(source, Path(path))
        return
    # Object stores show an object once it is complete.
    limit_s = transfer.time_limit_s(source.stat().st_size)
    transfer.call(fs, "put_file", str(source), path, limit_s=limit_s)
    source.unlink()


def _publish_locally(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target):
        # Without this, a crash of the machine may leave an empty file under the final name.
        flush(source)
        try:
            os.replace(source, target)
        except OSError:
            # Another file system, which cannot be renamed into: copy next to the target first.
            partial = f"{target}.{os.getpid()}.partial"
            shutil.copyfile(source, partial)
            os.replace(partial, target)
            source.unlink()


def write_bytes(url: str, data: bytes) -> None:
    """Write `data` to `url`, complete or not at all."""
    folder = None
    if is_local(url):
        folder = local_path(url).parent
        folder.mkdir(parents=True, exist_ok=True)
    # Next to the target, so that it can be renamed; for remote storage in the temporary folder.
    try:
        handle, name = tempfile.mkstemp(dir=folder, suffix=".partial")
    except OSError as error:
        # the system names the temporary file
        raise OSError(error.errno, error.strerror, url) from error
    try:
        with writing(url), os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)  # mkstemp lets nobody else read the file
        publish(Path(name), url)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def download(url: str, target: Path, sha256: str, size: int | None = None) -> None:
    """Stream `url` into the local file `target`.

    Args:
        sha256: expected SHA-256 of the content, as hexadecimal digits.
        size: bytes of the file, if known; it saves a request.

    Raises:
        RuntimeError: the content has another SHA-256.
    """
    # Hashed while it is streamed: reading the copy again would cost as much as the download.
    digest = hashlib.sha256()
    with writing(target), open_stream(url, size) as stream, open(target, "wb") as copy:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != sha256:
        raise RuntimeError(
            f"{url} does not have the sha256 that dataset.json names; "
            "mlrec-shards check lists the faults"
        )


def remove(url: str) -> None:
    """Remove the file at `url`, if it exists."""
    # rm_file of a missing object is an error on some storages only.
    if exists(url):
        filesystems.call(url, "rm_file")
