"""Download one file, resumed from what an earlier attempt left."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import BinaryIO

from mlrec import storage
from shards_tools.download import http as requests

BLOCK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class StoppedError(Exception):
    """The download was asked to stop."""


def fetch(url: str, target: Path, advance: Callable[[int], None], stopping: Event) -> None:
    """Download a file to `target`, from where an earlier attempt of this version of it ended.

    Args:
        advance: is called with the number of bytes that were added, or taken back.

    Raises:
        RefusedError: the server does not deliver the file, or breaks off again and again.
        StoppedError: `stopping` was set.
    """
    partial = Partial(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    # The largest size so far: a server that starts over each time makes no progress.
    furthest = partial.size
    while True:
        try:
            _attempt(url, partial, advance, stopping)
            break
        except requests.RetryableError as error:
            failures = 1 if partial.size > furthest else failures + 1
            furthest = max(furthest, partial.size)
            if failures == requests.MAX_ATTEMPTS:
                raise requests.RefusedError(f"{error}, {failures} times in a row") from error
            requests.pause(failures, error.pause_s, stopping)
    partial.publish()


class Partial:
    """The part of a file that has arrived, in NAME.part next to it.

    NAME.part.json has the validator of its version: an entity tag or a date of the server.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._validator_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str:
        """Return the validator of the version that has arrived; "" if it is not known."""
        with contextlib.suppress(OSError, ValueError):
            validator = json.loads(self._validator_path.read_bytes())
            return validator if isinstance(validator, str) else ""
        return ""

    def start(self, validator: str) -> BinaryIO:
        """Start from the first byte of a version."""
        self.path.unlink(missing_ok=True)
        # the validator first: a part without one is never resumed
        storage.write_bytes(str(self._validator_path), json.dumps(validator).encode())
        return self.path.open("wb")

    def publish(self) -> None:
        """Give the complete file its name."""
        storage.flush(self.path)
        os.replace(self.path, self.target)
        self._validator_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what has arrived."""
        self.path.unlink(missing_ok=True)
        self._validator_path.unlink(missing_ok=True)


def _attempt(url: str, partial: Partial, advance: Callable[[int], None], stopping: Event) -> None:
    """Request what is missing, and append it.

    Raises:
        RetryableError: the answer ended early.
    """
    if stopping.is_set():
        raise StoppedError
    present = partial.size
    validator = partial.validator() if present else ""
    headers = {}
    if validator:
        headers = {"Range": f"bytes={present}-", "If-Range": validator}
    with requests.open_url(url, headers=headers) as answer:
        if answer.status == 416:
            # Nothing is missing, or the part is longer than the file and cannot be of it.
            if answer.headers.get("Content-Range") == f"bytes */{present}":
                return
            advance(-present)
            partial.remove()
            raise requests.RetryableError("the server has no bytes after those that arrived")
        if requests.is_web_page(answer):
            raise requests.RefusedError("the server answers with a web page")
        total, stream = _destination(answer, partial, present, advance)
        with stream:
            _copy(answer, stream, advance, stopping)
            arrived = stream.tell()
    if arrived != total:
        raise requests.RetryableError(f"the answer ended after {arrived:,} of {total:,} bytes")


def _destination(
    answer: http.client.HTTPResponse, partial: Partial, present: int, advance: Callable[[int], None]
) -> tuple[int, BinaryIO]:
    """Return the size of the whole file, and where the body of an answer belongs."""
    if answer.status == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != present:
            partial.remove()
            advance(-present)
            raise requests.RetryableError("the server sent other bytes than were requested")
        stream = partial.path.open("ab")
        return int(match[2]), stream
    # The server does not resume, or the file has changed: all of it comes again.
    length = answer.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise requests.RefusedError(
            "the server does not report its size, so that an answer that was cut could pass as "
            "complete"
        )
    advance(-present)
    return int(length), partial.start(_validator(answer))


def _validator(answer: http.client.HTTPResponse) -> str:
    """Return what identifies this version of a file in If-Range; "" if nothing does."""
    tag = answer.headers.get("ETag", "")
    # weak tags do not promise equal bytes
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(answer.headers.get("Last-Modified", ""))


def _copy(
    answer: http.client.HTTPResponse,
    stream: BinaryIO,
    advance: Callable[[int], None],
    stopping: Event,
) -> None:
    """Append the body of an answer; errors of the local disk are not caught."""
    while block := requests.read(answer, BLOCK_BYTES):
        with storage.writing(stream.name):
            stream.write(block)
        advance(len(block))
        if stopping.is_set():
            raise StoppedError
