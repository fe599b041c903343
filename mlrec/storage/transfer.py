"""Calls and reads over the network: time limits, retries, and second requests for stragglers."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import fsspec.asyn

from mlrec.runtime.printable import brief

Result = TypeVar("Result")
log = logging.getLogger(__name__)

MAX_ATTEMPTS = 12
"""Attempts in all before a call fails."""
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0

NOTICE_S = 2.0
"""Seconds of failed attempts after which the user is told that the storage fails."""
NOTICE_EVERY_S = 60.0
"""Seconds between two such notices of one process."""

TIMEOUT_S = 30.0
"""Time limit of one attempt, without the time its bytes take at SLOWEST_BYTES_PER_S."""
SLOWEST_BYTES_PER_S = 256 << 10
LISTING_TIMEOUT_S = 1800.0
"""Time limit of one attempt to list a folder. A million files come in a thousand pages, one after
the other."""

FIRST_HEDGE_S = 3.0
"""Seconds until a read gets a second request, while too few reads show what is usual."""
MIN_HEDGE_S = 0.25
HEDGE_FACTOR = 3.0
"""A read is a straggler when it takes this many times as long as 95 % of the recent ones."""
RECENT_READS = 64
SMALL_READ_BYTES = 1 << 20
"""Reads below this size are compared with each other, and larger ones with larger ones."""

NON_RETRYABLE = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    TypeError,
    NotImplementedError,
)
"""Errors that another attempt would meet again."""
NON_RETRYABLE_STATUSES = (400, 401, 403)
"""HTTP status codes of refusals; 404 is already a FileNotFoundError."""
RANGE_NOT_SATISFIABLE = 416
MAX_SHORT_ANSWERS = 2
"""Attempts that may end before the requested bytes. A short answer is requested once more: the
file may be that short, or something on the way cut the answer."""


class CutShortError(RuntimeError):
    """A file that ends before the requested bytes do."""


def short_answer(path: str, start: int, size: int, received: int) -> CutShortError:
    """Return the error for an answer with fewer bytes than requested."""
    return CutShortError(
        f"{path}: asked for {size} bytes at {start}, got {received}: the file is cut short"
    )


def delay_s(attempt: int) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 0).

    The delay is capped exponential backoff with jitter.
    """
    # Jitter keeps the ranks of a run from retrying at the same moment.
    return random.uniform(0.5, 1.0) * min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**attempt)


def time_limit_s(size: int) -> float:
    """Return the time limit of one attempt to move `size` bytes."""
    return TIMEOUT_S + size / SLOWEST_BYTES_PER_S


class _HedgeDelay:
    """Time until a read gets a second request, derived from recent reads of its kind."""

    def __init__(self) -> None:
        self._recent_s: deque[float] = deque(maxlen=RECENT_READS)

    def add(self, seconds: float) -> None:
        self._recent_s.append(seconds)

    @property
    def seconds(self) -> float:
        # A percentile of few reads would be noise.
        if len(self._recent_s) < RECENT_READS // 4:
            return FIRST_HEDGE_S
        percentile_95_s = sorted(self._recent_s)[int(0.95 * len(self._recent_s))]
        return max(MIN_HEDGE_S, HEDGE_FACTOR * percentile_95_s)


_small_reads = _HedgeDelay()
_large_reads = _HedgeDelay()


