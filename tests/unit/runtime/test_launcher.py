"""Starting a run on several machines; ssh and training are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pretended import pretend, remaining_processes, started_ranks

from mlrec.runtime import machines
from mlrec.runtime.entry_point import run_main
from mlrec.runtime.hosts import read_hostfile
from mlrec.runtime.launcher import main
from mlrec.runtime.machines import describe_exit

SSH = """#!{python}
import os, sys
host, command = sys.argv[-2:]
if host in open("{folder}/down").read().split():
    sys.exit(255)
if command == "hostname -I":
    print("10.0.0.1")
else:
    os.execvp("sh", ["sh", "-c", command])
"""
EXAMPLE = Path(__file__).parents[3] / "launch" / "hostfile.example"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a working folder with stand-ins; check afterwards that no process remains."""
    pretend(tmp_path, monkeypatch)
    (tmp_path / "ssh").write_text(SSH.format(python=sys.executable, folder=tmp_path))
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "down").touch()
    (tmp_path / "hosts").write_text("one slots=2 # the first\n\ntwo slots=1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machines, "REPORT_S", 0.5)
    yield tmp_path
    assert not remaining_processes()


def test_launcher_over_ssh_passes_arguments_and_credentials_to_every_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "it's")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    arguments = ["a.yaml", "name=two words", "item.options={a: {b: $HOME}}"]
    assert main([str(folder / "hosts"), *arguments]) == 0
    ranks = started_ranks(folder)
    assert sorted(ranks) == [(3, 0), (3, 1), (3, 2)]
    for rank in ranks.values():
        environment = rank["environment"]
        assert rank["arguments"] == arguments
        assert environment["MASTER_ADDR"] == "10.0.0.1"
        assert environment["AWS_SECRET_ACCESS_KEY"] == "it's"
        assert environment["NCCL_DEBUG"] == "INFO"
    assert len({rank["environment"]["MASTER_PORT"] for rank in ranks.values()}) == 1


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        ("3 0", "the ranks on two ended with exit code 3"),
        ("-9 0", "a rank on two was ended by SIGKILL"),
    ],
)
def test_launcher_with_a_failed_machine_ends_the_others(
    rank: str, words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started_at = time.monotonic()
    assert run_main(main, [str(folder / "hosts"), "a.yaml", f"rank2={rank}", "ranks=0 60"]) == 1
    assert time.monotonic() - started_at < 45
    output = capfd.readouterr().err
    assert f"{words}. The run ends on the other machines within" in output
    assert f"error: the run has failed: {words}; " in output
    assert "one did not end in time and was killed" in output
    assert "Run the same command again to resume from the last checkpoint" in output


def test_launcher_with_bad_input_does_not_restart(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [str(folder / "hosts"), "--elastic", "a.yaml", "ranks=2 0"]) == 2
    assert "restarting" not in capfd.readouterr().err


def test_launcher_with_an_unreachable_machine_fails_or_leaves_it_out_when_elastic(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "down").write_text("one")
    command = [str(folder / "hosts"), "a.yaml"]
    assert run_main(main, command) == 2
    assert (
        "error: one of the hostfile cannot be reached by ssh without a password. Try: ssh one true"
        in capfd.readouterr().err
    )
    assert run_main(main, [*command, "--elastic"]) == 0
    assert list(started_ranks(folder)) == [(1, 0)]
    (folder / "down").write_text("one two")
    assert run_main(main, [*command, "--elastic"]) == 2


def test_launcher_elastic_gives_up_after_consecutive_failures(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [str(folder / "hosts"), "--elastic", "a.yaml", "ranks=1 0"]) == 1
    output = capfd.readouterr().err
    assert output.count("restarting from the last checkpoint") == 2
    assert "error: the run has failed 3 times in a row: " in output


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a launcher, and wait until its two ranks run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlrec.runtime.launcher", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while len(started_ranks(folder)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_launcher_on_a_signal_stops_the_ranks_and_waits_for_them(
    number: int, code: int, folder: Path
) -> None:
    process = start(folder, "localhost:2", "a.yaml", "ranks=0 60", "stops_after=0.4")
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    assert output.count("told to stop") == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_launcher_on_a_second_signal_kills_the_ranks(number: int, code: int, folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "ranks=0 60", "stops_after=60")
    # A terminal and a launcher may both send the signal: within REPEAT_S it is the same request.
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)
    time.sleep(0.8)
    assert process.poll() is None
    signalled_at = time.monotonic()
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    assert time.monotonic() - signalled_at < 2


def test_launcher_that_is_killed_leaves_no_ranks(folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "ranks=0 60")
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert len(descendants) == 3, "a node and two ranks"
    process.kill()
    output, _ = process.communicate(timeout=20)
    assert "told to stop" in output
    _, alive = psutil.wait_procs(descendants, timeout=10)
    assert not alive


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a slots=1\nb slots=0\n", "line 2: 'b slots=0' is not NAME slots=N"),
        ("-oProxyCommand=x slots=1", "is not NAME slots=N"),
        ("a slots=1\na slots=2", "line 2: a is listed twice"),
        ("# nothing\n", "names no machine"),
    ],
)
def test_hostfile_with_a_malformed_line_is_refused_with_its_place(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_hostfile(tmp_path / "hosts")


def test_hostfile_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hostfile .* does not exist"):
        read_hostfile(tmp_path / "nothing")


def test_hostfile_example_is_read() -> None:
    assert read_hostfile(EXAMPLE) == {"node-0": 8, "node-1": 8}


@pytest.mark.parametrize(
    "arguments",
    [[], ["hosts"], ["localhost:2", "--elastic", "a.yaml"], ["hosts", "--elastc", "a.yaml"]],
)
def test_launcher_with_wrong_arguments_shows_the_usage(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="usage: python -m mlrec"):
        main(arguments)


def test_describe_exit_names_lost_connections_signals_and_codes() -> None:
    assert describe_exit("a", 255) == "the connection to a is lost"
    assert describe_exit("a", 137) == "a rank on a was ended by SIGKILL"
    assert describe_exit("a", -9) == "a rank on a was ended by SIGKILL"
    assert describe_exit("a", 3) == "the ranks on a ended with exit code 3"
