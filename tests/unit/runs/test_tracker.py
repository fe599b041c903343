"""The Tracker: what reaches metrics.jsonl, the console and W&B, and what never does."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from wandb_files import records

from mlrec.config import Config, ItemConfig, TrackingConfig
from mlrec.config.run_files import METRICS_FILE
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.tracker import Tracker, summary
from mlrec.runtime.redact import scrub

SECRET = "hunter2"


def open_tracker(
    path: Path,
    enabled: bool = True,
    wandb: str = "disabled",
    resumed_step: int = 0,
    encoders: tuple[str, ...] = ("id/embedding",),
) -> Tracker:
    path.mkdir(exist_ok=True)
    tracking = TrackingConfig(wandb=wandb)  # type: ignore[arg-type]
    config = Config(tracking=tracking, item=ItemConfig(encoders=encoders))
    resolved = {**asdict(config), "data": {"url": f"s3://user:{SECRET}@bucket/set"}}
    return Tracker(path, config, 100, resolved, enabled, resumed_step)


def test_tracker_log_writes_a_line_per_call(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as tracker:
        tracker.log(10, {"train/loss": 1.5})
        assert read_metrics(tmp_path)[0]["train/loss"] == 1.5  # written before the run ends
        tracker.log(20, {"train/loss": math.nan})
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [10, 20]
    assert lines[1]["train/loss"] is None
    assert lines[0]["time"] <= lines[1]["time"]


def test_tracker_resumed_drops_later_steps_and_cut_lines(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as tracker:
        for step in (10, 20, 30):
            tracker.log(step, {"train/loss": 1.0})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 40, "tr')
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20, 30]
    with open_tracker(tmp_path, resumed_step=20) as tracker:
        tracker.log(30, {"train/loss": 2.0})
    assert [(line["step"], line["train/loss"]) for line in read_metrics(tmp_path)] == [
        (10, 1.0),
        (20, 1.0),
        (30, 2.0),
    ]


def test_tracker_of_other_ranks_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(tmp_path, enabled=False, wandb="offline") as tracker:
        tracker.log(10, {"train/loss": 1.0})
        tracker.message("hello")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_tracker_without_a_terminal_prints_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(tmp_path) as tracker:
        tracker.message("512 users [a] step")
        tracker.log(10, {"train/loss": 1.23456, "speed/users_per_s": 99.7, "data/bytes_read": 5.0})
        tracker.log(10, {"data/bytes_read": 5.0})
        tracker.log(100, {"train/loss": 1.0})
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "512 users [a] step"
    assert second == "step 10/100  loss 1.2346  100 users/s"
    assert last == "step 100/100  loss 1.0000  0:00:00 left"


def test_tracker_on_a_terminal_shows_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with open_tracker(tmp_path, resumed_step=10) as tracker:
        tracker.log(20, {"train/loss": 1.5})
        tracker.log(20, {"validation/hr@10": 0.25, "validation/6-20/mrr": 0.1})
    out = capsys.readouterr().out
    assert "20/100" in out
    assert "step 20  validation hr@10 0.2500\n" in out


@pytest.mark.parametrize(
    ("encoders", "speed"),
    [
        (("id/embedding",), "7 items/s  2.0 slots/item"),
        (("video/tiny",), "7 videos/s  2.0 slots/video"),
        (("video/tiny", "id/embedding"), "7 items/s  2.0 slots/item"),
    ],
)
def test_tracker_speed_counts_what_the_encoders_read(
    encoders: tuple[str, ...], speed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(tmp_path, encoders=encoders) as tracker:
        tracker.log(10, {"speed/videos_per_s": 7.0, "speed/dedup": 2.0})
    assert speed in capsys.readouterr().out


def test_summary_at_other_cutoffs_and_on_a_sample_says_so() -> None:
    metrics = {"hr@5": 0.25, "ndcg@5": 0.125, "hr@50": 0.5, "cold/hr@5": 0.0, "users": 1000}
    shown = summary({f"validation/{name}": value for name, value in metrics.items()}, "item")
    assert shown == (
        "validation hr@5 0.2500  ndcg@5 0.1250  cold hr@5 0.0000  on a sample of 1,000 users"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("s3://bucket/set", "s3://bucket/set"),
        ("https://user:pa:ss@host/x", "https://***@host/x"),
        ("https://host/x.tar?X-Amz-Signature=1", "https://host/x.tar?***"),
        (
            {"secret": "a", "api_key": "b", "Token": "c", "keep_last": 2},
            {"secret": "***", "api_key": "***", "Token": "***", "keep_last": 2},
        ),
        (
            {"options": [{"password": "a", "tokenizer": "bert"}]},
            {"options": [{"password": "***", "tokenizer": "bert"}]},
        ),
        ((1, None, 2.5), [1, None, 2.5]),
        ("s3://AKIA:se/cr/et@bucket/set", "s3://***@bucket/set"),
        ("{'aws_secret_access_key': 'hunter2', 'n': 3}", "{'aws_secret_access_key': ***, 'n': 3}"),
        ("AWS_SECRET_ACCESS_KEY=hunter2 was refused", "AWS_SECRET_ACCESS_KEY=*** was refused"),
        ("password: hunter2, user: me", "password: ***, user: me"),
        ("{'Authorization': 'Basic aHVudGVyMg=='}", "{'Authorization': '***'}"),
        (
            "sent Authorization: AWS4-HMAC-SHA256 Credential=A/b, Signature=c",
            "sent Authorization: ***",
        ),
        ("authorization: Bearer abc.def-123", "authorization: ***"),
        ("with Bearer eyJhbGciOiJIUzI1NiJ9.x", "with Bearer ***"),
        ("https://host/x#access_token=hunter2", "https://host/x?***"),
        ("cannot read //user:hunter2@host/x", "cannot read //***@host/x"),
        ("'//user:hun/ter2@host/x' is missing", "'//***@host/x' is missing"),
        ("there is no file user:hunter2@host/x", "there is no file ***@host/x"),
        ("data.url=user:hunter2@host", "data.url=***@host"),
        ("at 12:30 a@b", "at 12:30 a@b"),
        ("/data/a@b:c and x/a:b@c", "/data/a@b:c and x/a:b@c"),
        ("the tokenizer: bert", "the tokenizer: bert"),
        (
            {"pad_token_id": 101, "num_key_value_heads": 4, "AWSAccessKeyId": "A"},
            {"pad_token_id": 101, "num_key_value_heads": 4, "AWSAccessKeyId": "***"},
        ),
    ],
)
def test_scrub_removes_credentials(value: Any, expected: Any) -> None:
    assert scrub(value) == expected


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a run folder next to W&B's own folders, and end W&B's service after the test."""
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["mlrec", f"data.url=s3://user:{SECRET}@bucket/set"])
    yield tmp_path / "run"
    import wandb

    wandb.teardown()


