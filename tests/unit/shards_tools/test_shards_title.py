"""--policy title: packing, continuing, repairing and the dry run of a small raw folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from packed import samples
from packing import data_set
from published_checkpoints import rewrite, save_clip

from mlrec import storage
from mlrec.data.format import DATASET_FILE, item_shard, read_dataset_info
from shards_tools.cli import main
from shards_tools.pack.media import encode_h264
from shards_tools.pack.settings import Settings

ITEMS = 5
"""Items of the raw folder, of which the last has no title."""
SIDE = 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw folder of one user who watched all items."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "small_pairs.tsv").write_text("1\t" + " ".join(map(str, range(1, ITEMS + 1))) + "\n")
    titles = [f"{item},a red car" for item in range(1, ITEMS)]
    (folder / "small_titles.csv").write_text("\n".join(["item,title", *titles]) + "\n")
    (folder / "small_videos").mkdir()
    for item in range(1, ITEMS + 1):
        coarse = np.random.default_rng(item).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
        video = encode_h264(coarse.repeat(8, axis=1).repeat(8, axis=2), 24, gop=8, crf=10)
        (folder / "small_videos" / f"{item}.mp4").write_bytes(video)
    return folder


def make(raw: Path, out: Path, *options: str) -> int:
    arguments = ["--size", str(SIDE), "--workers", "1", "--items-per-shard", "3", *options]
    return main(["make", str(raw), str(out), *arguments])


def by_title(checkpoint: Path) -> list[str]:
    return ["--policy", "title", "--title-checkpoint", str(checkpoint)]


@pytest.fixture(scope="module")
def packed(raw: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of the raw folder."""
    out = tmp_path_factory.mktemp("packed") / "data"
    assert make(raw, out, *by_title(checkpoint)) == 0
    return out


def test_make_by_title_records_the_weights_and_the_items_without_title(
    packed: Path, checkpoint: Path
) -> None:
    info = read_dataset_info(str(packed))
    assert info.media.policy == "title"
    assert info.media.title_weights == storage.sha256_of(str(checkpoint / "model.safetensors"))
    assert "policy scenes chose the frames of 1 item without title" in info.remarks
    settings = (packed / "_work" / "settings.json").read_text()
    # a checkpoint may move: its place must not decide whether a packing continues
    assert str(checkpoint) not in settings
    assert str(checkpoint) not in (packed / DATASET_FILE).read_text()


def test_show_by_title_names_the_weights(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(packed)]) == 0
    # the table wraps its lines
    shown = capsys.readouterr().out.replace("│", "").split()
    media = read_dataset_info(str(packed)).media
    assert f"policy title, CLIP weights {media.title_weights[:16]}" in " ".join(shown)


def test_make_by_title_of_untitled_items_packs_the_frames_of_scenes(
    raw: Path, packed: Path, tmp_path: Path
) -> None:
    assert make(raw, tmp_path / "scenes", "--policy", "scenes") == 0
    by_title = samples(packed, "items")
    by_scenes = samples(tmp_path / "scenes", "items")
    assert [sample["0.jpg"] for sample in by_title] != [sample["0.jpg"] for sample in by_scenes]
    for member in ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"):
        assert by_title[-1][member] == by_scenes[-1][member]


def test_make_by_title_with_the_checkpoint_elsewhere_is_complete_already(
    raw: Path, packed: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(checkpoint, tmp_path / "moved"))
    assert make(raw, packed, *by_title(moved)) == 0
    assert "is complete already" in capsys.readouterr().err


def test_make_by_title_with_other_weights_raises(
    raw: Path, packed: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    rewrite(other, lambda tensors: tensors | {"logit_scale": tensors["logit_scale"] + 1})
    assert make(raw, packed, *by_title(other)) == 2
    assert "was begun with title_weights" in capsys.readouterr().err


def test_repair_by_title_needs_the_same_checkpoint(
    raw: Path, packed: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copytree(packed, tmp_path / "data"))
    (damaged / item_shard(1)).unlink()
    command = ["repair", str(raw), str(damaged), "--workers", "1"]
    assert main(command) == 2
    assert "was packed with --policy title. Give the folder" in capsys.readouterr().err
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    rewrite(other, lambda tensors: tensors | {"logit_scale": tensors["logit_scale"] + 1})
    assert main([*command, "--title-checkpoint", str(other)]) == 2
    assert "is not the CLIP model that" in capsys.readouterr().err
    assert main([*command, "--title-checkpoint", str(checkpoint)]) == 0
    assert data_set(damaged) == data_set(packed)


def test_make_dry_run_by_title_packs_some_items(
    raw: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(raw, tmp_path / "out", *by_title(checkpoint), "--dry-run", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["sampled_items"], document["sampled_items_failed"]) == (ITEMS, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policy", "title"], "Give its folder with --title-checkpoint FOLDER"),
        (["--title-checkpoint", "X"], "is for --policy title, but the policy is middle"),
        (["--policy", "title", "--title-checkpoint", "X"], "--title-checkpoint X has no config"),
        (["--policy", "title", "--media", "clip"], "cannot be combined with --media clip"),
    ],
)
@pytest.mark.parametrize("command", ["make", "bench"])
def test_title_options_that_do_not_fit_are_bad_input(
    raw: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(raw)] if command == "bench" else [str(raw), str(tmp_path / "out")]
    assert main([command, *arguments, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_of_clips_by_title_raise() -> None:
    with pytest.raises(ValueError, match="--policy title cannot be combined with --media clip"):
        Settings(media="clip", policy="title", title_weights="0" * 64)


def test_make_by_title_without_any_title_raises(
    raw: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untitled = Path(shutil.copytree(raw, tmp_path / "raw"))
    (untitled / "small_titles.csv").unlink()
    assert make(untitled, tmp_path / "out", *by_title(checkpoint)) == 2
    assert "--policy title needs titles, and no item has one" in capsys.readouterr().err
