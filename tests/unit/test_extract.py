import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mlrec import extract as extraction
from mlrec import storage
from mlrec.config import Config, DataConfig
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.format import item_shard
from mlrec.data.stream import Data, open_data
from mlrec.distributed import World
from mlrec.extract import extract
from mlrec.models.tower import ItemTower

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "BLOCK_ITEMS", 16)


def test_features_are_the_encoders_vectors_in_the_order_of_the_items(video_config: Config, data: Data, tmp_path: Path) -> None:
    out = tmp_path / "features"
    assert extract(video_config, str(out), ALONE) == (len(ranked_items(data)), 16)
    items, features = np.load(out / "items.npy"), np.load(out / "features.npy")
    assert items.tolist() == ranked_items(data).tolist()
    table = pq.read_table(out / "features.parquet")
    assert np.array_equal(np.stack(table["vector"].to_numpy()), features)
    assert table["raw_id"].to_pylist() == data.catalogue.table["raw_id"].take(items - 1).to_pylist()
    torch.manual_seed(video_config.seed)
    encoder = ItemTower(video_config.item, video_config.recommender.width, data.catalogue.size).encoders[0].eval()
    from mlrec.data.decode import decode_items, members_of

    names = members_of([encoder.spec], data.info.media)
    media, _, _ = decode_items(data.store.read_many([20, 40], names), 2, [encoder.spec], data.info.media)
    with torch.no_grad():
        expected = encoder(media[encoder.spec]).numpy()
    assert features[np.searchsorted(items, [20, 40])] == pytest.approx(expected, abs=1e-5)
    assert not list((out / "_work").glob("block*"))


def test_a_stopped_extraction_goes_on(video_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    extract(video_config, whole, ALONE)
    write = extraction._write_block

    def fail_at_third(out: str, start: int, block: extraction.Block) -> None:
        if start == 32:
            raise RuntimeError("the storage gave up")
        write(out, start, block)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "_write_block", fail_at_third)
        with pytest.raises(RuntimeError, match="gave up"):
            extract(video_config, stopped, ALONE)
    begun: list[int] = []
    monkeypatch.setattr(extraction, "_write_block", lambda out, start, block: (begun.append(start), write(out, start, block)))
    extract(video_config, stopped, ALONE)
    assert begun == [32, 48]
    extract(video_config, stopped, ALONE)
    assert begun == [32, 48], "a complete one is left as it is"
    for name in storage.list_files(whole):
        assert storage.read_bytes(f"{stopped}/{name}") == storage.read_bytes(f"{whole}/{name}")


def test_items_that_cannot_be_read_are_left_out_and_listed(dataset_dir: Path, video_config: Config, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache")))
    with open(copy / item_shard(0), "r+b") as shard:
        shard.seek(opened.catalogue.members(5)[1].offset)
        shard.write(b"no jpeg at all")
    config = replace(video_config, data=replace(video_config.data, url=str(copy)))
    extract(config, str(tmp_path / "out"), ALONE)
    assert 5 not in np.load(tmp_path / "out" / "items.npy")
    (failure,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert failure["item"] == 5
    assert "crc32" in failure["reason"]


def test_an_encoder_that_cannot_be_built_leaves_the_place_to_the_next(video_config: Config, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nowhere = {"features/vectors": {"checkpoint": str(tmp_path / "nowhere")}}
    broken = replace(video_config, item=replace(video_config.item, encoders=("features/vectors",), options=nowhere))
    with pytest.raises(ValueError, match="there are no features at"):
        extract(broken, str(out), ALONE)
    assert not out.exists()
    extract(video_config, str(out), ALONE)
    assert (out / "items.npy").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "OUT is missing: name the folder or URL"),
        (["data.url=data", "--json"], "OUT is missing: name the folder or URL"),
        (["item.yaml"], "OUT is missing after item.yaml: name the folder or URL"),
    ],
)
def test_a_missing_place_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        extraction.main(arguments)


def test_the_help_explains_what_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    extraction.main(["--help"])
    said = capsys.readouterr().out
    for given in ("CONFIG", "OUT", "key=value", "--json"):
        assert f"\n  {given} " in said, given


def test_another_encoder_is_refused_at_the_same_place(video_config: Config, tmp_path: Path) -> None:
    extract(video_config, str(tmp_path / "out"), ALONE)
    other = replace(video_config, item=replace(video_config.item, options={"video/tiny": {"size": 32, "width": 32}}))
    with pytest.raises(ValueError, match="holds features of another item; choose another place"):
        extract(other, str(tmp_path / "out"), ALONE)
    two = replace(video_config, item=replace(video_config.item, encoders=("id/embedding", "video/tiny")))
    with pytest.raises(ValueError, match="with one encoder at a time"):
        extract(two, str(tmp_path / "other"), ALONE)
