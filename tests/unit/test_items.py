import shutil
import tarfile
from pathlib import Path

import pytest

from mlrec.config import DataConfig
from mlrec.data.cache import ShardCache
from mlrec.data.format import item_key, item_shard, read_dataset_info
from mlrec.data.items import BadItemError
from mlrec.data.stream import Data, open_data


def test_members_are_those_of_the_shard(data: Data, dataset_dir: Path) -> None:
    with tarfile.open(dataset_dir / item_shard(1)) as tar:
        expected = tar.extractfile(f"{item_key(20)}.3.jpg").read()
    assert data.store.read(20, ["3.jpg", "txt"])["3.jpg"] == expected
    assert data.store.read(20, ["txt"])["txt"].decode() == data.catalogue.title(20)


def test_a_member_that_is_not_there_is_named(data: Data) -> None:
    with pytest.raises(BadItemError, match=r"has no mp4; it holds 0\.jpg"):
        data.store.read(20, ["mp4"])


def test_a_flipped_byte_makes_a_bad_item_and_spares_the_others(dataset_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache")))
    member = opened.catalogue.members(3)[0]
    with open(copy / item_shard(0), "r+b") as shard:
        shard.seek(member.offset + 5)
        byte = shard.read(1)
        shard.seek(member.offset + 5)
        shard.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BadItemError, match=r"0\.jpg in items/items-00000\.tar does not have its crc32"):
        opened.store.read(3, ["0.jpg"])
    assert opened.store.read(4, ["0.jpg"])


def test_the_cache_holds_verified_shards_within_its_budget(dataset_dir: Path, tmp_path: Path) -> None:
    shards = read_dataset_info(str(dataset_dir)).shards("items")
    budget = shards[0].size + shards[1].size + 1
    cache = ShardCache(str(dataset_dir), tmp_path, budget)
    for shard in shards[:3]:
        cache.fill(shard)
    held = [shard for shard in shards if cache.path(shard)]
    assert shards[2] in held
    assert shards[0] not in held, "the least recently used one left"
    assert cache.path(shards[2]).read_bytes() == (dataset_dir / shards[2].path).read_bytes()


def test_the_cache_refuses_a_shard_with_another_sha256(dataset_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    shard = read_dataset_info(str(copy)).shards("items")[0]
    with open(copy / shard.path, "ab") as file:
        file.write(b"x")
    cache = ShardCache(str(copy), tmp_path / "cache", 1 << 30)
    with pytest.raises(RuntimeError, match="does not have the sha256"):
        cache.fill(shard)
    assert cache.path(shard) is None
    assert not list((tmp_path / "cache").glob("*.partial"))
