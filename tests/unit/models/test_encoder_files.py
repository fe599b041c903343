"""A trained run builds its encoders from its own folder, without the pretrained checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from features import numbered, save_features
from small_encoders import TINY, TRANSFORMER, media_of
from test_encoders_other import save_ast, save_bert

from mlrec.config import Config, ItemConfig, TrainConfig, save
from mlrec.data.titles import tokenize
from mlrec.models.encoder_files import folder_of, restored_from, save_encoder_files
from mlrec.models.tower import ItemTower
from mlrec.train.warm_start import encoders_to_restore

NAMES = ("video/videomae", "features/vectors")
ITEMS = 50


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """Write a folder with a published model and one with features."""
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    VideoMAEModel(
        VideoMAEConfig(num_frames=4, image_size=32, patch_size=8, **TRANSFORMER)
    ).save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    save_features(tmp_path / "features", range(1, ITEMS + 1), width=6)
    return tmp_path


def item_config(pretrained: Path) -> ItemConfig:
    options = {
        "video/videomae": {"checkpoint": str(pretrained / "hf"), "frames": 4, "size": 32},
        "features/vectors": {"checkpoint": str(pretrained / "features"), "whiten": 0.5},
    }
    return ItemConfig(NAMES, options)


def test_tower_of_a_run_is_built_without_its_pretrained_checkpoints(
    pretrained: Path, tmp_path: Path
) -> None:
    config = item_config(pretrained)
    run = tmp_path / "run"
    run.mkdir()
    trained = ItemTower(config, 16, ITEMS, items=numbered(ITEMS)).eval()
    save_encoder_files(run, trained)
    video, ids = trained.specs
    media = media_of(video, 3) | {ids: torch.arange(1, 4)}
    for name in ("hf", "features"):
        shutil.rmtree(pretrained / name)
    restored = ItemTower(config, 16, ITEMS, restored_from(run, NAMES), numbered(ITEMS)).eval()
    restored.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(restored(media), trained(media))
    assert not list(run.glob("*.partial"))


@pytest.mark.parametrize("file", ["config.json", "pixels.json"])
def test_tower_of_a_run_whose_folder_is_incomplete_is_refused(
    pretrained: Path, tmp_path: Path, file: str
) -> None:
    config = item_config(pretrained)
    run = tmp_path / "run"
    run.mkdir()
    save_encoder_files(run, ItemTower(config, 16, ITEMS, items=numbered(ITEMS)))
    (folder_of(run, "video/videomae") / file).unlink()
    with pytest.raises(ValueError, match=f"has no {file}, so its run is incomplete"):
        ItemTower(config, 16, ITEMS, restored_from(run, NAMES), numbered(ITEMS))


def save_titles(folder: Path) -> dict[str, object]:
    save_bert(folder)
    return {"checkpoint": str(folder), "length": 6}


def save_sounds(folder: Path) -> dict[str, object]:
    save_ast(folder, mean=-1.0, std=2.0)
    return {"checkpoint": str(folder), "length": 4000}


def save_stretched(folder: Path) -> dict[str, object]:
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(image_size=32, patch_size=8, **TINY)).save_pretrained(folder)
    return {"checkpoint": str(folder), "size": 48, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("text/huggingface", save_titles),
        ("audio/ast", save_sounds),
        ("image/huggingface", save_stretched),
    ],
)
def test_encoder_of_a_run_is_the_same_without_its_checkpoint(
    name: str, save: Callable[[Path], dict[str, object]], tmp_path: Path
) -> None:
    pretrained = tmp_path / "pretrained"
    run = tmp_path / "run"
    run.mkdir()
    config = ItemConfig((name,), {name: save(pretrained)})
    trained = ItemTower(config, 16, ITEMS).eval()
    save_encoder_files(run, trained)
    shutil.rmtree(pretrained)
    restored = ItemTower(config, 16, ITEMS, restored_from(run, [name])).eval()
    restored.load_state_dict(trained.state_dict())
    media = media_of(trained.specs[0], 2)[trained.specs[0]]
    if name.startswith("text"):
        tokens = tokenize("a cat barks", 6, restored.specs[0].tokenizer)
        assert tokens.tolist() == [[2, 4, 5, 1, 3, 0], [1, 1, 1, 1, 1, 0]]
        media = torch.from_numpy(tokens)[None]
    with torch.no_grad():
        assert torch.equal(restored({restored.specs[0]: media}), trained({trained.specs[0]: media}))


def test_save_encoder_files_replaces_those_of_an_earlier_start(
    pretrained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "encoders" / "stale").mkdir(parents=True)
    (run / "encoders.partial" / "stale").mkdir(parents=True)
    save_encoder_files(run, ItemTower(item_config(pretrained), 16, ITEMS, items=numbered(ITEMS)))
    assert sorted(path.name for path in (run / "encoders").iterdir()) == [
        "features-vectors",
        "video-videomae",
    ]
    assert not list(run.glob("*.partial"))


def test_restored_encoder_of_an_earlier_version_reads_no_weights(
    pretrained: Path, tmp_path: Path
) -> None:
    config = item_config(pretrained)
    trained = ItemTower(config, 16, ITEMS, items=numbered(ITEMS))
    (pretrained / "hf" / "model.safetensors").unlink()
    restored = ItemTower(config, 16, ITEMS, restored_from(tmp_path / "run", NAMES), numbered(ITEMS))
    assert restored.random_encoders == []
    assert restored.state_dict().keys() == trained.state_dict().keys()


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_tower_of_a_run_with_a_damaged_whitening_is_refused(
    content: bytes, pretrained: Path, tmp_path: Path
) -> None:
    config = item_config(pretrained)
    run = tmp_path / "run"
    run.mkdir()
    save_encoder_files(run, ItemTower(config, 16, ITEMS, items=numbered(ITEMS)))
    (folder_of(run, "features/vectors") / "whitening.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"whitening\.safetensors is damaged"):
        ItemTower(config, 16, ITEMS, restored_from(run, NAMES), numbered(ITEMS))


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, True),
        ({"lr": 1e-5, "tuning": "top"}, True),
        ({"frames": 2}, False),
        ({"checkpoint": "elsewhere"}, False),
        # these rename the weights
        ({"tuning": "side"}, False),
        ({"tuning": "lora"}, False),
    ],
)
def test_warm_start_takes_the_files_of_equal_encoders_only(
    options: dict[str, object], same: bool, pretrained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    name = "video/videomae"
    run.mkdir()
    item = ItemConfig((name,), {name: item_config(pretrained).options[name]})
    save_encoder_files(run, ItemTower(item, 16, ITEMS))
    trained = TrainConfig(precision="fp32")
    save(Config(item=item, run_dir=str(run), train=trained), run / "config.yaml")
    changed = ItemConfig((name,), {name: {**item.options[name], **options}})
    second = Config(item=changed, train=TrainConfig(start_from=str(run)))
    assert encoders_to_restore(second, resumed=None).folders == (
        {name: folder_of(run, name)} if same else {}
    )
