"""Retries, time limits and second requests, against a file system whose answers are written down."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlrec.storage import transfer

CONTENT = bytes(range(200))


class ScriptedFiles:
    """An fsspec file system that answers each read by the next line of a script, and truly once the script is through."""

    async_impl = False

    def __init__(self, *script: Callable[[], bytes] | Exception | bytes) -> None:
        self.script, self.lock = list(script), threading.Lock()
        self.asked: list[tuple[int, int]] = []

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        with self.lock:
            self.asked.append((start, end))
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
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(transfer, "_small", transfer._Patience())


def read(fs: Any, start: int = 3, size: int = 4) -> bytes | Exception:
    (found,) = transfer.read_ranges(fs, [("s3://bucket/x", start, size)], in_flight=1)
    return found


def test_passing_faults_are_tried_again() -> None:
    assert read(ScriptedFiles(ClientError("503"), OSError("reset"))) == CONTENT[3:7]
    assert transfer.call(ScriptedFiles(ClientError("503"), OSError("reset")), "exists", "x") is True


def test_a_fault_that_stays_names_the_place_and_the_reason() -> None:
    fs = ScriptedFiles(*[ClientError("503 slow down")] * transfer.RETRIES)
    found = read(fs)
    assert isinstance(found, RuntimeError)
    assert (
        str(found)
        == f"s3://bucket/x: failed {transfer.RETRIES} times, last with ClientError: 503 slow down"
    )
    assert len(fs.asked) == transfer.RETRIES


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x")])
def test_a_lasting_fault_is_not_tried_again(error: Exception) -> None:
    fs = ScriptedFiles(error)
    assert read(fs) is error
    assert len(fs.asked) == 1


def test_a_short_answer_is_asked_for_once_more() -> None:
    assert read(ScriptedFiles(b"12")) == CONTENT[3:7]
    fs = ScriptedFiles(b"12", b"12", b"12")
    assert isinstance(read(fs), transfer.CutShortError)
    assert len(fs.asked) == transfer.SHORT_TRIES


def test_a_server_without_ranges_is_told_from_one_with_them() -> None:
    found = read(ScriptedFiles(CONTENT))
    assert isinstance(found, ValueError)
    assert "mlrec needs one that serves ranges" in str(found)


def test_a_straggler_gets_a_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_HEDGE_S", 0.05)
    never = threading.Event()
    fs = ScriptedFiles(lambda: bytes(never.wait(2)))
    began = time.monotonic()
    assert read(fs) == CONTENT[3:7]
    assert time.monotonic() - began < 1
    never.set()
    assert len(fs.asked) == 2


def test_patience_follows_what_is_usual() -> None:
    patience = transfer._Patience()
    assert patience.hedge_s == transfer.FIRST_HEDGE_S
    for _ in range(transfer.RECENT_READS):
        patience.add(2.0)
    assert patience.hedge_s == 2.0 * transfer.HEDGE_FACTOR
    for _ in range(transfer.RECENT_READS):
        patience.add(0.001)
    assert patience.hedge_s == transfer.MIN_HEDGE_S


def test_a_read_that_hangs_is_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.2)
    never = threading.Event()
    hangs = [lambda: bytes(never.wait(3))] * 2
    assert read(ScriptedFiles(*hangs[:1])) == CONTENT[3:7]
    monkeypatch.setattr(transfer, "RETRIES", 2)
    found = read(ScriptedFiles(*hangs))
    assert "failed 2 times, last with no answer within 0 s" in str(found)
    never.set()


def test_reads_run_side_by_side_and_come_in_order() -> None:
    both = threading.Barrier(2, timeout=5)

    def slow() -> bytes:
        both.wait()
        return b"ab"

    ranges = [("x", 0, 2), ("x", 2, 2), ("x", 4, 2)]
    assert list(transfer.read_ranges(ScriptedFiles(slow, slow), ranges, in_flight=2)) == [
        b"ab",
        b"ab",
        CONTENT[4:6],
    ]


def test_storage_that_fails_for_long_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transfer, "NOTICE_S", 0.0)
    monkeypatch.setattr(transfer, "_noticed", float("-inf"))
    for _ in range(2):
        assert read(ScriptedFiles(ClientError("503"), ClientError("503"))) == CONTENT[3:7]
    assert caplog.messages == [
        "s3://bucket/x: ClientError: 503; it is tried again, 12 times in all"
    ]