def test_tracker_offline_wandb_holds_figures_and_no_credentials(wandb_home: Path) -> None:
    for resumed, steps in ((0, (10, 20)), (20, (30,))):
        with open_tracker(wandb_home, wandb="offline", resumed_step=resumed) as tracker:
            for step in steps:
                tracker.log(step, {"train/loss": step / 10})
        # W&B names an offline run's folder by the second. A run resumed within the same second
        # would overwrite the first.
        time.sleep(1.1)
    files = sorted(wandb_home.glob("wandb/offline-run-*/*.wandb"))
    losses = []
    run_ids = set()
    for file in files:
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run_ids.add(record.run.run_id)
            if kind == "history":
                values = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                losses.append((values["_step"], values["train/loss"]))
    assert losses == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert len(run_ids) == 1
    written = [path for path in wandb_home.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_tracker_with_failing_wandb_warns(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def fail(**_: Any) -> None:
        raise wandb.errors.CommError("no network")

    monkeypatch.setattr(wandb, "init", fail)
    with caplog.at_level(logging.WARNING), open_tracker(wandb_home, wandb="online") as tracker:
        tracker.log(10, {"train/loss": 1.0})
    assert "Stopped tracking in W&B: CommError: no network" in caplog.text
    assert len(read_metrics(wandb_home)) == 1
