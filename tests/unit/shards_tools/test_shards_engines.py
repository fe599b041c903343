"""Engines: a dying process costs at most its item, and the engine ray needs Ray."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from packing import Pipe, data_set, start_packer

from mlrec.data.format import FAILURES_FILE
from shards_tools.cli import main

needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


@pytest.fixture
def raw_copy(raw_dir: Path, tmp_path: Path) -> Path:
    """Return a copy of the raw folder to damage."""
    return Path(shutil.copytree(raw_dir, tmp_path / "raw"))


@needs_proc
def test_local_engine_killed_worker_changes_nothing(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    pipe = Pipe(raw_copy / "videos" / "30.mp4")
    packer = start_packer(raw_copy, tmp_path / "out", "--items-per-shard", "16")
    # the retry gets the video
    pipe.kill()
    pipe.give()
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    assert data_set(tmp_path / "out") == data_set(dataset_dir)


@needs_proc
def test_local_engine_video_that_kills_its_worker_twice_fails_alone(
    raw_copy: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    pipe = Pipe(raw_copy / "videos" / "30.mp4")
    packer = start_packer(raw_copy, tmp_path / "out", "--items-per-shard", "16")
    # the first kill and that of the retry
    pipe.kill()
    pipe.kill()
    _, log = packer.communicate()
    assert packer.returncode == 0, log
    (line,) = (tmp_path / "out" / FAILURES_FILE).read_text().splitlines()
    failure = json.loads(line)
    assert (failure["raw_id"], failure["kind"]) == ("30", "video")
    assert failure["reason"] == "crashed the decoder"
    assert main(["check", str(tmp_path / "out")]) == 0


def test_make_address_without_the_ray_engine_is_bad_input(
    raw_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", str(raw_dir), str(tmp_path / "out"), "--address", "auto"]) == 2
    assert (
        "--address auto is the address of a Ray cluster, but the engine is local. Add --engine ray"
        in capsys.readouterr().err
    )
    # refused before anything is written
    assert not (tmp_path / "out").exists()


def test_ray_engine_not_installed_says_how_to_install_it(
    raw_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # None makes the import fail, also where Ray is installed
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["make", str(raw_dir), str(tmp_path / "out"), "--engine", "ray"]) == 2
    assert "pip install 'mlrec[ray]'" in capsys.readouterr().err
