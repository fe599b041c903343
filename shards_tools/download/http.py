"""Requests to the server, and which of their errors are worth another try."""

from __future__ import annotations

import http.client
import random
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from threading import Event
from typing import TypeVar, cast
from urllib.parse import urlsplit

from mlrec import __version__
from mlrec.runtime.printable import brief, printable

T = TypeVar("T")

TIMEOUT_S = 60.0
"""Seconds without any byte after which a connection counts as broken."""
MAX_ATTEMPTS = 6
"""Attempts in a row without progress."""
FIRST_PAUSE_S = 1.0
"""Seconds before the second attempt; each further pause is twice as long."""
MAX_PAUSE_S = 60.0
MAX_REASON_CHARACTERS = 100
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# The server of MicroLens has refused the name of Python's own client with status 403.
USER_AGENT = f"Mozilla/5.0 (compatible; mlrec-shards/{__version__})"


class RetryableError(Exception):
    """The connection broke, or the server is busy: another attempt may succeed."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        """Keep the reason, and the seconds that the server asks to wait."""
        super().__init__(reason)
        self.pause_s = pause_s


class RefusedError(Exception):
    """The server does not deliver the file, however often it is asked."""


class UnreachableError(RefusedError):
    """The server did not answer in several attempts."""


def open_url(
    url: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send a request, and return the answer of status 200, 206 or 416.

    Raises:
        RetryableError: another attempt may succeed.
        RefusedError: the server refuses the file.
    """
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    request.add_header("User-Agent", USER_AGENT)
    # compressed on the way, the bytes would not be those of the file
    request.add_header("Accept-Encoding", "identity")
    try:
        return cast("http.client.HTTPResponse", urllib.request.urlopen(request, timeout=TIMEOUT_S))
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return cast("http.client.HTTPResponse", error)
        error.close()
        reason = printable(f"status {error.code} {error.reason}", MAX_REASON_CHARACTERS)
        if error.code in RETRIED_STATUS:
            raise RetryableError(reason, _asked_pause_s(error.headers.get("Retry-After"))) from None
        raise RefusedError(reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise RetryableError(brief(error)) from error


def _asked_pause_s(header: str | None) -> float:
    """Return the seconds of a Retry-After header; 0 without, and for one with a date."""
    return min(float(header), MAX_PAUSE_S) if header and header.isdecimal() else 0.0


def read(answer: http.client.HTTPResponse, size: int) -> bytes:
    """Read at most `size` bytes of an answer.

    Raises:
        RetryableError: the connection broke.
    """
    try:
        return answer.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise RetryableError(brief(error)) from error


def retried(action: Callable[[], T], stopping: Event) -> T:
    """Return what `action` returns, after several attempts if need be.

    Raises:
        RefusedError: the server refuses.
        UnreachableError: no attempt succeeded.
    """
    for attempt in range(1, MAX_ATTEMPTS):
        try:
            return action()
        except RetryableError as error:
            pause(attempt, error.pause_s, stopping)
    try:
        return action()
    except RetryableError as error:
        raise UnreachableError(f"{error}, {MAX_ATTEMPTS} times in a row") from error


def pause(failures: int, asked_s: float, stopping: Event) -> None:
    """Wait before another attempt, until `stopping` is set."""
    backoff_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (failures - 1))
    # connections that broke together do not come back together
    stopping.wait(max(asked_s, backoff_s * random.uniform(0.75, 1.25)))


def check_url(url: str, option: str) -> str:
    """Return a URL of a folder with a slash at its end.

    Raises:
        ValueError: it is not the URL of a web server.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{option} {url} is not an http or https URL of a folder")
    return url if url.endswith("/") else f"{url}/"


def is_web_page(answer: http.client.HTTPResponse) -> bool:
    """Return whether an answer is HTML, which servers also send for what they do not have."""
    return answer.headers.get_content_type() == "text/html"