async def _call(fs: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of an fsspec file system from the event loop."""
    # The methods of asynchronous file systems have the same names with an underscore. Others
    # would block the event loop, and with it all other requests.
    if fs.async_impl:
        return await getattr(fs, f"_{method}")(*arguments, **options)
    return await asyncio.to_thread(getattr(fs, method), *arguments, **options)


async def _hedged(request: Callable[[], Awaitable[Result]], delay: _HedgeDelay) -> Result:
    """Return the first answer of up to two equal requests."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    tasks = {asyncio.ensure_future(request())}
    try:
        _, pending = await asyncio.wait(tasks, timeout=delay.seconds)
        if pending:
            # The first request goes on: whichever answers first wins.
            tasks.add(asyncio.ensure_future(request()))
        while True:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            answered = [task for task in done if task.exception() is None]
            if answered:
                delay.add(loop.time() - started_at)
                return answered[0].result()
            if not pending:
                return next(iter(done)).result()  # raises the request's error
            # One request failed; the other may still answer.
            tasks = pending
    finally:
        # The slower request would occupy a connection.
        for task in tasks:
            task.cancel()


async def _retried(request: Callable[[], Awaitable[Result]], what: str, limit_s: float) -> Result:
    """Return the answer of `request`, with retries and a time limit for each attempt.

    Raises:
        Exception: one of NON_RETRYABLE, at once.
        RuntimeError: every attempt failed; the last error is its cause.
    """
    started_at = time.monotonic()
    for attempt in range(MAX_ATTEMPTS):
        try:
            return await asyncio.wait_for(request(), limit_s)
        except Exception as raised:  # each client library has its own errors
            error = _real_error(raised)
            if isinstance(error, NON_RETRYABLE):
                raise
            # Nobody tells a short file from an answer that was cut, so one retry must do.
            if isinstance(error, CutShortError) and attempt + 1 >= MAX_SHORT_ANSWERS:
                raise
            reason = _reason(error, limit_s)
            # aiohttp's errors have a status; botocore's become PermissionError in s3fs.
            if getattr(error, "status", None) in NON_RETRYABLE_STATUSES:
                raise PermissionError(f"{what}: {reason}") from error
            if attempt == MAX_ATTEMPTS - 1:
                raise RuntimeError(
                    f"{what}: failed {MAX_ATTEMPTS} times, last with {reason}"
                ) from error
            if time.monotonic() - started_at >= NOTICE_S:
                _notice(f"{what}: {reason}. Trying again, {MAX_ATTEMPTS} times in all")
            await asyncio.sleep(delay_s(attempt))
    raise AssertionError("unreachable")


_last_notice_at = float("-inf")


def _notice(text: str) -> None:
    """Log a warning, at most once in NOTICE_EVERY_S."""
    global _last_notice_at
    if time.monotonic() - _last_notice_at >= NOTICE_EVERY_S:
        _last_notice_at = time.monotonic()
        log.warning("%s", text)


def _real_error(error: BaseException) -> BaseException:
    """Return the error, or the failed web request that fsspec reports as a missing file.

    When fsspec asks a web server for a file's size, every failure becomes FileNotFoundError.
    """
    cause = error.__cause__
    if cause is None or not isinstance(error, FileNotFoundError):
        return error
    is_network_error = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp.")
    is_missing = getattr(cause, "status", 0) == 404
    return cause if is_network_error and not is_missing else error


def _reason(error: BaseException, limit_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {limit_s:.0f} s"
    return f"{type(error).__name__}: {brief(error)}"


async def _read_range(fs: Any, path: str, start: int, size: int) -> bytes:
    """Read bytes [start, start + size) in one attempt."""
    try:
        data = bytes(await _call(fs, "cat_file", path, start=start, end=start + size))
    except Exception as error:
        if _is_past_the_end(error):
            raise CutShortError(
                f"{path}: asked for {size} bytes at {start}: the file ends before"
            ) from error
        raise
    # A web server without ranges sends the whole file, for every item again.
    if len(data) > size:
        raise ValueError(
            f"{path}: the server answers a ranged read of {size:,} bytes with {len(data):,}. "
            "mlrec needs a server that supports range requests"
        )
    if len(data) < size:
        raise short_answer(path, start, size, len(data))
    return data


def _is_past_the_end(error: Exception) -> bool:
    """Return whether the server refused the range because the file ends before it."""
    is_refused = getattr(error, "status", None) == RANGE_NOT_SATISFIABLE
    return is_refused or "InvalidRange" in f"{error} {error.__cause__}"


def call(fs: Any, method: str, *arguments: Any, limit_s: float = TIMEOUT_S, **options: Any) -> Any:
    """Return the result of a method of an fsspec file system, with retries.

    Args:
        limit_s: seconds for each attempt.

    Raises:
        Exception: one of NON_RETRYABLE.
        RuntimeError: every attempt failed.
    """

    def request() -> Awaitable[Any]:
        return _call(fs, method, *arguments, **options)

    what = str(arguments[-1])
    return _submit(_retried(request, what, limit_s)).result()


def read_ranges(
    fs: Any, ranges: Iterable[tuple[str, int, int]], in_flight: int
) -> Generator[bytes | Exception, None, None]:
    """Yield the bytes of each (path, start, size), in order; a failed read yields its error.

    Closing the generator cancels the reads under way.

    Args:
        in_flight: number of reads at the same time.
    """
    pending: deque[Future[bytes]] = deque()
    remaining = iter(ranges)
    try:
        while True:
            # Keep the pipeline full before waiting for the oldest read.
            while len(pending) < in_flight and (asked := next(remaining, None)) is not None:
                pending.append(_submit(_read_reliably(fs, *asked)))
            if not pending:
                return
            try:
                data: bytes | Exception = pending.popleft().result()
            except (*NON_RETRYABLE, OSError, RuntimeError) as error:
                data = cast("Exception", error)
            yield data
    finally:
        # The caller may stop early, for example at an item that fails.
        for future in pending:
            future.cancel()


async def _read_reliably(fs: Any, path: str, start: int, size: int) -> bytes:
    """Read bytes [start, start + size), with second requests and retries."""
    # A large read takes longer without being a straggler.
    delay = _small_reads if size < SMALL_READ_BYTES else _large_reads

    def read() -> Awaitable[bytes]:
        return _read_range(fs, path, start, size)

    def read_hedged() -> Awaitable[bytes]:
        return _hedged(read, delay)

    return await _retried(read_hedged, path, time_limit_s(size))


def _submit(coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Run a coroutine on fsspec's event loop, which has a thread of its own."""
    return asyncio.run_coroutine_threadsafe(coroutine, fsspec.asyn.get_loop())
