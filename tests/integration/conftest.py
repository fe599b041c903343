"""The fixture of an S3 server; a test module takes it with `pytest_plugins = ["s3_server"]`."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import BotoCoreError

BUCKET = "datasets"


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an empty bucket on a server of this machine; the environment leads S3 clients there."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", endpoint.rpartition(":")[2]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            create_bucket()
            yield f"s3://{BUCKET}"
        finally:
            server.kill()
            server.wait()


def create_bucket() -> None:
    """Waits for the server and makes the bucket."""
    deadline = time.monotonic() + 30
    while True:
        try:
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            return
        except BotoCoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
