"""Single reads through a proxy that misbehaves: what they cost in requests and in time."""

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
    """The URL of a file of its own."""
    boto3.client("s3").put_object(Bucket=BUCKET, Key="transfers/file", Body=CONTENT)
    return f"{s3}/transfers/file"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Short waits in this process."""
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(transfer, "MAX_DELAY_S", 0.05)
    return monkeypatch


def read(url: str) -> bool:
    return storage.read_range(url, 512, 100) == CONTENT[512:612]


def test_a_missing_object_is_asked_for_once(s3: str, proxy: Proxy) -> None:
    with pytest.raises(FileNotFoundError):
        read(f"{s3}/transfers/nothing")
    assert len(proxy.requests("nothing")) == 1


@pytest.mark.parametrize("kind", [500, 503, "reset"])
@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_fault_that_stays_costs_one_request_a_try(
    scheme: str, kind: int, file: str, proxy: Proxy
) -> None:
    proxy.rules.append(Fault(kind, "transfers"))
    with pytest.raises(RuntimeError, match=f"transfers/file: failed {transfer.MAX_ATTEMPTS} times"):
        read(file if scheme == "s3" else file.replace("s3:/", proxy.url))
    assert len(proxy.requests("transfers")) == transfer.MAX_ATTEMPTS, (
        "client libraries do not retry on their own below that"
    )


def test_a_request_without_an_answer_is_given_up(
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


def test_a_straggler_is_overtaken_by_a_second_request(
    file: str, proxy: Proxy, quick: pytest.MonkeyPatch
) -> None:
    quick.setattr(transfer, "FIRST_HEDGE_S", 0.2)
    proxy.rules.append(Fault("hang", "transfers", times=1))
    began = time.monotonic()
    assert read(file)
    assert time.monotonic() - began < 5, "far below the time limit of a try"
    assert len(proxy.requests("transfers")) == 2


def test_a_stream_is_whole_whatever_happens_to_its_requests(s3: str, proxy: Proxy) -> None:
    proxy.rules += [
        Fault("reset", "transfers", times=1),
        Fault(503, "transfers", times=1),
        Fault("truncate", "transfers", times=1),
    ]
    assert storage.read_bytes(f"{s3}/transfers/file") == CONTENT


@pytest.mark.parametrize("kind", [403, 404])
def test_what_is_refused_is_not_what_is_missing(kind: int, file: str, proxy: Proxy) -> None:
    proxy.rules += [Fault(kind, "transfers"), Fault(kind, "transfers", method="HEAD")]
    for url in (file, file.replace("s3:/", proxy.url)):
        with pytest.raises(FileNotFoundError if kind == 404 else (PermissionError, RuntimeError)):
            storage.read_bytes(url)
