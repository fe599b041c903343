import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from features import save_features
from rich.console import Console
from tiny import NUM_ITEMS

from mlrec import storage
from mlrec.cli.main import run_command
from mlrec.config import Config, DataConfig
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.features.blocks import Block, block_path, write_block
from mlrec.data.format import item_shard
from mlrec.data.stream import Data, open_data
from mlrec.evaluation import extract as extraction
from mlrec.evaluation.extract import extract
from mlrec.evaluation.extraction import ExtractionSettings
from mlrec.models.building import build_model
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World
from shards_tools.make import make
from shards_tools.pack.settings import Settings

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "BLOCK_ITEMS", 16)


def test_features_are_the_encoders_vectors_in_the_order_of_the_items(
    video_config: Config, data: Data, tmp_path: Path
) -> None:
    out = tmp_path / "features"
    info = extract(video_config, str(out), ALONE)
    items = ranked_items(data)
    assert (info.count, info.width) == (len(items), 16)
    assert (info.dataset, info.fingerprint, info.encoder) == (
        data.info.name,
        data.info.fingerprint,
        "video/tiny",
    )
    features = np.load(out / "features.npy")
    assert (
        json.loads((out / "raw_ids.json").read_text())
        == data.catalogue.table["raw_id"].take(items - 1).to_pylist()
    )
    table = pq.read_table(out / "features.parquet")
    assert np.array_equal(np.stack(table["vector"].to_numpy()), features)
    assert table["raw_id"].to_pylist() == json.loads((out / "raw_ids.json").read_text())
    torch.manual_seed(video_config.seed)
    encoder = (
        ItemTower(video_config.item, video_config.recommender.width, data.catalogue.size)
        .encoders[0]
        .eval()
    )
    from mlrec.data.decode import decode_items, members_of

    names = members_of([encoder.spec], data.info.media)
    media, _, _ = decode_items(
        data.store.read_many([20, 40], names), 2, [encoder.spec], data.info.media
    )
    with torch.no_grad():
        expected = encoder(media[encoder.spec]).numpy()
    assert features[np.searchsorted(items, [20, 40])] == pytest.approx(expected, abs=1e-5)
    assert not list((out / "_work").glob("block*"))


def record_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Starts of the blocks that are written from now on."""
    begun: list[int] = []
    write = extraction.write_block

    def record(out: str, start: int, block: Block, digest: str) -> None:
        begun.append(start)
        write(out, start, block, digest)

    monkeypatch.setattr(extraction, "write_block", record)
    return begun


def stop_after_two_blocks(config: Config, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extraction whose storage fails at the third block."""
    write = extraction.write_block

    def fail_at_third(out: str, start: int, block: Block, digest: str) -> None:
        if start == 32:
            raise RuntimeError("the storage gave up")
        write(out, start, block, digest)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_block", fail_at_third)
        with pytest.raises(RuntimeError, match="gave up"):
            extract(config, out, ALONE)


def test_extract_after_a_stop_encodes_the_missing_blocks(
    video_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    extract(video_config, whole, ALONE)
    begun = record_blocks(monkeypatch)
    stop_after_two_blocks(video_config, stopped, monkeypatch)
    extract(video_config, stopped, ALONE)
    assert begun == [0, 16, 32, 48]
    extract(video_config, stopped, ALONE)
    assert begun == [0, 16, 32, 48], "a complete one is left as it is"
    for name in storage.list_files(whole):
        assert storage.read_bytes(f"{stopped}/{name}") == storage.read_bytes(f"{whole}/{name}")


@pytest.mark.parametrize("damage", ["cut", "another_extraction", "other_items", "nan"])
def test_extract_encodes_blocks_that_cannot_be_used_again(
    damage: str, video_config: Config, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = str(tmp_path / "whole"), str(tmp_path / "stopped")
    extract(video_config, whole, ALONE)
    begun = record_blocks(monkeypatch)
    stop_after_two_blocks(video_config, out, monkeypatch)
    path = Path(block_path(out, 16))
    settings = ExtractionSettings(
        **json.loads((tmp_path / "stopped" / "_work" / "settings.json").read_text())
    )
    raw_ids = pa.array(data.catalogue.table["raw_id"].to_pylist()[16:32])
    vectors = np.zeros((16, 16), np.float32)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "another_extraction":
        write_block(out, 16, Block(raw_ids, vectors, [None] * 16), "0" * 64)
    elif damage == "other_items":
        shutil.copy(block_path(out, 0), path)
    else:
        write_block(out, 16, Block(raw_ids, vectors * np.nan, [None] * 16), settings.digest)
    extract(video_config, out, ALONE)
    assert begun == [0, 16, 16, 32, 48]
    assert storage.read_bytes(f"{out}/features.npy") == storage.read_bytes(f"{whole}/features.npy")


def test_extract_with_other_weights_or_another_data_set_does_not_go_on(
    video_config: Config, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    stop_after_two_blocks(video_config, out, monkeypatch)
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    facts = (copy / "dataset.json").read_text()
    (copy / "dataset.json").write_text(facts + "\n")  # another fingerprint
    elsewhere = replace(video_config, data=replace(video_config.data, url=str(copy)))
    with pytest.raises(
        ValueError,
        match=r"holds features that were made otherwise \(dataset changed\)\. Choose another place",
    ):
        extract(elsewhere, out, ALONE)
    build = extraction.ItemTower

    def other_weights(*arguments: Any, **items: Any) -> ItemTower:
        tower = build(*arguments, **items)
        next(tower.encoders.parameters()).data.add_(1)
        return tower

    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match=r"made otherwise \(weights changed\)"),
    ):
        patch.setattr(extraction, "ItemTower", other_weights)
        extract(video_config, out, ALONE)
    (tmp_path / "out" / "_work" / "settings.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"settings\.json is invalid: .* Choose another place, or remove it first"
    ):
        extract(video_config, out, ALONE)


def with_a_damaged_item(dataset_dir: Path, config: Config, folder: Path) -> Config:
    """The configuration on a copy of the data set whose item 5 cannot be read."""
    copy = folder / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(folder / "cache")))
    with open(copy / item_shard(0), "r+b") as shard:
        shard.seek(opened.catalogue.members(5)[1].offset)
        shard.write(b"no jpeg at all")
    return replace(config, data=replace(config.data, url=str(copy)))


