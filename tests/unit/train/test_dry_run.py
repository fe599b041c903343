"""--dry-run of mlrec train and mlrec-shards make.

They predict what the command does without it, and write nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packing import Pipe, start_packer
from small_encoders import SMALL
from tiny import NUM_ITEMS, NUM_USERS, VIDEO, tiny_overrides

from mlrec.cli.main import run_command
from mlrec.config import Config, ItemConfig, TrackingConfig, ZeroConfig, load
from mlrec.data.decode import item_bytes
from mlrec.data.format import DATASET_FILE, ORACLE_FILE
from mlrec.data.stream import Data, open_data
from mlrec.models.building import build_model
from mlrec.train import large_tables
from mlrec.train.deepspeed_config import MAX_BUCKET_ELEMENTS, deepspeed_config
from mlrec.train.dry_run import predict
from mlrec.train.loop import train
from mlrec.train.memory_estimate import StateBytes
from shards_tools import cli as shards


def described(config: Config, ranks: int) -> list[str]:
    return predict(config, ranks).describe()


@pytest.mark.parametrize(
    ("stage", "precision", "expected"),
    [
        (0, "fp32", (400, 160, 0, 320)),
        (1, "fp32", (400, 160, 160, 120)),
        (1, "bf16", (200, 80, 80, 120)),
        (2, "bf16", (200, 20, 80, 120)),
        (3, "bf16", (50, 20, 80, 120)),
    ],
)
def test_state_bytes_at_each_zero_stage_are_partitioned(
    stage: int, precision: str, expected: tuple[int, ...]
) -> None:
    config = load([], [f"zero.stage={stage}", f"train.precision={precision}"])
    state = StateBytes.of(40, 100, config, ranks=4)
    assert (state.parameters, state.gradients, state.bucket, state.optimizer) == expected
    assert state.on_device(offload_optimizer=True) == sum(expected[:3])


def test_state_bytes_with_ema_counts_an_average_per_trained_parameter() -> None:
    without, averaged = (
        StateBytes.of(40, 100, load([], [f"train.ema={ema}"]), ranks=4) for ema in (0, 0.9)
    )
    assert averaged.optimizer - without.optimizer == 4 * 40 // 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["zero.stage=0"], (4 * 60 + 4 * 10, 0, 0, 8 * 10)),
        (["zero.stage=0", "train.ema=0.9"], (4 * 60 + 4 * 10, 0, 0, 12 * 10)),
        # The weights lie next to their moments.
        (["zero.stage=2", "zero.offload_optimizer=true"], (4 * 60, 0, 0, 12 * 10)),
    ],
)
def test_state_bytes_of_a_shared_table_are_partitioned_at_every_stage(
    options: list[str], expected: tuple[int, ...]
) -> None:
    state = StateBytes.of(40, 100, load([], options), ranks=4, in_tables=40)
    assert (state.parameters, state.gradients, state.bucket, state.optimizer) == expected


def test_predict_counts_a_large_table_of_ids_once(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, zero=replace(tiny_config.zero, stage=2))
    whole = predict(config, ranks=1)
    monkeypatch.setattr(large_tables, "MIN_SHARDED_WEIGHTS", 1)
    shared = predict(config, ranks=1)
    assert shared.trained_parameters == whole.trained_parameters
    # Its gradient, fp32 copy and bucket are gone.
    table_bytes = 4 * 61 * 16
    assert whole.memory.needed_bytes - shared.memory.needed_bytes == 3 * table_bytes


def test_gradient_bucket_of_few_parameters_is_as_large_as_their_gradients() -> None:
    def bucket(*options: str) -> int:
        return StateBytes.of(40, 100, load([], ["zero.stage=1", *options]), ranks=4).bucket

    assert bucket() == 4 * 40
    assert bucket("zero.options={reduce_bucket_size: 7}") == 4 * 7
    many = deepspeed_config(load([], []), world_size=4, trained=1 << 40)
    assert many["zero_optimization"]["reduce_bucket_size"] == MAX_BUCKET_ELEMENTS


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
    activations_line = (
        r"item tower (\d\.\d) MB per item, (\d+\.\d) MB for all items of a step, "
        r"(\d+\.\d) MB for a chunk; item\.checkpoint=auto: held if they fit in half of the memory"
    )
    activations = re.search(activations_line, output)
    assert activations is not None, output
    item_mb, _, chunk_mb = map(float, activations.groups())
    assert chunk_mb == pytest.approx(8 * item_mb, rel=0.5)
    assert not (tmp_path / "run").exists()

    run_command([*command, "--json"])
    prediction = json.loads(capsys.readouterr().out)
    assert prediction["users"] == NUM_USERS
    assert prediction["last_step"] == 12
    assert prediction["ranks"] == 2
    assert prediction["memory"]["fits"] is True
    assert prediction["media"]["frames"] == 5


def test_dry_run_of_a_run_that_does_not_fit_names_the_remedy(
    video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "sysconf", lambda name: 64)
    lines = described(replace(video_config, zero=ZeroConfig(stage=0)), 2)
    assert (
        "does not fit this machine's memory, shared by 2 ranks, 0.0 MB: set zero.stage=3"
        in lines[-1]
    )


def test_dry_run_of_one_rank_that_does_not_fit_names_stage_3_for_several_ranks_only(
    video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "sysconf", lambda name: 64)
    assert ": set zero.stage=3 on several ranks, start more ranks" in described(video_config, 1)[-1]


@pytest.mark.parametrize(
    ("left", "choice", "words"),
    [
        (3.5, "auto", "does not fit .*: set item.chunk=3 or lower$"),
        (3.5, "never", "does not fit .*: set item.checkpoint=auto and item.chunk=3 or lower$"),
        (8.5, "never", "does not fit .*: set item.checkpoint=auto$"),
        (0.5, "always", "does not fit .*: those of one item do not fit; choose a smaller encoder"),
        (8.5, "auto", "fits .* are left for activations$"),
        (1e6, "never", "fits .* are left for activations$"),
    ],
)
def test_dry_run_of_activations_that_do_not_fit_names_the_chunk_that_does(
    left: float, choice: str, words: str, video_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = replace(video_config, item=replace(video_config.item, checkpoint=choice))
    memory = predict(config, 1).memory
    assert memory.activations is not None
    room = int(memory.needed_bytes + left * memory.activations.item_bytes)
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else room)
    prediction = predict(config, 1)
    assert re.match(words, prediction.describe()[-1].strip())
    assert prediction.memory.fits == words.startswith("fits")


@pytest.mark.parametrize(
    ("choice", "words"), [("always", "recomputed chunk by chunk"), ("never", "held")]
)
def test_dry_run_with_a_set_item_checkpoint_names_it(
    choice: str, words: str, video_config: Config
) -> None:
    lines = described(replace(video_config, item=replace(video_config.item, checkpoint=choice)), 2)
    assert sum(line.endswith(f"item.checkpoint={choice}: {words}") for line in lines) == 1
    frozen = described(replace(video_config, item=replace(video_config.item, tuning="frozen")), 2)
    assert not any("item.checkpoint" in line for line in frozen)


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
    chunks = prediction.host.chunks / 1e6
    assert line == (
        f"host     2 steps of media {media}, evaluation {chunks:,.1f} MB of /dev/shm per rank"
    )
    host = prediction.as_json()["host"]
    assert host["steps"] == 2 and host["media_bytes"] == expected
    assert host["shared_memory_bytes"] > 0 and host["pinned_bytes"] == 0


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
