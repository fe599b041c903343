"""What a run leaves in its TensorBoard event files, also after a resume."""

import io
import logging
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    SESSION_START_INFO_TAG,
    parse_session_start_info_plugin_data,
)
from tiny import VIDEO, tiny_overrides

from mlrec.config import Config, TrackingConfig
from mlrec.config.run_files import TENSORBOARD
from mlrec.data.pictures import SIDE_PX
from mlrec.evaluation.examples import RECOMMENDED_ITEMS, SHOWN_USERS
from mlrec.evaluation.metrics import GROUPS
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.recommendations import EXAMPLES, SHARE
from mlrec.runs.service import ServiceSink
from mlrec.runs.tensorboard_run import TensorBoardRun
from mlrec.runs.tracker import Tracker
from mlrec.train.dry_run import predict
from mlrec.train.loop import train


def events_of(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / TENSORBOARD), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def scalars_of(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values by metric, without the shares of recommendations."""
    names = [name for name in events.Tags()["scalars"] if not name.startswith("recommended/")]
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in names}


def logged_metrics(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the same of metrics.jsonl."""
    metrics: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in read_metrics(run):
        for name, value in line.items():
            if name not in ("step", "time"):
                metrics[name].append((line["step"], pytest.approx(value, rel=1e-6)))
    return metrics


def test_tensorboard_run_trained_and_resumed_equals_metrics_file(
    dataset_dir: Path, tmp_path: Path
) -> None:
    def train_command(duration: str) -> None:
        settings = [*tiny_overrides(dataset_dir, tmp_path), *VIDEO, "name=tracked"]
        settings += ["tracking.tensorboard=true", f"train.duration={duration}"]
        subprocess.run([sys.executable, "-m", "mlrec", "train", *settings], check=True, timeout=240)

    run = tmp_path / "tracked"
    train_command("2 steps")
    train_command("4 steps")
    events = events_of(run)
    scalars = scalars_of(events)
    assert scalars == logged_metrics(run)
    assert {"train/loss", "validation/hr@10", "test/hr@10"} <= scalars.keys()
    assert [step for step, _ in scalars["train/loss"]][-1] == 4
    shares = [events.Scalars(SHARE.format(group=group))[-1].value for group, _, _ in GROUPS]
    assert sum(shares) == pytest.approx(1)
    pictures = [name for name in events.Tags()["images"] if name.startswith(EXAMPLES)]
    assert len(pictures) == SHOWN_USERS
    image = Image.open(io.BytesIO(events.Images(pictures[0])[-1].encoded_image_string))
    assert image.size == (RECOMMENDED_ITEMS * SIDE_PX, 3 * SIDE_PX)
    texts = {name: events.Tensors(f"{name}/text_summary") for name in ("configuration", EXAMPLES)}
    configuration = texts["configuration"][-1].tensor_proto.string_val[0].decode()
    assert "    duration: 4 steps" in configuration
    assert "recommended\n    1. " in texts[EXAMPLES][-1].tensor_proto.string_val[0].decode()


def open_tracker(path: Path, resumed_step: int = 0, **resolved: Any) -> Tracker:
    path.mkdir(exist_ok=True)
    config = Config(tracking=TrackingConfig(tensorboard=True))
    return Tracker(path, config, 100, asdict(config) | resolved, True, resumed_step)


@pytest.mark.parametrize("resumed_step", [0, 20])
def test_tensorboard_run_after_a_kill_holds_each_step_once(
    tmp_path: Path, resumed_step: int
) -> None:
    killed = open_tracker(tmp_path)
    for step in (10, 20, 30):
        killed.log(step, {"train/loss": 1.0})
    with open_tracker(tmp_path, resumed_step) as tracker:
        tracker.log(30, {"train/loss": 2.0})
    expected = [(10, 1.0), (20, 1.0), (30, 2.0)] if resumed_step else [(30, 2.0)]
    assert scalars_of(events_of(tmp_path)) == {"train/loss": expected}
    assert logged_metrics(tmp_path) == {"train/loss": expected}


def test_tensorboard_run_holds_keys_for_its_table_of_runs_and_no_credentials(
    tmp_path: Path,
) -> None:
    with open_tracker(tmp_path, data={"url": "s3://user:hunter2@bucket/set"}) as tracker:
        tracker.log(10, {"train/loss": 1.0})
    events = events_of(tmp_path)
    content = events.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    keys = parse_session_start_info_plugin_data(content).hparams
    assert keys["data.url"].string_value == "s3://***@bucket/set"
    assert keys["recommender.name"].string_value == Config().recommender.name
    (file,) = (tmp_path / TENSORBOARD).iterdir()
    assert b"hunter2" not in file.read_bytes()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_run_that_cannot_write_warns_and_training_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING), open_tracker(tmp_path) as tracker:
        tracker.log(10, {"train/loss": 1.0})
        monkeypatch.setattr(LocalFileSystem, "_write", fail)
        tracker.log(20, {"train/loss": 1.0})
        tracker.log(30, {"train/loss": 1.0})
    assert [record.message for record in caplog.records] == [
        "Stopped tracking in TensorBoard: OSError: [Errno 28] No space left on device"
    ]
    assert len(read_metrics(tmp_path)) == 3


@pytest.mark.parametrize("command", [train, lambda config: predict(config, 1)])
def test_tensorboard_missing_is_refused_before_training(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = replace(tiny_config, tracking=TrackingConfig(tensorboard=True))
    with pytest.raises(ValueError, match=r"tracking\.tensorboard=true needs the package") as error:
        command(config)
    assert str(error.value).endswith("Run pip install 'mlrec[tensorboard]'")
    assert not os.path.exists(config.run_path)


def test_tensorboard_folder_that_cannot_be_written_is_named_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # nobody, not even root, may create files there
    (tmp_path / TENSORBOARD).symlink_to("/proc")
    sink = ServiceSink("TensorBoard", lambda: TensorBoardRun(tmp_path, Config(), {}, 0))
    sink.log(1, {"train/loss": 1.0})
    sink.close(0)
    assert caplog.text.count("Stopped tracking in TensorBoard: FileNotFoundError") == 1
    assert "Traceback" not in capfd.readouterr().err
