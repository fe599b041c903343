"""mlrec sweep with the real trainer: stopped on the way, repeated, and done."""

import signal
import sys
import time
from pathlib import Path

from launching import finish, run, start
from tiny import tiny_overrides

from mlrec.config import load, save


def test_sweep_stopped_resumes_from_the_checkpoint(dataset_dir: Path, tmp_path: Path) -> None:
    settings = [
        "train.duration=300 steps",
        "train.save_every=20 steps",
        "train.evaluate_every=300 steps",
        "recommender.options={}",
    ]
    save(load([], [*tiny_overrides(dataset_dir, tmp_path), *settings]), tmp_path / "base.yaml")
    youtube = "{recommender.name: youtube_dnn, train.duration: 3 steps}"
    points = f"{{gru: {{recommender.name: gru4rec}}, youtube: {youtube}}}"
    (tmp_path / "study.yaml").write_text(f"base: [base.yaml]\ngrid: {{recommender: {points}}}\n")
    command = [sys.executable, "-m", "mlrec", "sweep", str(tmp_path / "study.yaml")]
    process = start(command)
    checkpoints, deadline = tmp_path / "study_gru" / "checkpoints", time.monotonic() + 120
    while not (checkpoints / "step-000020").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    finish(process, expected=143)
    output = run(command)
    assert "[1/2] study_gru  HR@10 0." in output
    assert "[2/2] study_youtube  HR@10 0." in output
    starts = (tmp_path / "study_gru" / "output.log").read_text().count("; steps ")
    assert (
        starts == 2
        and "; steps 0 to 300"
        not in (tmp_path / "study_gru" / "output.log").read_text().split("$ ")[-1]
    )
    again = run(command)
    assert again.count("finished before") == 2
