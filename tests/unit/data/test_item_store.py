import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mlrec.config import DataConfig
from mlrec.data.byte_ranges import SampleRanges
from mlrec.data.format import MemberPlaces, item_key, item_shard
from mlrec.data.samples import BadItemError
from mlrec.data.stream import Data, open_data


def test_members_are_those_of_the_shard(data: Data, dataset_dir: Path) -> None:
    with tarfile.open(dataset_dir / item_shard(1)) as tar:
        expected = tar.extractfile(f"{item_key(20)}.3.jpg").read()
    assert data.store.read(20, ["3.jpg", "txt"])["3.jpg"] == expected
    assert data.store.read(20, ["txt"])["txt"].decode() == data.catalogue.title(20)


def test_a_member_that_is_not_there_is_named(data: Data) -> None:
    with pytest.raises(BadItemError, match=r"has no mp4; it holds 0\.jpg"):
        data.store.read(20, ["mp4"])
    assert set(data.store.read(20, ["txt", "flac"])) == {"txt"}, "an item may be silent"


def test_titles_come_from_the_catalogue_and_are_not_read(data: Data) -> None:
    before = data.store.bytes_read
    assert dict(data.store.read_many([3, 20], ["txt"])) == {
        i: {"txt": data.catalogue.title(i).encode()} for i in (3, 20)
    }
    (_, members), *_ = data.store.read_many([20], ["0.jpg", "txt"])
    assert not isinstance(members, str)
    assert members["txt"].decode() == data.catalogue.title(
        20
    ) and data.store.bytes_read - before == len(members["0.jpg"])


