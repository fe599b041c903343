"""Retries, time limits and second requests, against a file system with scripted answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlrec.storage import transfer

CONTENT = bytes(range(200))
PATH = "s3://bucket/x"


class ScriptedFiles:
    """An fsspec file system that answers by a script, and with the content after its last line."""

    async_impl = False

    def __init__(self, *script: Callable[[], bytes] | Exception | bytes) -> None:
        self.script = list(script)
        self.lock = threading.Lock()
        self.requests: list[tuple[int, int]] = []
        """Start and end of each requested range."""

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        with self.lock:
            self.requests.append((start, end))
            answer = self.script.pop(0) if self.script else CONTENT[start:end]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    def exists(self, path: str) -> bool:
        with self.lock:
            answer = self.script.pop(0) if self.script else True
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)


class ClientError(Exception):
    """A storage library's own error."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without delays, and forget how long earlier reads took."""
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(transfer, "_small_reads", transfer._HedgeDelay())


def read(fs: Any, start: int = 3, size: int = 4) -> bytes | Exception:
    (answer,) = transfer.read_ranges(fs, [(PATH, start, size)], in_flight=1)
    return answer


def test_read_after_passing_faults_succeeds() -> None:
    assert read(ScriptedFiles(ClientError("503"), OSError("reset"))) == CONTENT[3:7]


def test_call_after_passing_faults_succeeds() -> None:
    fs = ScriptedFiles(ClientError("503"), OSError("reset"))
    assert transfer.call(fs, "exists", "x") is True


def test_read_that_always_fails_names_the_place_and_the_reason() -> None:
    fs = ScriptedFiles(*[ClientError("503 slow down")] * transfer.MAX_ATTEMPTS)
    error = read(fs)
    assert isinstance(error, RuntimeError)
    assert str(error) == f"{PATH}: failed 12 times, last with ClientError: 503 slow down"
    assert len(fs.requests) == transfer.MAX_ATTEMPTS == 12


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x")])
def test_read_with_a_non_retryable_error_is_not_retried(error: Exception) -> None:
    fs = ScriptedFiles(error)
    assert read(fs) is error
    assert len(fs.requests) == 1


def test_read_with_a_short_answer_is_retried_once() -> None:
    assert read(ScriptedFiles(b"12")) == CONTENT[3:7]
    fs = ScriptedFiles(b"12", b"12", b"12")
    assert isinstance(read(fs), transfer.CutShortError)
    assert len(fs.requests) == transfer.MAX_SHORT_ANSWERS


def test_read_from_a_server_without_ranges_is_refused() -> None:
    error = read(ScriptedFiles(CONTENT))
    assert isinstance(error, ValueError)
    assert "answers a ranged read of 4 bytes with 200" in str(error)
    assert "mlrec needs a server that supports range requests" in str(error)


def test_read_that_straggles_gets_a_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_HEDGE_S", 0.05)
    released = threading.Event()
    fs = ScriptedFiles(lambda: bytes(released.wait(2)))
    started_at = time.monotonic()
    assert read(fs) == CONTENT[3:7]
    assert time.monotonic() - started_at < 1
    released.set()
    assert len(fs.requests) == 2


def test_hedge_delay_follows_recent_reads() -> None:
    delay = transfer._HedgeDelay()
    assert delay.seconds == transfer.FIRST_HEDGE_S
    for _ in range(transfer.RECENT_READS):
        delay.add(2.0)
    assert delay.seconds == 2.0 * transfer.HEDGE_FACTOR
    for _ in range(transfer.RECENT_READS):
        delay.add(0.001)
    assert delay.seconds == transfer.MIN_HEDGE_S


def test_read_that_hangs_is_cancelled_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.2)
    released = threading.Event()

    def hang() -> bytes:
        return bytes(released.wait(3))

    assert read(ScriptedFiles(hang)) == CONTENT[3:7]
    monkeypatch.setattr(transfer, "MAX_ATTEMPTS", 2)
    error = read(ScriptedFiles(hang, hang))
    assert "failed 2 times, last with no answer within 0 s" in str(error)
    released.set()


def test_read_ranges_run_concurrently_and_arrive_in_order() -> None:
    both = threading.Barrier(2, timeout=5)

    def wait_for_the_other() -> bytes:
        both.wait()
        return b"ab"

    fs = ScriptedFiles(wait_for_the_other, wait_for_the_other)
    ranges = [("x", 0, 2), ("x", 2, 2), ("x", 4, 2)]
    answers = list(transfer.read_ranges(fs, ranges, in_flight=2))
    assert answers == [b"ab", b"ab", CONTENT[4:6]]


def test_notice_of_failing_storage_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transfer, "NOTICE_S", 0.0)
    monkeypatch.setattr(transfer, "_last_notice_at", float("-inf"))
    for _ in range(2):
        assert read(ScriptedFiles(ClientError("503"), ClientError("503"))) == CONTENT[3:7]
    assert caplog.messages == [f"{PATH}: ClientError: 503. Trying again, 12 times in all"]
