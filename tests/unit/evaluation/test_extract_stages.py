"""Features of all stages of an encoder, as rows or as principal components."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from extracting import ALONE, record_blocks, stop_after_two_blocks
from small_encoders import SMALL
from tiny import NUM_ITEMS

from mlrec import storage
from mlrec.cli.main import run_command
from mlrec.config import Config
from mlrec.data.features.blocks import Block
from mlrec.data.features.files import read_features
from mlrec.data.stream import Data
from mlrec.evaluation import extract as extraction
from mlrec.evaluation.block_merge import merge_blocks
from mlrec.evaluation.extract import extract
from mlrec.evaluation.principal_components import fit_principal_components
from mlrec.evaluation.stage_vectors import ItemVectors, StageOptions
from mlrec.models.encoders.video import TinyVideo

ALL = StageOptions("all")
REDUCED = StageOptions("all", 4)


@pytest.fixture
def title_config(video_config: Config) -> Config:
    options = {"text/bert_tiny": SMALL["text/bert_tiny"]}
    item = replace(video_config.item, encoders=("text/bert_tiny",), options=options)
    return replace(video_config, item=item)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_extract_stages_stores_one_unit_vector_per_stage(
    title_config: Config, tmp_path: Path
) -> None:
    info = extract(title_config, str(tmp_path / "stages"), ALONE, ALL)
    assert info.rows == ("stage 0", "stage 1", "stage 2", "stage 3")
    assert (info.count, info.width, info.dtype, info.pca) == (NUM_ITEMS, 16, "float16", None)
    features = read_features(str(tmp_path / "stages"))
    assert features.vectors_nX.shape == (NUM_ITEMS, 4, 16)
    assert features.vectors_nX.dtype == np.float16
    extract(title_config, str(tmp_path / "last"), ALONE)
    last = read_features(str(tmp_path / "last"))
    assert features.raw_ids_n.equals(last.raw_ids_n)
    np.testing.assert_allclose(features.vectors_nX[:, -1], unit(last.vectors_nX), atol=1e-3)
    extract(title_config, str(tmp_path / "two"), ALONE, StageOptions("2,0"))
    two = read_features(str(tmp_path / "two"))
    assert two.info is not None and two.info.rows == ("stage 0", "stage 2")
    np.testing.assert_array_equal(two.vectors_nX, features.vectors_nX[:, [0, 2]])


def test_extract_pca_of_stages_is_that_of_the_training_items(
    title_config: Config, data: Data, tmp_path: Path
) -> None:
    info = extract(title_config, str(tmp_path / "pca"), ALONE, REDUCED)
    assert (info.width, info.dtype, info.rows) == (4, "float16", ())
    assert info.pca is not None
    assert info.pca.rows == ("stage 0", "stage 1", "stage 2", "stage 3")
    extract(title_config, str(tmp_path / "stages"), ALONE, ALL)
    flat = read_features(str(tmp_path / "stages")).vectors_nX.reshape(NUM_ITEMS, -1)
    flat = flat.astype(np.float64)
    is_trained = data.catalogue.popularity_N1[1:] > 0
    centered = flat - flat[is_trained].mean(axis=0)
    _, scales, axes = np.linalg.svd(centered[is_trained], full_matrices=False)
    reduced = read_features(str(tmp_path / "pca")).vectors_nX
    np.testing.assert_allclose(np.abs(reduced), np.abs(centered @ axes[:4].T), atol=2e-3)
    share = (scales[:4] ** 2).sum() / (scales**2).sum()
    assert info.pca.explained_variance == pytest.approx(share, abs=1e-6)


def test_merge_blocks_never_fits_components_to_items_outside_training() -> None:
    draw = np.random.default_rng(0).normal
    flat = unit(draw(size=(12, 6))).astype(np.float16)
    is_trained = np.arange(12) % 3 > 0
    vectors = ItemVectors(None, 6, ("stage 0", "stage 1"), np.float16)

    def merged(flat: np.ndarray) -> np.ndarray:
        raw_ids = [str(row) for row in range(12)]
        blocks = []
        for part in (slice(0, 5), slice(5, 12)):
            ids = pa.array(raw_ids[part])
            blocks.append(Block(ids, flat[part], [None] * len(ids)))
        return merge_blocks(blocks, vectors, 3, is_trained).vectors_nX

    expected = merged(flat)
    changed = np.where(is_trained[:, None], flat, unit(draw(size=(12, 6))) * 9).astype(np.float16)
    np.testing.assert_array_equal(merged(changed)[is_trained], expected[is_trained])


def test_principal_components_have_fixed_signs_in_any_number_of_blocks() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 5)) * [3, 2, 1, 0.1, 0]
    whole = fit_principal_components([vectors], 5, 2)
    parts = fit_principal_components(np.array_split(vectors, 7), 5, 2)
    np.testing.assert_allclose(whole(vectors), parts(vectors), atol=1e-9)
    assert (whole.axes_XP.max(axis=0) == np.abs(whole.axes_XP).max(axis=0)).all()
    assert fit_principal_components([np.ones((3, 2))], 2, 1).explained_variance == 1.0


@pytest.mark.parametrize("options", [ALL, REDUCED])
def test_extract_stages_after_a_stop_encodes_the_missing_blocks(
    options: StageOptions, title_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "BLOCK_ITEMS", 16)
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    extract(title_config, whole, ALONE, options)
    starts = record_blocks(monkeypatch)
    stop_after_two_blocks(title_config, stopped, monkeypatch, options)
    with pytest.raises(ValueError, match=r"another extraction \(stages.* changed\)"):
        extract(title_config, stopped, ALONE)
    extract(title_config, stopped, ALONE, options)
    assert starts == [0, 16, 32, 48]
    for name in storage.list_files(whole):
        assert storage.read_bytes(f"{stopped}/{name}") == storage.read_bytes(f"{whole}/{name}")


BAD_OPTIONS: dict[str, tuple[StageOptions, str]] = {
    "unknown": (StageOptions("0,7"), "text/bert_tiny has no stage '7'. Give all, or numbers"),
    "twice": (StageOptions("0,1,0"), "--stages 0,1,0 has stage 0 twice. Name every stage once"),
    "words": (StageOptions("last"), "has no stage 'last'"),
    "wide": (StageOptions("0,1", 33), "--pca is 33, and the chosen stages .* have 32 values"),
    "few_items": (StageOptions("all", 60), "--pca is 60, and only .* items of the data set have"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_extract_stages_that_do_not_fit_are_refused_before_encoding(
    case: str, title_config: Config, tmp_path: Path
) -> None:
    options, words = BAD_OPTIONS[case]
    with pytest.raises(ValueError, match=words):
        extract(title_config, str(tmp_path / "out"), ALONE, options)
    assert not (tmp_path / "out").exists()


def test_extract_stages_of_several_widths_need_pca(video_config: Config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"widths \[4, 4, 8, 16\], .* with --pca"):
        extract(video_config, str(tmp_path / "out"), ALONE, ALL)
    info = extract(video_config, str(tmp_path / "out"), ALONE, StageOptions("all", 5))
    assert (info.count, info.width) == (NUM_ITEMS, 5)


def test_extract_stages_of_an_encoder_with_pooling_is_refused(
    video_config: Config, tmp_path: Path
) -> None:
    frames = "video/image_frames"
    options = {frames: {**SMALL[frames], "pooling": "latent"}}
    item = replace(video_config.item, encoders=(frames,), options=options)
    config = replace(video_config, item=item)
    with pytest.raises(ValueError, match=rf"item\.options\.{frames}\.pooling exclude each other"):
        extract(config, str(tmp_path / "out"), ALONE, ALL)


def test_extract_stages_of_an_encoder_tuned_by_side_is_refused(
    title_config: Config, tmp_path: Path
) -> None:
    side = replace(title_config, item=replace(title_config.item, tuning="side"))
    with pytest.raises(ValueError, match=r"--stages all and item\.tuning=side exclude each other"):
        extract(side, str(tmp_path / "side"), ALONE, ALL)
    info = extract(side, str(tmp_path / "side"), ALONE)
    extract(title_config, str(tmp_path / "stages"), ALONE, ALL)
    expected = read_features(str(tmp_path / "stages"))
    assert expected.info is not None and info.rows == expected.info.rows
    of_side = read_features(str(tmp_path / "side")).vectors_nX
    np.testing.assert_allclose(of_side, expected.vectors_nX, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["--pca", "8"], "--pca 8 needs --stages"), (["--stages", "all", "--pca=-1"], "--pca is -1")],
)
def test_extract_command_with_options_that_do_not_fit_is_refused(
    words: list[str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        run_command(["extract", "out", *words])


def test_extract_command_prints_rows_and_explained_variance(
    title_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[Any] = [
        f"data.url={title_config.data.url}",
        f"data.cache_dir={tmp_path}/cache",
        "data.num_workers=0",
        "item.encoders=[text/bert_tiny]",
        f"item.options={json.dumps(title_config.item.options)}",
        "--stages",
        "0,3",
    ]
    run_command(["extract", str(tmp_path / "rows"), *words])
    assert capsys.readouterr().out == (
        f"{tmp_path}/rows: features of {NUM_ITEMS} items, 2 vectors each, 16 wide\n"
    )
    run_command(["extract", str(tmp_path / "pca"), *words, "--pca", "4", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows_reduced"] == ["stage 0", "stage 3"]
    assert 0 < facts["explained_variance"] < 1


def test_extract_of_an_encoder_with_rows_stores_each(
    video_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(video_config, str(tmp_path / "one"), ALONE)
    forward = TinyVideo.forward
    monkeypatch.setattr(TinyVideo, "rows", ("frame 0", "frame 1"))

    def two_rows(encoder: TinyVideo, frames: torch.Tensor) -> torch.Tensor:
        vectors = forward(encoder, frames)
        return torch.stack([vectors, -vectors], dim=1)

    monkeypatch.setattr(TinyVideo, "forward", two_rows)
    info = extract(video_config, str(tmp_path / "two"), ALONE)
    assert (info.rows, info.width) == (("frame 0", "frame 1"), 16)
    one = read_features(str(tmp_path / "one")).vectors_nX
    two = read_features(str(tmp_path / "two")).vectors_nX
    np.testing.assert_allclose(two, np.stack([one, -one], axis=1), atol=1e-3)
    monkeypatch.setattr(
        TinyVideo, "forward", lambda self, frames: two_rows(self, frames) * (1e5 / one[0].max())
    )
    with pytest.raises(RuntimeError, match="items failed"):
        extract(video_config, str(tmp_path / "large"), ALONE)
    failures = (tmp_path / "large" / "failures.jsonl").read_text()
    assert "its vector is not finite (train.precision=fp32, stored as float16)" in failures


def test_extract_refuses_settings_without_effect(title_config: Config, tmp_path: Path) -> None:
    train = replace(title_config.train, start_from="runs/other")
    with pytest.raises(ValueError, match=r"train\.start_from=runs/other has no effect"):
        extract(replace(title_config, train=train), str(tmp_path / "out"), ALONE)
    with pytest.raises(ValueError, match="--pca is 0"):
        StageOptions("all", 0)
