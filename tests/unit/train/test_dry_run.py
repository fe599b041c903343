"""--dry-run of mlrec train and mlrec-shards make.

They predict what the command does without it, and write nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packing import Pipe, start_packer
from small_encoders import SMALL
from tiny import NUM_ITEMS, NUM_USERS, VIDEO, tiny_overrides

from mlrec.cli.main import run_command
from mlrec.config import Config, ItemConfig, TrackingConfig, load
from mlrec.data import host_memory
from mlrec.data.decode import item_bytes
from mlrec.data.format import DATASET_FILE, ORACLE_FILE
from mlrec.data.stream import Data, open_data
from mlrec.models.building import build_model
from mlrec.train import large_tables
from mlrec.train.dry_run import predict
from mlrec.train.loop import train
from shards_tools import cli as shards


def described(config: Config, ranks: int) -> list[str]:
    return predict(config, ranks).describe()


def test_predict_counts_a_large_table_of_ids_once(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, zero=replace(tiny_config.zero, stage=2))
    whole = predict(config, ranks=1)
    monkeypatch.setattr(large_tables, "MIN_SHARDED_WEIGHTS", 1)
    shared = predict(config, ranks=1)
    assert shared.forecast.cost.trained == whole.forecast.cost.trained
    # Its gradient, fp32 copy and bucket are gone.
    table_bytes = 4 * 61 * 16
    assert whole.forecast.memory.state_bytes - shared.forecast.memory.state_bytes == 3 * table_bytes


def test_train_dry_run_prints_the_prediction_and_writes_nothing(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *tiny_overrides(dataset_dir, tmp_path), *VIDEO, "--dry-run=2"]
    run_command(command)
    output = capsys.readouterr().out
    assert f"synthetic: {NUM_USERS} users, {NUM_ITEMS} items" in output
    assert "steps    0 to 12, 1.7 epochs of 7; a step has up to 18 users" in output
    step_line = (
        r"a step   \d+ distinct items, at most (\d+); "
        r"at most \d+ on one of 2 ranks; in chunks of 8"
    )
    assert re.search(step_line, output), output
    reads_line = r"reads    0\.\d MB a step, \d+\.\d MB an epoch, of 0\.8 MB of item shards"
    assert re.search(reads_line, output), output
    assert "frames   the data set has 5 frames per video, chosen by policy middle\n" in output
    assert "fits this machine's memory, shared by 2 ranks" in output or torch.cuda.is_available()
    assert re.search(r"model    [\d,]+ parameters, .*; \d chunks? of 8 items; \d\.\d MB", output)
    assert re.search(r"time     .* a step: encoding .* the loader takes", output), output
    assert not (tmp_path / "run").exists()

    run_command([*command, "--json"])
    prediction = json.loads(capsys.readouterr().out)
    assert prediction["users"] == NUM_USERS
    assert prediction["last_step"] == 12
    assert prediction["ranks"] == 2
    memory = prediction["memory"]
    assert memory["fits"] is True
    step_bytes = (
        memory["rows_bytes"]
        + memory["held_bytes"]
        + max(memory["chunk_bytes"] + memory["gradient_sums_bytes"], memory["recommender_bytes"])
    )
    parts = ("parameters", "gradients", "bucket", "optimizer", "averages")
    state_bytes = sum(memory[f"{part}_bytes"] for part in parts)
    ranking_parts = ("scores", "comparisons", "vectors")
    ranking_bytes = sum(memory[f"ranking_{part}_bytes"] for part in ranking_parts)
    # Gradients are released before a validation.
    most = max(step_bytes, ranking_bytes - memory["gradients_bytes"]) + memory["allowance_bytes"]
    assert memory["needed_bytes"] == state_bytes + most
    assert 0 < prediction["time"]["step_s"] < 100
    assert prediction["media"]["frames"] == 5


def test_dry_run_of_a_run_that_does_not_fit_names_the_remedy(
    video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    item = replace(video_config.item, chunk=32, checkpoint="never")
    config = replace(video_config, item=item)
    needed = predict(config, 1).forecast.memory.needed_bytes
    room = int(0.7 * needed)
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else room)
    prediction = predict(config, 1)
    assert not prediction.forecast.memory.fits
    remedy, top = prediction.describe()[-2:]
    assert re.match(r" +with item\.checkpoint=\w+ (item\.chunk=\d+ )?it takes \d+\.\d MB", remedy)
    assert re.match(r" +with item\.tuning=top it takes \d+\.\d MB", top)
    for change in prediction.remedies:
        settings = [setting.split(".", 1)[1].split("=") for setting in change.settings]
        other = {key: int(value) if value.isdigit() else value for key, value in settings}
        again = predict(replace(config, item=replace(config.item, **other)), 1)  # type: ignore[arg-type]
        assert again.forecast.memory.fits
        assert again.forecast.memory.needed_bytes == change.needed_bytes


def test_dry_run_without_any_setting_that_fits_says_so(
    video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "sysconf", lambda name: 64)
    lines = described(video_config, 2)
    assert "does not fit this machine's memory, shared by 2 ranks: it takes" in lines[-2]
    assert "no setting makes it fit" in lines[-1]


@pytest.mark.parametrize(
    ("choice", "words"), [("always", "all of them recomputed"), ("never", "all of them held")]
)
def test_dry_run_with_a_set_item_checkpoint_follows_it(
    choice: str, words: str, video_config: Config
) -> None:
    lines = described(replace(video_config, item=replace(video_config.item, checkpoint=choice)), 2)
    assert sum(words in line for line in lines) == 1
    frozen = described(replace(video_config, item=replace(video_config.item, tuning="frozen")), 2)
    assert sum("without a backward pass" in line for line in frozen) == 1


def test_dry_run_without_the_checkpoint_of_an_encoder_says_so(
    video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    item = ItemConfig(encoders=("video/videomae",), tuning="top", chunk=4)
    lines = described(replace(video_config, item=item), 2)
    assert (
        "note     video/videomae: its checkpoint is not on this machine and was not read" in lines
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluate.select_by=hr@5", "evaluate.select_by is 'hr@5'"),
        ("recommender.options={heads: 0}", "recommender.options.heads is 0"),
    ],
)
def test_dry_run_of_invalid_settings_is_refused_as_in_training(
    setting: str, words: str, dataset_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        described(load([], [*tiny_overrides(dataset_dir, tmp_path), setting]), 1)


def test_dry_run_of_a_modality_without_media_is_refused(tiny_config: Config) -> None:
    item = ItemConfig(encoders=("audio/ast",), options={"audio/ast": SMALL["audio/ast"]})
    with pytest.raises(ValueError, match="holds no audio of its items, but an encoder reads it"):
        described(replace(tiny_config, item=item), 1)


def test_dry_run_with_an_occupied_run_dir_is_refused(dataset_dir: Path, tmp_path: Path) -> None:
    for place, words in (
        (dataset_dir, "is a data set"),
        (dataset_dir / "dataset.json", "is a file"),
    ):
        with pytest.raises(
            ValueError, match=rf"{place} {words}\. Name a folder for this run alone"
        ):
            described(load([], [*tiny_overrides(dataset_dir, tmp_path), f"run_dir={place}"]), 1)


def test_dry_run_states_the_host_memory_of_the_loader(video_config: Config) -> None:
    run = replace(video_config, data=replace(video_config.data, num_workers=2))
    prediction = predict(run, 2)
    (spec,) = build_model(run, prediction.data, 0).tower.specs
    most_items = prediction.step_sizes.most_items_of_rank
    expected = 2 * most_items * item_bytes([spec])
    (line,) = [line for line in prediction.describe() if line.startswith("host")]
    media = f"{expected / 1e6:,.1f} MB"
    chunks = prediction.forecast.host.loader.chunks / 1e6
    assert line == (
        f"host     2 steps of media {media}, evaluation {chunks:,.1f} MB of /dev/shm per rank; "
        f"{2 * (expected / 1e6 + chunks):,.1f} MB per node of 2 ranks"
    )
    host = prediction.as_json()["host"]
    assert host["steps"] == 2 and host["media_bytes"] == expected
    assert host["shared_memory_bytes"] > 0 and host["pinned_bytes"] == 0


def test_dry_run_without_room_for_the_loader_says_so(
    video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting = predict(video_config, 2)
    assert fitting.as_json()["host"]["fault"] is None
    monkeypatch.setattr(host_memory, "free_host_bytes", lambda: 10_000)
    prediction = predict(video_config, 2)
    words = "Cannot hold the loader's batches in host memory: they take"
    line = f"         does not fit host memory: {words}"
    assert sum(described.startswith(line) for described in prediction.describe()) == 1
    assert prediction.as_json()["host"]["fault"].startswith(words)


def test_dry_run_of_ids_reads_nothing(tiny_config: Config) -> None:
    lines = described(tiny_config, 1)
    assert any(line.startswith("reads    0.0 MB a step") for line in lines)
    assert not any(line.startswith("frames") for line in lines)


@pytest.mark.parametrize("flag", ["--dry-run=0", "--dry-run=two", "--dry-runs"])
def test_dry_run_flag_without_a_number_of_ranks_is_refused(flag: str) -> None:
    with pytest.raises(
        ValueError, match=r"(argument --dry-run: the value is|unrecognized arguments: --dry-runs)"
    ):
        run_command(["train", "configs/experiment/quickstart_id.yaml", flag])


def test_make_dry_run_predicts_the_packed_data_set(
    raw_dir: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(raw_dir, raw)
    videos = sorted((raw / "videos").iterdir())
    videos[0].unlink()
    command = [
        "make",
        str(raw),
        str(tmp_path / "out"),
        "--size",
        "32",
        "--items-per-shard",
        str(NUM_ITEMS - 1),
        "--dry-run",
    ]
    assert shards.main(command) == 0
    output = capsys.readouterr().out
    assert f"{NUM_USERS} users with 5 or more interactions" in output
    assert f"videos: {NUM_ITEMS - 1} items, {NUM_ITEMS - 1} files in videos\n" in output
    assert f"videos: missing for 1 of {NUM_ITEMS} items, raw ids {videos[0].stem}\n" in output
    assert f"1 of {NUM_ITEMS} items will fail without their video" in output
    assert "without audio\n" in output
    packed_line = r"packed: about (\d+\.\d) MB in 2 item shards, by 8 items packed in memory"
    packed = re.search(packed_line, output)
    assert packed is not None, output
    data: Data = open_data(load([], [f"data.url={dataset_dir}"]).data)
    actual_mb = sum(file.size for file in data.info.files) / 1e6
    assert float(packed[1]) == pytest.approx(actual_mb, rel=0.25)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_make_dry_run_with_a_video_that_crashes_its_decoder_continues(
    raw_dir: Path, tmp_path: Path
) -> None:
    raw = Path(shutil.copytree(raw_dir, tmp_path / "raw"))
    pipe = Pipe(raw / "videos" / "1.mp4")
    packer = start_packer(raw, tmp_path / "out", "--dry-run", "--json", output=subprocess.PIPE)
    # The decoder is killed at the first attempt, and at the retry.
    pipe.kill()
    pipe.kill()
    output, log = packer.communicate()
    assert packer.returncode == 0, log
    prediction = json.loads(output)
    assert prediction["sampled_items"] == 8
    assert prediction["sampled_items_failed"] == 1
    assert not (tmp_path / "out").exists()


def test_dry_run_with_an_unknown_wandb_mode_is_refused_as_in_training(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "junk")
    config = replace(tiny_config, tracking=TrackingConfig(wandb="auto"))
    with pytest.raises(ValueError, match="WANDB_MODE is 'junk'"):
        predict(config, 1)
    with pytest.raises(ValueError, match="WANDB_MODE is 'junk'"):
        train(config)
    assert not config.run_path.exists()


def test_dry_run_of_a_damaged_oracle_is_refused(
    dataset_dir: Path, tiny_config: Config, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(dataset_dir, tmp_path / "data"))
    content = json.loads((copy / DATASET_FILE).read_text())
    (copy / ORACLE_FILE).write_bytes(b"[]")
    for file in content["files"]:
        if file["path"] == ORACLE_FILE:
            file |= {"size": 2, "sha256": hashlib.sha256(b"[]").hexdigest()}
    (copy / DATASET_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"oracle\.json is invalid"):
        predict(replace(tiny_config, data=replace(tiny_config.data, url=str(copy))), 1)
