"""Extracting into a place that holds something: it resumes, repairs or refuses."""

import json
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest
from extracting import ALONE, record_blocks, stop_after_two_blocks, with_a_damaged_item
from tiny import NUM_ITEMS

from mlrec import storage
from mlrec.config import Config
from mlrec.data.features.blocks import Block, block_path, write_block
from mlrec.data.stream import Data
from mlrec.evaluation import extract as extraction
from mlrec.evaluation.extract import extract
from mlrec.evaluation.extraction import ExtractionSettings
from mlrec.models.tower import ItemTower
from mlrec.runtime.ending import Stopped


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "BLOCK_ITEMS", 16)


def test_extract_after_a_stop_encodes_the_missing_blocks(
    video_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    extract(video_config, whole, ALONE)
    starts = record_blocks(monkeypatch)
    stop_after_two_blocks(video_config, stopped, monkeypatch)
    extract(video_config, stopped, ALONE)
    assert starts == [0, 16, 32, 48]
    extract(video_config, stopped, ALONE)
    assert starts == [0, 16, 32, 48], "a complete extraction is left as it is"
    for name in storage.list_files(whole):
        assert storage.read_bytes(f"{stopped}/{name}") == storage.read_bytes(f"{whole}/{name}")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Stopped(signal.SIGTERM)])
def test_extract_stopped_by_a_signal_says_how_far_it_got(
    stop: BaseException,
    video_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "stopped")
    sentence = (
        f"stopped: {{}} of {NUM_ITEMS} items are saved in {out}; run the same command again to "
        "resume\n"
    )
    stop_after_two_blocks(video_config, out, monkeypatch, fault=stop)
    assert capsys.readouterr().err.endswith(sentence.format(32))
    monkeypatch.setattr(extraction, "merge_blocks", partial(_raise, stop))
    with pytest.raises(type(stop)):
        extract(video_config, out, ALONE)
    assert capsys.readouterr().err.endswith(sentence.format(NUM_ITEMS))


def _raise(error: BaseException, *arguments: object) -> NoReturn:
    raise error


@pytest.mark.parametrize("damage", ["cut", "another_extraction", "other_items", "nan"])
def test_extract_after_a_stop_encodes_unusable_blocks_again(
    damage: str, video_config: Config, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = str(tmp_path / "whole"), str(tmp_path / "stopped")
    extract(video_config, whole, ALONE)
    starts = record_blocks(monkeypatch)
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
    assert starts == [0, 16, 16, 32, 48]
    assert storage.read_bytes(f"{out}/features.npy") == storage.read_bytes(f"{whole}/features.npy")


def test_extract_with_other_weights_or_data_set_is_refused(
    video_config: Config, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    stop_after_two_blocks(video_config, out, monkeypatch)
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    facts = (copy / "dataset.json").read_text()
    (copy / "dataset.json").write_text(facts + "\n")  # gives the data set another fingerprint
    on_other_data = replace(video_config, data=replace(video_config.data, url=str(copy)))
    with pytest.raises(
        ValueError,
        match=r"holds features of another extraction \(dataset changed\)\. Choose another place",
    ):
        extract(on_other_data, out, ALONE)
    build = extraction.ItemTower

    def other_weights(*arguments: Any, **items: Any) -> ItemTower:
        tower = build(*arguments, **items)
        next(tower.encoders.parameters()).data.add_(1)
        return tower

    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match=r"another extraction \(weights changed\)"),
    ):
        patch.setattr(extraction, "ItemTower", other_weights)
        extract(video_config, out, ALONE)
    (tmp_path / "out" / "_work" / "settings.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"settings\.json is invalid: .* Choose another place, or remove it first"
    ):
        extract(video_config, out, ALONE)


def test_extract_with_too_many_failures_writes_no_features_and_retries(
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
    starts = record_blocks(monkeypatch)
    extract(config, str(out), ALONE)
    assert starts == [0], "the block with the failed item alone"


def test_extract_with_a_broken_encoder_leaves_the_folder_free(
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


def test_extract_into_a_folder_with_other_files_is_refused(
    video_config: Config, dataset_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    shutil.copytree(dataset_dir, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError,
        match=r"data holds catalogue\..* and \d+ more, "
        r"which mlrec extract did not write, so nothing",
    ):
        extract(video_config, str(out), ALONE)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


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


def test_extract_with_another_encoder_into_the_same_folder_is_refused(
    video_config: Config, tmp_path: Path
) -> None:
    extract(video_config, str(tmp_path / "out"), ALONE)
    other = replace(
        video_config,
        item=replace(video_config.item, options={"video/tiny": {"size": 32, "width": 32}}),
    )
    with pytest.raises(ValueError, match=r"another extraction \(item, weights changed\)"):
        extract(other, str(tmp_path / "out"), ALONE)
    two = replace(
        video_config, item=replace(video_config.item, encoders=("id/embedding", "video/tiny"))
    )
    with pytest.raises(ValueError, match="with one encoder at a time"):
        extract(two, str(tmp_path / "other"), ALONE)
