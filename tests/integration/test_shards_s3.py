"""The packer against an S3 server: what it writes to s3:// is what it writes to a folder."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mlrec import storage
from mlrec.data.format import DATASET_FILE, item_shard
from shards_tools.check import check
from shards_tools.cli import main
from shards_tools.make import Settings, make

SETTINGS = Settings(size=32, items_per_shard=16, users_per_shard=50)  # those of the fixture dataset_dir


def contents(url: str) -> dict[str, bytes]:
    return {path: storage.read_bytes(storage.join(url, path)) for path in storage.list_files(url)}


def test_make_and_check_as_commands(s3: str, raw_dir: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{s3}/nested/whole"
    options = ["--size", "32", "--items-per-shard", "16", "--users-per-shard", "50", "--workers", "2"]
    assert main(["make", str(raw_dir), url, *options]) == 0
    assert contents(url) == contents(str(dataset_dir))
    assert main(["make", str(raw_dir), url, *options]) == 0
    assert "complete already" in capsys.readouterr().err
    assert main(["check", url]) == 0
    assert main(["show", url]) == 0


def test_a_run_goes_on_where_one_stopped(s3: str, raw_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_faults_are_found(s3: str, dataset_dir: Path) -> None:
    url = f"{s3}/damaged"
    for path, content in contents(str(dataset_dir)).items():
        if path != item_shard(2):
            content = content[: len(content) // 2] if path == item_shard(1) else content
            storage.write_bytes(storage.join(url, path), content)
    faults = list(check(url))
    assert len(faults) == 2
    assert "members are lost" in faults[0]
    assert faults[1] == f"{item_shard(2)}: missing"


def test_a_bucket_that_is_not_there_is_bad_input(s3: str, raw_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "s3://no-such-bucket/data"]) == 2
    assert "is not a data set" in capsys.readouterr().err
    assert main(["make", str(raw_dir), "s3://no-such-bucket/data"]) == 2
    assert "s3://no-such-bucket/data/_work/settings.json cannot be written" in capsys.readouterr().err
