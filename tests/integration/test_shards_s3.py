"""The packer against an S3 server: what it writes to s3:// is what it writes to a folder."""

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError
from rich.console import Console

from mlrec import storage
from mlrec.data.format import DATASET_FILE, item_shard, read_dataset_info
from shards_tools.check import check
from shards_tools.cli import main
from shards_tools.make import Settings, make

BUCKET = "shards"
SETTINGS = Settings(size=32, items_per_shard=16, users_per_shard=50)  # those of the fixture dataset_dir


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
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


def contents(url: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(url, path)) for path in storage.list_files(url)}


def stop_after_first_shard(url: str) -> None:
    """Takes away what a run writes after its first shard."""
    for path in storage.list_files(url):
        if path not in (item_shard(0), "_work/settings.json", "_work/items-00000.json"):
            storage.remove(storage.join(url, path))


def test_make_and_check_as_commands(s3: str, raw_dir: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{s3}/nested/whole"
    options = ["--size", "32", "--items-per-shard", "16", "--users-per-shard", "50", "--workers", "2"]
    assert main(["make", str(raw_dir), url, *options]) == 0
    assert contents(url) == contents(str(dataset_dir))
    assert main(["make", str(raw_dir), url, *options]) == 0
    assert "complete already" in capsys.readouterr().err
    assert main(["check", url]) == 0
    assert main(["show", url]) == 0


def test_a_run_goes_on_where_one_stopped(
    s3: str, raw_dir: Path, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3}/stopped"
    publish = storage.publish

    def fail_at_third_shard(source: Path, target: str) -> None:
        if target.endswith(item_shard(2)):
            raise RuntimeError("the storage gave up")
        publish(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish", fail_at_third_shard)
        with pytest.raises(RuntimeError, match="gave up"):
            make(raw_dir, url, SETTINGS, 2, None, Console(file=io.StringIO()))
    assert not storage.exists(storage.join(url, DATASET_FILE))
    log = io.StringIO()
    make(raw_dir, url, SETTINGS, 2, None, Console(file=log))
    assert "28 of 28" in log.getvalue()
    assert contents(url) == contents(str(dataset_dir))


def test_faults_are_found(s3: str, dataset_dir: Path, tmp_path: Path) -> None:
    url = f"{s3}/damaged"
    for path, content in contents(str(dataset_dir)).items():
        if path != item_shard(2):
            content = content[: len(content) // 2] if path == item_shard(1) else content
            storage.write_bytes(storage.join(url, path), content)
    faults = list(check(url))
    assert len(faults) == 2
    assert "members are lost" in faults[0]
    assert faults[1] == f"{item_shard(2)}: missing"


def test_a_bucket_that_is_not_there_is_an_error(s3: str, raw_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "s3://no-such-bucket/data"]) == 2
    assert "is not a data set" in capsys.readouterr().err
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1")
    with pytest.raises(ValueError, match="is not a data set"):
        read_dataset_info(f"{s3}/absent")