def test_a_flipped_byte_makes_a_bad_item_and_spares_the_others(
    dataset_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache")))
    member = opened.catalogue.members(3)[0]
    with open(copy / item_shard(0), "r+b") as shard:
        shard.seek(member.offset + 5)
        byte = shard.read(1)
        shard.seek(member.offset + 5)
        shard.write(bytes([byte[0] ^ 1]))
    with pytest.raises(
        BadItemError, match=r"0\.jpg in items/items-00000\.tar does not have its crc32"
    ):
        opened.store.read(3, ["0.jpg"])
    assert opened.store.read(4, ["0.jpg"])


def test_many_items_come_in_order_with_what_is_wrong_among_them(data: Data) -> None:
    items = [3, 4, 5, 20, 21, 59]
    samples = list(data.store.read_many(items, ["0.jpg", "4.jpg"]))
    assert [item for item, _ in samples] == items
    assert all(members == data.store.read(item, ["0.jpg", "4.jpg"]) for item, members in samples)
    assert list(data.store.read_many(items, [])) == [(item, {}) for item in items]
    wrong = list(data.store.read_many([3, 4], ["0.jpg", "mp4"]))
    assert all("has no mp4" in reason for _, reason in wrong)


def test_neighbours_are_read_at_once_and_little_in_vain(data: Data) -> None:
    frames = [f"{frame}.jpg" for frame in range(5)]

    def ranges(items: list[int], names: list[str]) -> list[tuple[int, list[int]]]:
        reads = list(SampleRanges(data.catalogue, data.store.shards, items, names).reads())
        read_bytes = sum(read.size for read in reads)
        assert read_bytes <= 1.05 * sum(read.wanted_bytes for read in reads)
        items_by_shard = []
        for read in reads:
            items_of_read = [items[row] for row in read.rows]
            items_by_shard.append((int(read.shard.path[-9:-4]), items_of_read))
        return items_by_shard

    every = [member.name for member in data.catalogue.members(1)]
    far = ranges([1, 9, 20], frames)
    assert far == [(0, [1]), (0, [9]), (1, [20])]
    near = ranges([1, 2, 3, 16, 17], every)
    assert near[-2:] == [(0, [16]), (1, [17])], "a read stays within its shard"
    assert near[0] == (0, [1, 2]), "the headers between two items are little beside their frames"
    assert [item for _, items in near for item in items] == [1, 2, 3, 16, 17]


@pytest.mark.parametrize(
    ("offset", "size", "words"),
    [
        (-512, 10, "places its sample at bytes -512"),
        (10**9, 10, "places its sample at bytes 1,000,000,000"),
        (512, 10**9, "places its sample at bytes 512 to 1,000,000,512"),
        (512, -10, "places its sample"),
    ],
)
def test_items_a_member_outside_its_shard_is_a_bad_item(
    data: Data, monkeypatch: pytest.MonkeyPatch, offset: int, size: int, words: str
) -> None:
    def places(items_n: np.ndarray, names: list[str]) -> MemberPlaces:
        shape = len(items_n), len(names)
        return MemberPlaces(*(np.full(shape, value) for value in (True, offset, size, 0)))

    monkeypatch.setattr(data.catalogue, "places", places)
    assert words in data.store.try_read(3, ["0.jpg"])
    ((_, reason),) = data.store.read_many([3], ["0.jpg"])
    assert words in reason


def test_items_a_sample_of_too_many_bytes_is_a_bad_item(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlrec.data.byte_ranges.MAX_SAMPLE_BYTES", 100)
    ((_, reason),) = data.store.read_many([3], ["0.jpg"])
    assert "bytes, more than the 100 that are read" in reason


def test_items_a_shard_that_is_not_there_makes_a_bad_item(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.catalogue, "shard_N1", np.full_like(data.catalogue.shard_N1, 99))
    assert dict(data.store.read_many([3, 4], ["0.jpg"])) == dict.fromkeys(
        (3, 4), "the data set has no item shard 99"
    )
    assert dict(data.store.read_many([3], [])) == {3: {}}


def test_places_agree_with_members_item_by_item(data: Data) -> None:
    names = ["4.jpg", "flac", "cover.jpg", "0.jpg"]
    items = [59, 1, 20, 20]
    places = data.catalogue.places(np.array(items), names)
    for row, item in enumerate(items):
        members = {member.name: member for member in data.catalogue.members(item)}
        for column, name in enumerate(names):
            assert places.present_nK[row, column] == (name in members)
            if name in members:
                place = tuple(array[row, column] for array in places[1:])
                assert place == (members[name].offset, members[name].size, members[name].crc32)


def test_items_mixed_faults_come_at_their_places_in_order(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_N1 = data.catalogue.shard_N1.copy()
    shard_N1[4] = -1
    shard_N1[20] = 99
    monkeypatch.setattr(data.catalogue, "shard_N1", shard_N1)
    samples = dict(data.store.read_many([3, 4, 5, 20, 21], ["flac", "0.jpg"]))
    assert list(samples) == [3, 4, 5, 20, 21]
    assert samples[4] == "the data set has no item shard -1"
    assert samples[20] == "the data set has no item shard 99"
    for item in (3, 5, 21):
        assert samples[item] == data.store.read(item, ["0.jpg"])
    assert list(data.store.read_many([], ["0.jpg"])) == []


@pytest.mark.parametrize("change", ["replaced", "missing", "cut"])
def test_read_many_a_shard_that_changes_between_steps_is_seen(
    dataset_dir: Path, tmp_path: Path, change: str
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    store = open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache"))).store
    shard = copy / item_shard(0)
    intact = dict(store.read_many([3, 4], ["0.jpg"]))
    (tmp_path / "zeros").write_bytes(bytes(shard.stat().st_size))
    if change == "replaced":
        os.replace(tmp_path / "zeros", shard)
    elif change == "missing":
        shard.unlink()
    else:
        os.truncate(shard, 1024)
    words = {
        "replaced": "0.jpg in items/items-00000.tar does not have its crc32",
        "missing": "items/items-00000.tar cannot be read: [Errno 2] No such file or directory",
        "cut": "the file is cut short",
    }
    for _, reason in store.read_many([3, 4], ["0.jpg"]):
        assert words[change] in reason
    shutil.copy(dataset_dir / item_shard(0), shard)
    assert dict(store.read_many([3, 4], ["0.jpg"])) == intact


def test_read_many_leaves_no_descriptor_open(data: Data) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in data.store.read_many(range(1, 60), ["0.jpg"]):
        pass
    next(samples := data.store.read_many([1, 9, 20], ["0.jpg"]))
    samples.close()
    assert os.listdir("/proc/self/fd") == before