def test_items_that_cannot_be_read_are_left_out_and_listed(
    dataset_dir: Path, video_config: Config, tmp_path: Path
) -> None:
    config = with_a_damaged_item(dataset_dir, video_config, tmp_path)
    extract(config, str(tmp_path / "out"), ALONE)
    raw_id = open_data(config.data).catalogue.table["raw_id"][4].as_py()
    assert raw_id not in json.loads((tmp_path / "out" / "raw_ids.json").read_text())
    (failure,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert failure["item"] == 5
    assert "crc32" in failure["reason"]
    item = replace(
        config.item,
        encoders=("features/vectors",),
        options={"features/vectors": {"checkpoint": f"{tmp_path}/out"}},
    )
    with pytest.raises(
        ValueError, match=rf"no vector for 1 of {NUM_ITEMS} items of .* \(raw ids '{raw_id}'\)"
    ):
        build_model(replace(config, item=item), open_data(config.data), 0)


def test_extract_with_more_failures_than_allowed_writes_no_features_and_tries_again(
    dataset_dir: Path, video_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_a_damaged_item(dataset_dir, video_config, tmp_path)
    strict = replace(config, data=replace(config.data, max_bad_items=0))
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=rf"1 of {NUM_ITEMS} items failed, data\.max_bad_items is 0"
        ):
            extract(strict, str(out), ALONE)
        assert not list(out.glob("features*"))
    begun = record_blocks(monkeypatch)
    extract(config, str(out), ALONE)
    assert begun == [0], "the block with the failed item alone"


def test_extract_leaves_out_vectors_that_are_not_finite(
    video_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = extraction.ItemTower

    def broken(bad_items: set[int], *arguments: Any, **items: Any) -> ItemTower:
        tower = build(*arguments, **items)
        seen = iter(range(1, NUM_ITEMS + 1))

        def spoil(module: object, media: object, vectors: torch.Tensor) -> torch.Tensor:
            places = torch.tensor([next(seen) in bad_items for _ in vectors])
            return vectors.masked_fill(places[:, None], float("nan"))

        tower.encoders[0].register_forward_hook(spoil)
        return tower

    monkeypatch.setattr(extraction, "ItemTower", partial(broken, {3, 20}))
    assert extract(video_config, str(tmp_path / "out"), ALONE).count == NUM_ITEMS - 2
    failures = [
        json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    ]
    assert [failure["item"] for failure in failures] == [3, 20]
    assert failures[0]["reason"] == "its vector is not finite (train.precision=fp32)"
    assert np.isfinite(np.load(tmp_path / "out" / "features.npy")).all()
    monkeypatch.setattr(extraction, "ItemTower", partial(broken, set(range(1, NUM_ITEMS + 1))))
    with pytest.raises(RuntimeError, match=f"{NUM_ITEMS} of {NUM_ITEMS} items failed"):
        extract(video_config, str(tmp_path / "none"), ALONE)


def test_features_of_one_packing_serve_another_with_other_numbers(
    raw_dir: Path, video_config: Config, data: Data, tmp_path: Path
) -> None:
    out, fewer = str(tmp_path / "out"), tmp_path / "raw"
    extract(video_config, out, ALONE)
    first = data.catalogue.table["raw_id"][0].as_py()
    shutil.copytree(raw_dir, fewer)
    (pairs,) = fewer.glob("*pairs.tsv")
    lines = [line.split("\t") for line in pairs.read_text().splitlines()]
    without_first = [
        (user, " ".join(item for item in items.split() if item != first)) for user, items in lines
    ]
    pairs.write_text("".join(f"{user}\t{items}\n" for user, items in without_first))
    make(fewer, str(tmp_path / "data"), Settings(size=32), 2, None, Console(file=io.StringIO()))
    options = {"features/vectors": {"checkpoint": out}}
    item = replace(video_config.item, encoders=("features/vectors",), options=options)
    vectors = []
    for opened in (data, open_data(replace(video_config.data, url=str(tmp_path / "data")))):
        raw_ids = opened.catalogue.table["raw_id"].to_pylist()
        encoder = build_model(replace(video_config, item=item), opened, 0).tower.encoders[0]
        vectors.append(dict(zip(raw_ids, encoder.table[1:].tolist(), strict=True)))
    expected = {raw_id: vector for raw_id, vector in vectors[0].items() if raw_id in vectors[1]}
    assert vectors[1] == expected and list(vectors[1]) != list(vectors[0])[: len(vectors[1])]
    assert any("1 of 60 vectors" in remark for remark in encoder.remarks)


def test_an_encoder_that_cannot_be_built_leaves_the_place_to_the_next(
    video_config: Config, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    nowhere = {"features/vectors": {"checkpoint": str(tmp_path / "nowhere")}}
    broken = replace(
        video_config,
        item=replace(video_config.item, encoders=("features/vectors",), options=nowhere),
    )
    with pytest.raises(ValueError, match="there are no features at"):
        extract(broken, str(out), ALONE)
    assert not out.exists()
    extract(video_config, str(out), ALONE)
    assert (out / "features.json").exists()
    shutil.rmtree(out / "_work")
    with pytest.raises(
        ValueError, match=r"holds failures\.jsonl, .* which mlrec extract did not write"
    ):
        extract(video_config, str(out), ALONE)


def test_extract_into_a_packed_data_set_or_over_files_of_others_is_refused(
    video_config: Config, dataset_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    shutil.copytree(dataset_dir, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError,
        match=r"data holds catalogue\..* and \d+ more, which mlrec extract did not write, so nothing",
    ):
        extract(video_config, str(out), ALONE)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_extract_says_what_the_vectors_are_made_of(
    video_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"video/tiny": {"size": 48, "frames": 13}}
    config = replace(video_config, item=replace(video_config.item, options=options))
    assert extract(config, str(tmp_path / "out"), ALONE).checkpoint is None
    assert capsys.readouterr().err.splitlines()[:3] == [
        "video/tiny: starts from random weights",
        "video/tiny reads 13 frames, the data set has 5: frames repeat",
        "video/tiny reads 48 x 48 pixels, the data set has 32 x 32: images are upscaled",
    ]
    assert "equal" not in caplog.text
    monkeypatch.setattr(
        "mlrec.models.encoders.video.TinyVideo.forward",
        lambda self, media: torch.ones(len(media), self.width),
    )
    extract(config, str(tmp_path / "equal"), ALONE)
    assert (
        f"all {NUM_ITEMS} vectors are equal, so video/tiny tells no item from another"
        in caplog.text
    )


@pytest.mark.parametrize("name", ["id/embedding", "features/vectors"])
def test_extract_by_an_encoder_of_ids_is_refused(
    name: str, video_config: Config, data: Data, tmp_path: Path
) -> None:
    save_features(tmp_path / "features", data.catalogue.table["raw_id"].to_pylist())
    options = {} if name == "id/embedding" else {name: {"checkpoint": f"{tmp_path}/features"}}
    config = replace(
        video_config, item=replace(video_config.item, encoders=(name,), options=options)
    )
    with pytest.raises(
        ValueError,
        match=f"item.encoders is .{name}., which looks vectors up by an item's id and encodes no content",
    ):
        extract(config, str(tmp_path / "out"), ALONE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damaged", ["features.npy", "raw_ids.json", "features.parquet", "features.json"]
)
@pytest.mark.parametrize("is_removed", [False, True])
def test_extract_over_damaged_features_encodes_them_again(
    damaged: str,
    is_removed: bool,
    video_config: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "out"
    extract(video_config, str(out), ALONE)
    whole = (out / damaged).read_bytes()
    if is_removed:
        (out / damaged).unlink()
    else:
        (out / damaged).write_bytes(whole[:-5] + b"wrong")
    extract(video_config, str(out), ALONE)
    assert (out / damaged).read_bytes() == whole
    assert ("The items are encoded again" in caplog.text) == (
        not is_removed or damaged != "features.json"
    )


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
        run_command(["extract", *arguments])


def test_the_help_explains_what_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run_command(["extract", "--help"])
    said = capsys.readouterr().out
    for given in ("CONFIG", "OUT", "key=value", "--json"):
        assert f"\n  {given} " in said, given


def test_another_encoder_is_refused_at_the_same_place(video_config: Config, tmp_path: Path) -> None:
    extract(video_config, str(tmp_path / "out"), ALONE)
    other = replace(
        video_config,
        item=replace(video_config.item, options={"video/tiny": {"size": 32, "width": 32}}),
    )
    with pytest.raises(ValueError, match=r"made otherwise \(item, weights changed\)"):
        extract(other, str(tmp_path / "out"), ALONE)
    two = replace(
        video_config, item=replace(video_config.item, encoders=("id/embedding", "video/tiny"))
    )
    with pytest.raises(ValueError, match="with one encoder at a time"):
        extract(two, str(tmp_path / "other"), ALONE)
