"""Requests and time that single reads cost through a proxy that misbehaves."""

from __future__ import annotations

import time

import boto3
import pytest
from conftest import BUCKET
from proxy import Fault, Proxy

from mlrec import storage
from mlrec.storage import transfer

CONTENT = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def file(s3: str) -> str:
    """Upload a file for these tests, and return its URL."""
    boto3.client("s3").put_object(Bucket=BUCKET, Key="transfers/file", Body=CONTENT)
    return f"{s3}/transfers/file"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Shorten the delays between attempts in this process."""
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(transfer, "MAX_DELAY_S", 0.05)
    return monkeypatch


def read(url: str) -> bool:
    """Return whether a range of the file is read correctly."""
    return storage.read_range(url, 512, 100) == CONTENT[512:612]


def test_read_range_of_a_missing_object_costs_one_request(s3: str, proxy: Proxy) -> None:
    with pytest.raises(FileNotFoundError):
        read(f"{s3}/transfers/nothing")
    assert len(proxy.requests("nothing")) == 1


@pytest.mark.parametrize("kind", [500, 503, "reset"])
@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_read_range_that_always_fails_costs_one_request_per_attempt(
    scheme: str, kind: int, file: str, proxy: Proxy
) -> None:
    proxy.rules.append(Fault(kind, "transfers"))
    with pytest.raises(RuntimeError, match=f"transfers/file: failed {transfer.MAX_ATTEMPTS} times"):
        read(file if scheme == "s3" else file.replace("s3:/", proxy.url))
    # The client libraries would multiply this number if they retried as well.
    assert len(proxy.requests("transfers")) == transfer.MAX_ATTEMPTS


def test_read_range_without_an_answer_is_cancelled_and_retried(
    file: str, proxy: Proxy, quick: pytest.MonkeyPatch
) -> None:
    quick.setattr(transfer, "TIMEOUT_S", 0.3)
    proxy.rules.append(Fault("hang", "transfers", times=2))
    assert read(file)
    assert len(proxy.requests("transfers")) == 3
    proxy.rules.append(Fault("hang", "transfers"))
    with pytest.raises(
        RuntimeError, match=f"failed {transfer.MAX_ATTEMPTS} times, last with no answer"
    ):
        read(file)


def test_read_range_that_straggles_gets_a_second_request(
    file: str, proxy: Proxy, quick: pytest.MonkeyPatch
) -> None:
    quick.setattr(transfer, "FIRST_HEDGE_S", 0.2)
    proxy.rules.append(Fault("hang", "transfers", times=1))
    started_at = time.monotonic()
    assert read(file)
    assert time.monotonic() - started_at < 5, "far below the time limit of an attempt"
    assert len(proxy.requests("transfers")) == 2


def test_read_bytes_with_failing_requests_is_complete(s3: str, proxy: Proxy) -> None:
    proxy.rules += [
        Fault("reset", "transfers", times=1),
        Fault(503, "transfers", times=1),
        Fault("truncate", "transfers", times=1),
    ]
    assert storage.read_bytes(f"{s3}/transfers/file") == CONTENT


@pytest.mark.parametrize("kind", [403, 404])
def test_read_bytes_that_is_refused_is_not_reported_as_missing(
    kind: int, file: str, proxy: Proxy
) -> None:
    proxy.rules += [Fault(kind, "transfers"), Fault(kind, "transfers", method="HEAD")]
    for url in (file, file.replace("s3:/", proxy.url)):
        with pytest.raises(FileNotFoundError if kind == 404 else (PermissionError, RuntimeError)):
            storage.read_bytes(url)
