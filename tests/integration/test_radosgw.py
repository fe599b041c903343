"""The same commands against a real S3 store, Ceph's gateway.

launch/test.sh runs these where it can install Ceph.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from launching import result_of, run
from radosgw import KEY, ObjectStore, missing_programs
from runs import TOLERANCE, losses, metric, results, settings
from s3fs import S3FileSystem

from mlrec import storage
from mlrec.data.format import read_dataset_info
from mlrec.storage import transfer

pytestmark = pytest.mark.radosgw
BUCKET = "real"
SHARDS = [sys.executable, "-m", "shards_tools.cli"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Yield the URL of an empty bucket, to which the environment leads S3 clients."""
    if missing := missing_programs():
        pytest.fail(
            f"Ceph is not installed ({', '.join(missing)}); bash launch/test.sh installs it"
        )
    folder = Path(tempfile.mkdtemp(prefix="mlrec-", dir="/tmp"))
    try:
        with ObjectStore(folder) as store, pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", store.url)
            patch.setenv("AWS_ACCESS_KEY_ID", KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
            patch.setenv("AWS_DEFAULT_REGION", "default")
            # clients of other tests in this process have another server and other keys
            boto3.session.Session().client("s3").create_bucket(Bucket=BUCKET)
            S3FileSystem.clear_instance_cache()
            yield f"s3://{BUCKET}"
    finally:
        S3FileSystem.clear_instance_cache()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pushed(bucket: str, dataset_dir: Path) -> str:
    """Return the URL of a pushed copy of the tiny data set."""
    run([*SHARDS, "push", str(dataset_dir), f"{bucket}/pushed"])
    return f"{bucket}/pushed"


def contents(url: str) -> dict[str, bytes]:
    """Return the content of every file below a URL, by path."""
    return {path: storage.read_bytes(storage.join(url, path)) for path in storage.list_files(url)}


def test_push_on_ceph_is_complete_and_repeatable(pushed: str, dataset_dir: Path) -> None:
    run([*SHARDS, "push", str(dataset_dir), pushed])
    assert "no fault" in result_of([*SHARDS, "check", pushed])
    files = read_dataset_info(str(dataset_dir)).files
    for file in files:
        pushed_bytes = storage.read_bytes(storage.join(pushed, file.path))
        assert pushed_bytes == (dataset_dir / file.path).read_bytes()


def test_make_on_ceph_writes_the_bytes_of_a_folder(
    bucket: str, raw_dir: Path, dataset_dir: Path
) -> None:
    settings = ["--size", "32", "--items-per-shard", "16", "--users-per-shard", "50"]
    run([*SHARDS, "make", str(raw_dir), f"{bucket}/made", *settings, "--workers", "2"])
    assert contents(f"{bucket}/made") == contents(str(dataset_dir))


def test_train_from_ceph_has_the_losses_and_metrics_of_a_folder(
    pushed: str, dataset_dir: Path, tmp_path: Path
) -> None:
    train = [sys.executable, "-m", "mlrec", "train"]
    overrides = ["train.duration=2 epochs", "data.num_workers=1"]
    for name, url in (("disk", str(dataset_dir)), ("store", pushed)):
        run([*train, *settings(url, tmp_path / name, *overrides)])
    disk = tmp_path / "disk" / "run"
    store = tmp_path / "store" / "run"
    assert losses(store) == pytest.approx(losses(disk), abs=TOLERANCE)
    assert results(store)["metrics"]["all"] == pytest.approx(results(disk)["metrics"]["all"])
    assert sum(metric(store, "data/remote_bytes")) > 0
    assert len(list((tmp_path / "store" / "cache" / "items").glob("*.tar"))) == 4


def test_storage_on_ceph_reads_large_files_back(bucket: str, tmp_path: Path) -> None:
    # 75 MB: several parts of an upload, several blocks of a download
    content = bytes(range(251)) * 300_000
    (tmp_path / "file").write_bytes(content)
    storage.publish(tmp_path / "file", f"{bucket}/large")
    assert storage.read_bytes(f"{bucket}/large", len(content)) == content
    assert storage.read_range(f"{bucket}/large", len(content) - 7, 7) == content[-7:]


def test_storage_on_ceph_tells_short_from_missing_files(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/small", b"0123456789")
    for start, size in ((8, 4), (10, 4), (100, 4)):
        with pytest.raises(transfer.CutShortError):
            storage.read_range(f"{bucket}/small", start, size)
    with pytest.raises(FileNotFoundError):
        storage.read_range(f"{bucket}/nothing", 0, 4)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{bucket}/nothing")
