"""What runs cost: time per epoch from the log, and tables and figures of accuracy over it."""

import json
from pathlib import Path

import pytest
from made_runs import make_run

from mlrec import config as configuration
from mlrec.report.cost import EpochSeconds, epoch_cpu_seconds, epoch_seconds, tuning_of
from mlrec.report.report import write_report
from mlrec.report.runs import read_run


def log_epochs(path: Path, seconds: list[float], steps_per_epoch: int = 4) -> Path:
    """Log two lines per epoch, at the speed of an epoch of `seconds` over 1,000 users."""
    lines = []
    for epoch, epoch_s in enumerate(seconds):
        for part in (1, 2):
            step = epoch * steps_per_epoch + part * steps_per_epoch // 2
            line = {
                "step": step,
                "time": 1.0 * step,
                "train/epoch": step / steps_per_epoch,
                "speed/users_per_s": 1000 / epoch_s,
                "speed/cpu_s": epoch_s / 4,
                "memory/peak_bytes": 2e9,
            }
            lines.append(json.dumps(line) + "\n")
    (path / "metrics.jsonl").write_text("".join(lines))
    return path


def test_epoch_seconds_tell_the_first_epoch_from_the_later_ones(tmp_path: Path) -> None:
    run = read_run(log_epochs(make_run(tmp_path / "run"), [8.0, 2.0, 9.0, 3.0]))
    assert epoch_seconds(run) == pytest.approx((8.0, 3.0))
    assert epoch_cpu_seconds(run) == pytest.approx((4.0, 1.5))


def test_epoch_seconds_count_the_users_of_an_epoch_where_they_are_recorded(tmp_path: Path) -> None:
    path = log_epochs(make_run(tmp_path / "run"), [8.0])
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"users_per_epoch": 500}))
    assert epoch_seconds(read_run(path)) == EpochSeconds(4.0, None)


def test_epoch_seconds_of_lines_across_the_first_epoch_or_without_speed_are_unknown(
    tmp_path: Path,
) -> None:
    path = make_run(tmp_path / "run")
    assert epoch_seconds(read_run(path)) == EpochSeconds(None, None)
    line = {"step": 9, "time": 1.0, "train/epoch": 3.0, "speed/users_per_s": 9.0}
    (path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert epoch_seconds(read_run(path)) == EpochSeconds(None, None)


def test_tuning_of_names_ids_features_and_each_tuning_once(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    item = configuration.ItemConfig(
        encoders=("id/embedding", "features/titles", "video/tiny", "audio/tiny", "text/tiny"),
        options={"audio/tiny": {"tuning": "frozen"}},
        tuning="top",
    )
    configuration.save(configuration.Config(item=item), path / "config.yaml")
    assert tuning_of(read_run(path)) == "ids + features + top + frozen"


def test_report_shows_accuracy_over_cost(tmp_path: Path) -> None:
    full = log_epochs(make_run(tmp_path / "full"), [8.0, 7.0])
    ids = log_epochs(make_run(tmp_path / "ids", 2.0, "id/embedding"), [1.0, 0.5])
    out = write_report([full, ids], tmp_path / "report.html")
    text = out.with_suffix(".md").read_text()
    assert "| full | full | 123.5 k | 8.00 | 7.00 | 4.00 | 3.50 | " in text
    assert "| 2,000 MB | .3000 | .1500 | .3000 |" in text
    assert "| ids | ids | 123.5 k | 1.00 | 0.50 |" in text
    page = out.read_text()
    assert "HR@10 over seconds per epoch" in page
    assert "HR@10 over trained parameters" in page
    alone = write_report([full], tmp_path / "alone.html").read_text()
    assert "Accuracy over cost" in alone
    assert "HR@10 over seconds per epoch" not in alone
    unknown = "Seconds are – where no line was logged within such an epoch."
    assert unknown not in alone
    short = log_epochs(make_run(tmp_path / "short"), [8.0])
    assert unknown in write_report([short], tmp_path / "short.html").read_text()
