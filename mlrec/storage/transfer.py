"""Reads over the network: many in flight, each with a time limit, a second request for stragglers, and retries."""

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

RETRIES = 12
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0

NOTICE_S = 2.0
"""Seconds of failed tries after which users are told that storage fails."""
NOTICE_EVERY_S = 60.0
"""Seconds between two such notices of one process."""

TIMEOUT_S = 30.0
"""Time limit of one try, beside the time that its bytes take at SLOWEST_BYTES_PER_S."""
SLOWEST_BYTES_PER_S = 256 << 10
LISTING_S = 1800.0
"""Time limit of one try to list a folder: a million files come in a thousand pages, one after the other."""

FIRST_HEDGE_S = 3.0
"""A read that takes longer gets a second request, until enough reads have told what is usual."""
MIN_HEDGE_S = 0.25
HEDGE_FACTOR = 3.0
"""A read is a straggler when it takes this many times as long as 95 % of the recent ones."""
RECENT_READS = 64

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


REFUSALS = (400, 401, 403)
"""HTTP answers that trying again does not mend; 404 is a FileNotFoundError already."""


class CutShortError(RuntimeError):
    """A file that ends before the bytes that were asked for."""


SHORT_TRIES = 2
"""A short answer is asked for once more: it is the file's own end, unless something on the way cut it."""


def delay_s(attempt: int) -> float:
    """How long to wait after the failed try number `attempt` (from 0): capped exponential backoff with jitter."""
    return random.uniform(0.5, 1.0) * min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**attempt)


class _Patience:
    """How long a read may take before a second request is sent: by what recent reads of its kind took."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_READS)

    def add(self, seconds: float) -> None:
        self._recent.append(seconds)

    @property
    def hedge_s(self) -> float:
        if len(self._recent) < RECENT_READS // 4:
            return FIRST_HEDGE_S
        return max(MIN_HEDGE_S, HEDGE_FACTOR * sorted(self._recent)[int(0.95 * len(self._recent))])


_small, _large = _Patience(), _Patience()


async def _call(fs: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """A method of an fsspec file system on the event loop."""
    if fs.async_impl:
        return await getattr(fs, f"_{method}")(*arguments, **options)
    return await asyncio.to_thread(getattr(fs, method), *arguments, **options)


async def _hedged(request: Callable[[], Awaitable[Result]], patience: _Patience) -> Result:
    """What the first of up to two equal requests answers."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = {asyncio.ensure_future(request())}
    try:
        done, pending = await asyncio.wait(tasks, timeout=patience.hedge_s)
        if pending:
            tasks.add(asyncio.ensure_future(request()))
        while True:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            answered = [task for task in done if task.exception() is None]
            if answered:
                patience.add(loop.time() - began)
                return answered[0].result()
            if not pending:
                return next(iter(done)).result()  # raises
            tasks = pending
    finally:
        for task in tasks:
            task.cancel()


async def _persistent(
    request: Callable[[], Awaitable[Result]], what: str, limit_s: float
) -> Result:
    """What `request` answers, tried again with a time limit for each try.

    Raises:
        Exception: one of LASTING, at once.
        RuntimeError: every try failed; the last reason is its cause.
    """
    began = time.monotonic()
    for attempt in range(RETRIES):
        try:
            return await asyncio.wait_for(request(), limit_s)
        except Exception as raised:  # each client library has errors of its own kind
            error = _answer(raised)
            if isinstance(error, LASTING):
                raise
            if isinstance(error, CutShortError) and attempt + 1 >= SHORT_TRIES:
                raise
            if getattr(error, "status", None) in REFUSALS:
                raise PermissionError(f"{what}: {_reason(error, limit_s)}") from error
            if attempt == RETRIES - 1:
                raise RuntimeError(
                    f"{what}: failed {RETRIES} times, last with {_reason(error, limit_s)}"
                ) from error
            if time.monotonic() - began >= NOTICE_S:
                _notice(
                    f"{what}: {_reason(error, limit_s)}; it is tried again, {RETRIES} times in all"
                )
            await asyncio.sleep(delay_s(attempt))
    raise AssertionError("unreachable")


_noticed = float("-inf")
"""When the last notice was given."""


def _notice(words: str) -> None:
    global _noticed
    if time.monotonic() - _noticed >= NOTICE_EVERY_S:
        _noticed = time.monotonic()
        log.warning("%s", words)


def _answer(error: BaseException) -> BaseException:
    """The error, or what is behind it: when fsspec asks a web server for a size, whatever goes wrong is a missing file."""
    cause = error.__cause__
    is_webs = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp.")
    return (
        cause
        if cause
        and is_webs
        and isinstance(error, FileNotFoundError)
        and getattr(cause, "status", 0) != 404
        else error
    )


def _reason(error: BaseException, limit_s: float) -> str:
    return (
        f"no answer within {limit_s:.0f} s"
        if isinstance(error, TimeoutError)
        else f"{type(error).__name__}: {brief(error)}"
    )


async def _read_range(fs: Any, path: str, start: int, size: int) -> bytes:
    try:
        data = bytes(await _call(fs, "cat_file", path, start=start, end=start + size))
    except Exception as error:
        if _is_past_the_end(error):
            raise CutShortError(
                f"{path}: asked for {size} bytes at {start}: the file ends before"
            ) from error
        raise
    if len(data) > size:
        raise ValueError(
            f"{path}: the server answers a ranged read with more than was asked for; mlrec needs one that serves ranges"
        )
    if len(data) < size:
        raise CutShortError(
            f"{path}: asked for {size} bytes at {start}, got {len(data)}: the file is cut short"
        )
    return data


def _is_past_the_end(error: Exception) -> bool:
    """Whether a server said 416, Range Not Satisfiable."""
    return getattr(error, "status", None) == 416 or "InvalidRange" in f"{error} {error.__cause__}"


def limit_of(size: int) -> float:
    """Seconds that one try may take to move so many bytes."""
    return TIMEOUT_S + size / SLOWEST_BYTES_PER_S


def call(fs: Any, method: str, *arguments: Any, limit_s: float = TIMEOUT_S, **options: Any) -> Any:
    """What a method of an fsspec file system returns, with retries and a time limit for each try.

    Raises:
        Exception: one of LASTING.
        RuntimeError: every try failed.
    """
    what = str(arguments[-1])
    return _submit(
        _persistent(lambda: _call(fs, method, *arguments, **options), what, limit_s)
    ).result()


def read_ranges(
    fs: Any, ranges: Iterable[tuple[str, int, int]], in_flight: int
) -> Generator[bytes | Exception, None, None]:
    """The bytes of each (path, start, size), or why they cannot be had, in order; up to `in_flight` reads run at once.

    Closing the generator stops the reads that are under way.
    """
    pending: deque[Future[bytes]] = deque()
    waiting = iter(ranges)
    try:
        while True:
            while len(pending) < in_flight and (asked := next(waiting, None)) is not None:
                pending.append(_submit(_read_persistently(fs, *asked)))
            if not pending:
                return
            try:
                found: bytes | Exception = pending.popleft().result()
            except (*LASTING, OSError, RuntimeError) as error:
                found = cast("Exception", error)
            yield found
    finally:
        for future in pending:
            future.cancel()


async def _read_persistently(fs: Any, path: str, start: int, size: int) -> bytes:
    patience = _small if size < 1 << 20 else _large
    return await _persistent(
        lambda: _hedged(lambda: _read_range(fs, path, start, size), patience), path, limit_of(size)
    )


def _submit(coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
    return asyncio.run_coroutine_threadsafe(coroutine, fsspec.asyn.get_loop())
