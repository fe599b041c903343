"""mlrec-shards against an S3 server: it writes the same bytes to s3:// as to a folder."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mlrec import storage
from mlrec.data.format import CATALOGUE_FILE, DATASET_FILE, item_shard
from mlrec.runtime import progress
from shards_tools.check.dataset import check
from shards_tools.cli import main
from shards_tools.make import make
from shards_tools.pack.settings import Settings
from shards_tools.push import push
from shards_tools.repair.dataset import repair

# those of the fixture dataset_dir
SETTINGS = Settings(size=32, items_per_shard=16, users_per_shard=50)
OPTIONS = ["--size", "32", "--items-per-shard", "16", "--users-per-shard", "50", "--workers", "2"]
"""The same on the command line."""


def contents(url: str) -> dict[str, bytes]:
    """Return the content of every file below a URL, by path."""
    return {path: storage.read_bytes(storage.join(url, path)) for path in storage.list_files(url)}


def test_commands_on_s3_write_the_bytes_of_a_folder(
    s3: str, raw_dir: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{s3}/nested/whole"
    assert main(["make", str(raw_dir), url, *OPTIONS]) == 0
    assert contents(url) == contents(str(dataset_dir))
    assert main(["make", str(raw_dir), url, *OPTIONS]) == 0
    assert "complete already" in capsys.readouterr().err
    assert main(["check", url]) == 0
    assert main(["show", url]) == 0


def put_folder(folder: Path, url: str) -> None:
    """Copy a folder to a URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.write_bytes(storage.join(url, str(path.relative_to(folder))), path.read_bytes())


@pytest.fixture(scope="module")
def s3_raw(s3: str, raw_dir: Path) -> str:
    """Return the URL of a copy of the raw folder."""
    put_folder(raw_dir, f"{s3}/raw")
    return f"{s3}/raw"


def data_set(url: str) -> dict[str, bytes]:
    """Return the content of every file of a data set, without its work folder."""
    files = contents(url)
    return {path: files[path] for path in files if not path.startswith("_work/")}


def test_make_from_s3_to_s3_writes_the_same_bytes(
    s3: str, s3_raw: str, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{s3}/from-raw"
    make(s3_raw, url, SETTINGS, 2, None, Console(file=io.StringIO()))
    assert data_set(url) == data_set(str(dataset_dir))
    log = io.StringIO()
    make(s3_raw, url, SETTINGS, 2, None, Console(file=log))
    assert "complete already" in log.getvalue()
    storage.write_bytes(f"{s3_raw}/videos/1.mp4", b"another")
    try:
        assert main(["make", s3_raw, url, *OPTIONS]) == 2
        assert "the raw folder has changed since " in capsys.readouterr().err
    finally:
        # other tests pack the same folder
        video = dataset_dir.parent / "raw" / "videos" / "1.mp4"
        storage.write_bytes(f"{s3_raw}/videos/1.mp4", video.read_bytes())
    assert main(["make", f"{s3}/no-such-folder", url]) == 2
    assert "no-such-folder is missing" in capsys.readouterr().err


def test_repair_on_s3_replaces_the_damaged_files(s3: str, s3_raw: str, dataset_dir: Path) -> None:
    url = f"{s3}/to-repair"
    put_folder(dataset_dir, url)
    for path, content in {item_shard(1): b"", CATALOGUE_FILE: b"x"}.items():
        storage.write_bytes(storage.join(url, path), content)
    storage.remove(storage.join(url, item_shard(2)))
    assert list(repair(s3_raw, url, 2, Console(file=io.StringIO()))) == [
        CATALOGUE_FILE,
        item_shard(1),
        item_shard(2),
    ]
    assert contents(url) == contents(str(dataset_dir))


def test_push_on_s3_continues_and_replaces_damaged_files(s3: str, dataset_dir: Path) -> None:
    source, target = f"{s3}/pushed-from", f"{s3}/pushed-to"
    put_folder(dataset_dir, source)
    stopped = push(source, target)
    first = next(stopped)
    stopped.close()
    assert not storage.exists(storage.join(target, DATASET_FILE))
    # of the right size, so that a resumed push takes it for its own, and does not copy it again
    marked = b"#" + storage.read_bytes(storage.join(target, first.path))[1:]
    storage.write_bytes(storage.join(target, first.path), marked)
    assert list(push(source, target))
    assert contents(target) == contents(source) | {first.path: marked}
    # a complete push compares the bytes
    assert list(push(source, target))
    assert contents(target) == contents(source)


def test_make_on_s3_continues_a_stopped_run(
    s3: str, raw_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    make(raw_dir, url, SETTINGS, 2, None, Console(file=log))
    assert "/28" in log.getvalue(), "of 60 items 32 were there"
    assert contents(url) == contents(str(dataset_dir))


def test_check_on_s3_names_faults(s3: str, dataset_dir: Path) -> None:
    url = f"{s3}/damaged"
    for path, content in contents(str(dataset_dir)).items():
        if path != item_shard(2):
            content = content[: len(content) // 2] if path == item_shard(1) else content
            storage.write_bytes(storage.join(url, path), content)
    faults = list(check(url))
    assert len(faults) == 2
    assert "members are lost" in faults[0]
    assert faults[1] == f"{item_shard(2)}: missing"


def test_commands_missing_bucket_is_bad_input(
    s3: str, raw_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "s3://no-such-bucket/data"]) == 2
    assert "There is no data set at" in capsys.readouterr().err
    assert main(["make", str(raw_dir), "s3://no-such-bucket/data"]) == 2
    assert (
        "s3://no-such-bucket/data/_work/settings.json cannot be written" in capsys.readouterr().err
    )
