"""A trained run builds its encoders from its own folder; the pretrained checkpoint is read once, when training starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import TRANSFORMER, media_of

from mlrec.config import ItemConfig
from mlrec.models.encoder_files import folder_of, restored_from, save_encoder_files
from mlrec.models.tower import ItemTower

NAMES = ("video/videomae", "features/vectors")
ITEMS = 50


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A folder with a published model and one with features."""
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    VideoMAEModel(VideoMAEConfig(num_frames=4, image_size=32, patch_size=8, **TRANSFORMER)).save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "features.npy", np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32))
    np.save(tmp_path / "features" / "items.npy", np.arange(1, ITEMS + 1))
    return tmp_path


def item_config(pretrained: Path) -> ItemConfig:
    options = {
        "video/videomae": {"checkpoint": str(pretrained / "hf"), "frames": 4, "size": 32},
        "features/vectors": {"checkpoint": str(pretrained / "features"), "whiten": 0.5},
    }
    return ItemConfig(NAMES, options)


def test_tower_of_a_run_is_built_without_its_pretrained_checkpoints(pretrained: Path, tmp_path: Path) -> None:
    config, run = item_config(pretrained), tmp_path / "run"
    run.mkdir()
    trained = ItemTower(config, 16, ITEMS).eval()
    save_encoder_files(run, trained)
    video, ids = trained.specs
    media = media_of(video, 3) | {ids: torch.arange(1, 4)}
    for name in ("hf", "features"):
        shutil.rmtree(pretrained / name)
    restored = ItemTower(config, 16, ITEMS, restored_from(run, NAMES)).eval()
    restored.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(restored(media), trained(media))
    assert not list(run.glob("*.partial"))


@pytest.mark.parametrize("file", ["config.json", "pixels.json"])
def test_tower_of_a_run_whose_folder_is_incomplete_is_refused(pretrained: Path, tmp_path: Path, file: str) -> None:
    config, run = item_config(pretrained), tmp_path / "run"
    run.mkdir()
    save_encoder_files(run, ItemTower(config, 16, ITEMS))
    (folder_of(run, "video/videomae") / file).unlink()
    with pytest.raises(ValueError, match=f"has no {file}, so its run is incomplete"):
        ItemTower(config, 16, ITEMS, restored_from(run, NAMES))
