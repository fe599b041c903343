"""A local S3 server behind a proxy that logs and breaks requests, and a process that trains."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError
from launching import free_port
from proxy import Proxy
from runs import STEPS_PER_EPOCH, losses, settings
from trainer import Trainer

from shards_tools.push import push

BUCKET = "datasets"
KEY = "a-secret-that-no-file-may-hold"


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[Proxy]:
    """Yield the proxy in front of a server with an empty bucket.

    The environment points S3 clients to it.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    proxy = Proxy(port)
    environment = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            create_bucket(f"http://127.0.0.1:{port}")
            yield proxy
        finally:
            proxy.close()
            server.kill()
            server.wait()


def create_bucket(endpoint: str) -> None:
    """Wait for the server and create the bucket."""
    deadline = time.monotonic() + 30
    while True:
        try:
            boto3.client("s3", endpoint_url=endpoint).create_bucket(
                Bucket=BUCKET, ACL="public-read"
            )
            return
        except BotoCoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="session")
def s3(s3_proxy: Proxy) -> str:
    """The URL of a bucket."""
    return f"s3://{BUCKET}"


@pytest.fixture
def proxy(s3_proxy: Proxy) -> Iterator[Proxy]:
    """The proxy with a fresh log and no rules."""
    s3_proxy.clear()
    yield s3_proxy
    s3_proxy.clear()


@pytest.fixture(scope="session")
def s3_data(s3: str, dataset_dir: Path) -> str:
    """The URL of the tiny data set in the bucket."""
    list(push(str(dataset_dir), f"{s3}/tiny"))
    return f"{s3}/tiny"


@pytest.fixture(scope="session")
def upload(s3: str) -> Callable[[Path, str], str]:
    """Return a function that copies a folder, damaged or not, into the bucket."""

    def copy(folder: Path, name: str) -> str:
        client = boto3.client("s3")
        for file in filter(Path.is_file, folder.rglob("*")):
            client.put_object(
                Bucket=BUCKET, Key=f"{name}/{file.relative_to(folder)}", Body=file.read_bytes()
            )
        return f"{s3}/{name}"

    return copy


@pytest.fixture(scope="session")
def trainer(s3_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A process that trains one run after another."""
    with Trainer(tmp_path_factory.mktemp("trainer")) as process:
        yield process


@pytest.fixture(scope="session")
def undisturbed(
    trainer: Trainer, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run of three epochs over the videos on disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = trainer.train(*settings(dataset_dir, folder), "train.duration=3 epochs")
    assert outcome.code == 0, outcome.output
    return folder / "run"


@pytest.fixture(scope="session")
def curve(undisturbed: Path) -> list[float]:
    """Its losses; shorter runs have the first ones of them."""
    loss_curve = losses(undisturbed)
    assert len(loss_curve) == 3 * STEPS_PER_EPOCH
    return loss_curve
