"""Which video encoders a packed number of frames is enough for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.models.encoders import ENCODERS
from shards_tools.cli import main
from shards_tools.commands.make import NUMBERS
from shards_tools.pack.encoder_frames import describe_frames, frames_of_encoders


def test_frames_of_encoders_has_every_video_encoder_with_a_number_of_its_own() -> None:
    names = [f"video/{name}" for group in frames_of_encoders().values() for name in group]
    assert len(names) == len(set(names))
    missing = {name for name in ENCODERS if name.startswith("video/")} - set(names)
    # it reads as many as its checkpoint states
    assert missing == {"video/huggingface"}


def test_help_of_frames_names_the_range_of_the_encoders() -> None:
    numbers = list(frames_of_encoders())
    assert f"encoders read {numbers[0]} to {numbers[-1]} " in NUMBERS["frames"]


def test_describe_frames_names_the_encoders_served_and_the_others() -> None:
    served, others = describe_frames(5)
    assert served.startswith("5 frames per video: enough for video encoders that read 4 (x3d_xs")
    assert "5 (tiny, image_frames, mvit_b_16)" in served
    assert others.startswith("frames repeat for encoders that read 8 (c2d_r50, i3d_r50, slow_r50)")


def test_describe_frames_of_few_or_many_has_one_group() -> None:
    served, others = describe_frames(1)
    assert served == "1 frame per video: too few"
    assert "4 (x3d_xs, efficient_x3d_xs), 5 (" in others
    assert len(describe_frames(64)) == 1


def test_make_and_its_dry_run_name_the_encoders_served(
    raw_dir: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--size", "32", "--items-per-shard", "16", "--users-per-shard", "50"]
    line = describe_frames(5)[0]
    assert main(["make", str(raw_dir), str(dataset_dir), *settings]) == 0
    assert line in capsys.readouterr().out.splitlines()
    assert main(["make", str(raw_dir), str(dataset_dir), *settings, "--dry-run"]) == 0
    assert line in capsys.readouterr().out.splitlines()
