import hashlib
import logging
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
from filelock import FileLock

from mlrec.data.cache import ShardCache
from mlrec.data.format import FileInfo, read_dataset_info
from mlrec.data.sparse_shards import SparseShard

LONG_AGO, FAR_AHEAD = 10**9, 4 * 10**9  # 2001 and 2096, in seconds


@pytest.fixture
def shards(dataset_dir: Path) -> list[FileInfo]:
    return read_dataset_info(str(dataset_dir)).shards("items")


@pytest.fixture
def cache(dataset_dir: Path, tmp_path: Path) -> ShardCache:
    return ShardCache(str(dataset_dir), tmp_path / "cache", 1 << 30)


def names(cache: ShardCache, suffix: str) -> list[str]:
    return sorted(path.stem for path in cache.folder.glob(f"*.{suffix}"))


def until_there(cache: ShardCache, shard: FileInfo) -> bool:
    deadline = time.monotonic() + 20
    while cache.path(shard) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return cache.path(shard) is not None


def test_a_shard_is_downloaded_once_for_all_who_share_the_folder(
    cache: ShardCache, shards: list[FileInfo], dataset_dir: Path
) -> None:
    assert cache.path(shards[0]) is None
    path = cache.wait_for(shards[0])
    assert path.read_bytes() == (dataset_dir / shards[0].path).read_bytes()
    assert (cache.take_bytes(), cache.take_bytes()) == (shards[0].size, 0)
    other = ShardCache(cache.url, cache.folder, cache.budget_bytes)
    assert other.wait_for(shards[0]) == path
    assert other.take_bytes() == 0


def test_what_is_asked_for_comes_in_the_background_in_order(
    cache: ShardCache, shards: list[FileInfo]
) -> None:
    for shard in shards:
        cache.ask(shard)
    assert until_there(cache, shards[-1])
    assert names(cache, "tar") == sorted(shard.sha256 for shard in shards)
    assert cache.take_bytes() == sum(shard.size for shard in shards)


