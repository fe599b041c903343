"""What `mlrec extract` writes, leaves out and says."""

import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from extracting import ALONE, with_a_damaged_item
from features import save_features
from rich.console import Console
from tiny import NUM_ITEMS

from mlrec.cli.main import run_command
from mlrec.config import Config
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.decode import decode_items, members_of
from mlrec.data.stream import Data, open_data
from mlrec.evaluation import extract as extraction
from mlrec.evaluation.extract import extract
from mlrec.models.building import build_model
from mlrec.models.tower import ItemTower
from shards_tools.make import make
from shards_tools.pack.settings import Settings


def test_extract_writes_the_encoders_vectors_in_item_order(
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
    names = members_of([encoder.spec], data.info.media)
    media, _, _ = decode_items(
        data.store.read_many([20, 40], names), 2, [encoder.spec], data.info.media
    )
    with torch.no_grad():
        expected = encoder(media[encoder.spec]).numpy()
    assert features[np.searchsorted(items, [20, 40])] == pytest.approx(expected, abs=1e-5)
    assert not list((out / "_work").glob("block*"))


def test_extract_unreadable_items_are_left_out_and_listed(
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


def test_extract_vectors_that_are_not_finite_are_left_out(
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


def test_features_for_another_packing_are_joined_by_raw_id(
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


def test_extract_prints_how_the_vectors_are_made(
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
        f"all {NUM_ITEMS} vectors are equal, so video/tiny cannot tell items apart" in caplog.text
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
        match=f"item.encoders is .{name}., which looks vectors up and encodes no content",
    ):
        extract(config, str(tmp_path / "out"), ALONE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "OUT is missing: name the folder or URL"),
        (["data.url=data", "--json"], "OUT is missing: name the folder or URL"),
        (["item.yaml"], "OUT is missing after item.yaml: name the folder or URL"),
    ],
)
def test_extract_command_without_out_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        run_command(["extract", *arguments])


def test_extract_command_help_explains_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run_command(["extract", "--help"])
    printed = capsys.readouterr().out
    for word in ("CONFIG", "OUT", "key=value"):
        assert f"{word}: " in printed, word
    assert "\n  --json " in printed
