"""mlrec sweep: runs one after the other, with a launcher that only pretends to train."""

import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mlrec.cli.main import run_command
from mlrec.config import load

TRAINER = """
    # Pretends to train. The run "stopped" fails the first time, and the run "broken" always.
    import sys
    import time
    from pathlib import Path
    from mlrec import config
    from mlrec.config import load_arguments
    config_of_run = load_arguments(sys.argv[1:])
    run = config_of_run.run_path
    resumes = (run / "checkpoints").exists()
    (run / "checkpoints" / "step-000001").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints" / "step-000001" / "state.json").write_text("{}")
    config.save(config_of_run, run / "config.yaml")
    if config_of_run.name.endswith("broken"):
        sys.exit("error: out of memory")
    if config_of_run.name.endswith("stopped") and not resumes:
        sys.exit(9)
    if config_of_run.name.endswith("endless"):
        time.sleep(60)
    metrics = '{"step": 1, "test/hr@10": 0.25, "test/ndcg@10": 0.125}'
    (run / "metrics.jsonl").write_text(metrics + chr(10))
"""


@pytest.fixture
def launcher(tmp_path: Path) -> str:
    """Return the command that pretends to train."""
    (tmp_path / "trainer.py").write_text(textwrap.dedent(TRAINER))
    return shlex.join([sys.executable, str(tmp_path / "trainer.py")])


def sweep_file(folder: Path, text: str) -> Path:
    """Write a sweep and the two configurations that it may name: base.yaml and other.yaml."""
    (folder / "base.yaml").write_text(f"run_dir: {folder}/runs/{{name}}\nseed: 3\n")
    (folder / "other.yaml").write_text("base: [base.yaml]\nname: other\n")
    (folder / "study.yaml").write_text(textwrap.dedent(text))
    return folder / "study.yaml"


def test_sweep_run_again_resumes_stopped_runs_and_skips_finished_ones(
    tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sweep_file(
        tmp_path, "base: [base.yaml]\ngrid: {run: {broken: {}, stopped: {}, whole: {}}}"
    )
    command = [str(file), "--launcher", launcher]
    with pytest.raises(
        RuntimeError,
        match=r"2 of 3 runs failed: study_broken, study_stopped\. Run the same command",
    ):
        run_command(["sweep", *command])
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 3
    assert first[0].startswith(
        "[1/3] study_broken  failed: exit code 1, error: out of memory; see "
    )
    assert "exit code 9" in first[1]
    assert first[2].startswith("[3/3] study_whole  HR@10 0.2500  NDCG@10 0.1250  0.0 min")
    output = tmp_path / "runs" / "study_whole" / "output.log"
    assert output.read_text().startswith(f"$ {launcher} {tmp_path}/base.yaml name=")

    with pytest.raises(RuntimeError, match=r"1 of 3 runs failed: study_broken\."):
        run_command(["sweep", *command])
    again = capsys.readouterr().out.splitlines()
    assert "HR@10 0.2500" in again[1]
    assert again[2].endswith("finished before")
    assert output.read_text().count("$ ") == 1


def test_sweep_of_a_run_with_other_settings_is_refused_before_anything_starts(
    tmp_path: Path, launcher: str
) -> None:
    file = sweep_file(tmp_path, "base: [base.yaml]\nruns: [other.yaml]\ngrid: {run: {whole: {}}}")
    run_command(["sweep", str(file), "--launcher", launcher])
    outputs = {path: path.read_bytes() for path in tmp_path.glob("runs/*/output.log")}
    with pytest.raises(ValueError, match=r"other holds .*seed is 4, was 3"):
        run_command(["sweep", str(file), "seed=4", "--launcher", launcher])
    # Checkpoints may be removed to save space: the results are still those of their settings.
    shutil.rmtree(tmp_path / "runs" / "study_whole" / "checkpoints")
    changed_file = sweep_file(tmp_path, "base: [base.yaml]\ngrid: {run: {whole: {optim.lr: 0.5}}}")
    with pytest.raises(
        ValueError,
        match=r"study_whole holds a run with other settings \(optim\.lr is 0\.5, was 0\.001\)",
    ):
        run_command(["sweep", str(changed_file), "--launcher", launcher])
    assert {path: path.read_bytes() for path in tmp_path.glob("runs/*/output.log")} == outputs


def test_sweep_with_a_launcher_that_only_submits_or_does_not_exist_fails(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, "runs: [other.yaml]")
    with pytest.raises(RuntimeError, match="1 of 1 runs failed: other"):
        run_command(["sweep", str(file), "--launcher", "true"])
    with pytest.raises(ValueError, match="--launcher: nowhere cannot be started: No such file"):
        run_command(["sweep", str(file), "--launcher", "nowhere"])


def test_sweep_with_relative_paths_and_a_launcher_that_changes_folder_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    file = sweep_file(tmp_path, "base: [base.yaml]\ngrid: {run: {whole: {}}}")
    (tmp_path / "base.yaml").write_text("seed: 3\ntrain: {start_from: runs/other}\n")
    (tmp_path / "launch.sh").write_text(f'cd / && {launcher} "$@"')
    monkeypatch.chdir(tmp_path)
    command = ["sweep", file.name, "data.url=data", "--launcher", "bash launch.sh"]
    for _ in range(2):  # the second command compares the run with its own settings
        run_command(command)
    trained = load([tmp_path / "runs" / "study_whole" / "config.yaml"])
    assert trained.data.url == str(tmp_path / "data")
    assert trained.train.start_from == str(tmp_path / "runs" / "other")


def is_running(pid: int) -> bool:
    """Return whether a process has not ended; a zombie has."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sweep_that_is_stopped_stops_its_run(number: int, tmp_path: Path, launcher: str) -> None:
    file = sweep_file(tmp_path, "base: [base.yaml]\ngrid: {run: {endless: {}}}")
    shell = f'{launcher} "$@" & echo $! > {tmp_path}/pid; wait'
    (tmp_path / "launch.sh").write_text(shell)
    command = [
        sys.executable,
        "-m",
        "mlrec",
        "sweep",
        str(file),
        "--launcher",
        f"bash {tmp_path}/launch.sh",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs" / "study_endless" / "config.yaml").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"stopped: run the same command again to continue\n" in errors
    trainer = int((tmp_path / "pid").read_text())
    while is_running(trainer):
        assert time.monotonic() < deadline, "the trainer still runs without its sweep"
        time.sleep(0.05)