def test_a_fork_of_a_process_with_a_background_thread_has_its_own(
    cache: ShardCache, shards: list[FileInfo]
) -> None:
    cache.ask(shards[0])
    assert until_there(cache, shards[0])
    child = multiprocessing.get_context("fork").Process(
        target=_ask_and_wait, args=(cache, shards[1])
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert cache.path(shards[1]) is not None


def _ask_and_wait(cache: ShardCache, shard: FileInfo) -> None:
    cache.ask(shard)
    assert until_there(cache, shard)


def test_another_jobs_least_recently_used_shards_leave_first(
    cache: ShardCache, shards: list[FileInfo]
) -> None:
    for shard in shards[:3]:
        cache.wait_for(shard)
    os.utime(cache.path(shards[1]), (LONG_AGO, LONG_AGO))
    time.sleep(0.01)
    room = sum(shard.size for shard in shards[:3]) + 1
    later = ShardCache(cache.url, cache.folder, room)
    assert later.path(shards[2]) is not None, "in use again"
    assert later.wait_for(shards[3]) is not None
    assert names(later, "tar") == sorted(shards[at].sha256 for at in (0, 2, 3))


def test_a_job_does_not_push_out_what_it_reads_itself(
    dataset_dir: Path, tmp_path: Path, shards: list[FileInfo]
) -> None:
    cache = ShardCache(str(dataset_dir), tmp_path, shards[0].size + shards[1].size + 1)
    assert cache.wait_for(shards[0])
    assert cache.wait_for(shards[1])
    assert cache.wait_for(shards[2]) is None
    assert names(cache, "tar") == sorted(shard.sha256 for shard in shards[:2])
    assert not names(cache, "partial")
    assert cache.take_bytes() == shards[0].size + shards[1].size


def test_a_shard_with_another_sha256_is_refused_after_two_tries(
    dataset_dir: Path, tmp_path: Path, shards: list[FileInfo], caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    damaged = bytearray((copy / shards[0].path).read_bytes())
    damaged[1000] ^= 1
    (copy / shards[0].path).write_bytes(damaged)
    cache = ShardCache(str(copy), tmp_path / "cache", 1 << 30)
    assert [cache.wait_for(shards[0]) for _ in range(4)] == [None] * 4
    assert cache.take_bytes() == 2 * shards[0].size
    assert [
        record.message for record in caplog.records if "does not have the sha256" in record.message
    ]
    assert not names(cache, "sparse")
    assert cache.wait_for(shards[1]) is not None


def test_half_files_of_the_dead_are_swept_and_those_of_the_living_stay(
    cache: ShardCache, shards: list[FileInfo]
) -> None:
    dead, living = (cache.folder / f"{shard.sha256}.partial" for shard in shards[:2])
    for half, when in ((dead, FAR_AHEAD), (living, LONG_AGO)):  # no clock tells them apart
        half.write_bytes(b"half")
        os.utime(half, (when, when))
    Path(f"{cache.folder}/{shards[0].sha256}.lock").touch()  # a lock file whose holder is gone
    with FileLock(f"{cache.folder}/{shards[1].sha256}.lock"):
        cache.wait_for(shards[2])
        assert names(cache, "partial") == [shards[1].sha256]
    assert cache.wait_for(shards[0]) is not None
    assert cache.wait_for(shards[1]) is not None
    assert not names(cache, "partial")


def test_a_shards_own_half_file_takes_no_room_from_it(
    dataset_dir: Path, tmp_path: Path, shards: list[FileInfo]
) -> None:
    cache = ShardCache(str(dataset_dir), tmp_path, shards[0].size + 1)
    (tmp_path / f"{shards[0].sha256}.partial").write_bytes(bytes(shards[0].size))
    assert cache.wait_for(shards[0]) is not None


def test_shards_from_before_the_clock_was_put_back_can_leave(
    cache: ShardCache, shards: list[FileInfo]
) -> None:
    os.utime(cache.wait_for(shards[0]), (FAR_AHEAD, FAR_AHEAD))
    later = ShardCache(cache.url, cache.folder, max(shards[0].size, shards[1].size) + 1)
    assert later.wait_for(shards[1]) is not None
    assert names(later, "tar") == [shards[1].sha256]


def test_a_clock_that_jumps_loses_nothing(
    cache: ShardCache, shards: list[FileInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard, when in zip(shards, (LONG_AGO, FAR_AHEAD), strict=False):
        os.utime(cache.wait_for(shard), (when, when))
    for clock in (0, 5 * 10**18):
        monkeypatch.setattr(time, "time_ns", lambda clock=clock: clock)
        assert (
            ShardCache(cache.url, cache.folder, cache.budget_bytes).wait_for(shards[2]) is not None
        )
    assert names(cache, "tar") == sorted(shard.sha256 for shard in shards[:3])


def test_a_full_disk_is_told_once_and_tried_no_more(
    cache: ShardCache,
    shards: list[FileInfo],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(handle: int, data: bytes, start: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mlrec.data.sparse_shards._write_all", fail)
        with caplog.at_level(logging.WARNING):
            assert [cache.wait_for(shard) for shard in shards] == [None] * len(shards)
    assert [record.message.count("No space left on device") for record in caplog.records] == [1]
    assert not names(cache, "sparse")
    assert cache.wait_for(shards[0]) is None


def test_a_folder_that_cannot_be_written_is_bad_input(dataset_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"data\.cache_dir: .*file/items cannot be written.*choose another folder"
    ):
        ShardCache(str(dataset_dir), tmp_path / "file" / "items", 1)


USERS_OWN = [
    "notes.tar",
    "notes.partial",
    "items-00000.tar",
    f"{'A' * 64}.tar",
    f"{'0' * 63}.tar",
    f"{'0' * 65}.partial",
]


def test_cache_eviction_and_sweep_leave_files_of_others_alone(
    dataset_dir: Path, tmp_path: Path, shards: list[FileInfo]
) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    for name in USERS_OWN:
        (folder / name).write_bytes(b"a file of the user's")
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    (folder / f"{'1' * 64}.tar").mkdir()
    (folder / f"{'2' * 64}.tar").symlink_to(folder / "notes.tar")
    ShardCache(str(dataset_dir), folder, 1 << 30).wait_for(shards[0])
    os.utime(folder / f"{shards[0].sha256}.tar", (LONG_AGO, LONG_AGO))
    later = ShardCache(str(dataset_dir), folder, max(shards[0].size, shards[1].size))
    assert later.wait_for(shards[1]) is not None, "the others' files take no room"
    assert later.path(shards[0]) is None, "its own oldest one has left"
    assert all((folder / name).read_bytes() == b"a file of the user's" for name in USERS_OWN)
    assert (folder / f"{'1' * 64}.tar").is_dir() and (folder / f"{'2' * 64}.tar").is_symlink()


@pytest.mark.parametrize(
    "sha256",
    ["/victim/notes", "../../victim/notes", "", "F" * 64, "0" * 63, "0" * 64 + "\n", "*" * 64],
)
def test_cache_a_sha256_that_is_none_is_refused(
    cache: ShardCache, sha256: str, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("notes.tar", "notes.partial"):
        (victim / name).touch()
    shard = FileInfo("items/items-00000.tar", 5, sha256.replace("/victim", str(victim)))
    for use in (cache.path, cache.wait_for, cache.drop):
        with pytest.raises(ValueError, match="is not 64 hexadecimal digits"):
            use(shard)
    assert len(list(victim.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "link", "folder"])
def test_cache_a_shard_that_is_not_whole_is_not_used(
    cache: ShardCache, shards: list[FileInfo], damage: str, tmp_path: Path
) -> None:
    path = cache.wait_for(shards[0])
    content = path.read_bytes()
    precious = tmp_path / "precious"
    precious.write_bytes(content)
    path.unlink()
    if damage == "link":
        path.symlink_to(precious)
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": content[:-512], "longer": content + b"x", "empty": b""}[damage])
    assert cache.path(shards[0]) is None
    if damage != "folder":
        assert cache.wait_for(shards[0]).read_bytes() == content
    assert precious.read_bytes() == content


def test_cache_partial_files_are_not_written_through_links(
    cache: ShardCache, shards: list[FileInfo], tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (cache.folder / f"{shards[0].sha256}.partial").symlink_to(precious)
    assert cache.wait_for(shards[0]) is not None
    assert precious.read_bytes() == b"precious"


def test_cache_a_link_that_leads_elsewhere_is_refused(dataset_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "items").symlink_to(dataset_dir / "items")
    with pytest.raises(ValueError, match=r"is a link to .*Remove the link"):
        ShardCache(str(dataset_dir), tmp_path / "cache" / "items", 1)


def until_kept(cache: ShardCache, shard: FileInfo, start: int, data: bytes) -> None:
    cache.keep(shard, start, data)
    deadline = time.monotonic() + 20
    while cache.read_sparse(shard, [(start, len(data))]) == [None]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_cache_download_fetches_only_what_the_sparse_file_lacks(
    cache: ShardCache, shards: list[FileInfo], dataset_dir: Path
) -> None:
    content = (dataset_dir / shards[0].path).read_bytes()
    until_kept(cache, shards[0], 1000, content[1000:5000])
    until_kept(cache, shards[0], 4000, content[4000:9000])
    other = ShardCache(cache.url, cache.folder, cache.budget_bytes)
    ranges = [(1000, 8000), (999, 2), (8999, 2), (2000, 1)]
    assert other.read_sparse(shards[0], ranges) == [
        content[1000:9000],
        None,
        None,
        b"%c" % content[2000],
    ]
    assert other.wait_for(shards[0]).read_bytes() == content
    assert other.take_bytes() == len(content) - 8000
    assert cache.read_sparse(shards[0], [(1000, 10)]) == [None], "the complete file takes over"
    assert not names(cache, "sparse")


def test_cache_damaged_range_is_fetched_again_with_its_shard(
    cache: ShardCache, shards: list[FileInfo], dataset_dir: Path
) -> None:
    until_kept(cache, shards[0], 1000, bytes(5000))
    assert cache.wait_for(shards[0]) is None, "its sha256 differs"
    assert not names(cache, "sparse")
    content = (dataset_dir / shards[0].path).read_bytes()
    assert cache.wait_for(shards[0]).read_bytes() == content


def test_sparse_shard_bytes_without_a_record_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "shard.sparse"
    SparseShard.create(path, 100)
    with SparseShard(path, 100) as writer, SparseShard(path, 100) as reader:
        os.pwrite(writer._handle, b"killed before its record", 10)
        assert reader.gaps() == [(0, 100)] and reader.read(10, 5) is None
        writer.write(50, b"whole")
        os.pwrite(writer._handle, b"\x01" * 9, path.stat().st_size)  # killed within its record
        assert reader.gaps() == [(0, 50), (55, 45)] and reader.read(50, 5) == b"whole"
        writer.write(0, bytes(50))
        assert reader.gaps() == [(55, 45)]
        writer.write(55, bytes(45))
        assert reader.gaps() == []
        assert reader.finish(
            hashlib.sha256(bytes(50) + b"whole" + bytes(45)).hexdigest(), tmp_path / "shard.tar"
        )
        writer.write(3, b"too late")
    assert (tmp_path / "shard.tar").read_bytes() == bytes(50) + b"whole" + bytes(45)


@pytest.mark.parametrize("content", [b"", bytes(100), bytes(100) + b"\xff" * 16])
def test_cache_sparse_file_that_is_none_is_replaced(
    cache: ShardCache, shards: list[FileInfo], dataset_dir: Path, content: bytes
) -> None:
    (cache.folder / f"{shards[0].sha256}.sparse").write_bytes(content)
    assert cache.read_sparse(shards[0], [(0, 10)]) == [None]
    content = (dataset_dir / shards[0].path).read_bytes()
    assert cache.wait_for(shards[0]).read_bytes() == content
