"""Starting a run on several machines: here processes that only pretend to be ssh and to train."""

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
from pretended import left, pretend, seen

from mlrec.runtime import launcher as cluster
from mlrec.runtime.entry_point import run_main
from mlrec.runtime.launcher import in_words, main, read_hostfile

SSH = """#!{python}
import os, sys
host, command = sys.argv[-2:]
if host in open("{folder}/down").read().split():
    sys.exit(255)
print("10.0.0.1") if command == "hostname -I" else os.execvp("sh", ["sh", "-c", command])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with an ssh, where trainings pretend; afterwards no process of theirs is left."""
    pretend(tmp_path, monkeypatch)
    (tmp_path / "ssh").write_text(SSH.format(python=sys.executable, folder=tmp_path))
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "down").touch()
    (tmp_path / "hosts").write_text("one slots=2 # the first\n\ntwo slots=1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "GRACE_S", 0.5)
    yield tmp_path
    assert not left()


def test_every_machine_gets_its_part_and_the_keys(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "it's")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    given = ["a.yaml", "name=two words", "item.options={a: {b: $HOME}}"]
    assert main([str(folder / "hosts"), *given]) == 0
    ranks = seen(folder)
    assert sorted(ranks) == [(3, 0), (3, 1), (3, 2)]
    for rank in ranks.values():
        environment = rank["environment"]
        assert rank["arguments"] == given and environment["MASTER_ADDR"] == "10.0.0.1"
        assert (
            environment["AWS_SECRET_ACCESS_KEY"] == "it's" and environment["NCCL_DEBUG"] == "INFO"
        )
    assert len({rank["environment"]["MASTER_PORT"] for rank in ranks.values()}) == 1


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        ("3 0", "the ranks on two ended with exit code 3"),
        ("-9 0", "a rank on two was ended by SIGKILL"),
    ],
)
def test_a_part_that_fails_ends_the_others(
    rank: str, words: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert run_main(main, [str(folder / "hosts"), "a.yaml", f"rank2={rank}", "ranks=0 60"]) == 1
    assert time.monotonic() - began < 45
    said = capfd.readouterr().err
    assert f"error: the run has failed: {words}; " in said
    assert "one had not ended by itself and is killed" in said
    assert "The same command goes on" in said


def test_bad_input_is_no_failure_to_start_again_from(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [str(folder / "hosts"), "--elastic", "a.yaml", "ranks=2 0"]) == 2
    assert "starting again" not in capfd.readouterr().err


def test_a_machine_that_is_down_is_named_or_left_out(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "down").write_text("one")
    command = [str(folder / "hosts"), "a.yaml"]
    assert run_main(main, command) == 2
    assert (
        "error: one of the hostfile cannot be reached by ssh without a password; try: ssh one true"
        in capfd.readouterr().err
    )
    assert run_main(main, [*command, "--elastic"]) == 0
    assert list(seen(folder)) == [(1, 0)]
    (folder / "down").write_text("one two")
    assert run_main(main, [*command, "--elastic"]) == 2


def test_an_elastic_run_is_given_up_after_failures_in_a_row(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [str(folder / "hosts"), "--elastic", "a.yaml", "ranks=1 0"]) == 1
    said = capfd.readouterr().err
    assert said.count("starting again from the last checkpoint") == 2
    assert "error: the run has failed 3 times in a row: " in said


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlrec.runtime.launcher", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while len(seen(folder)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_the_ranks_and_is_waited_for(number: int, code: int, folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "ranks=0 60", "stops_after=1")
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    assert output.count("told to stop") == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_cluster_second_signal_kills_the_ranks(number: int, code: int, folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "ranks=0 60", "stops_after=60")
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)  # as a terminal and a launcher send it: the same request
    time.sleep(1)
    assert process.poll() is None
    began = time.monotonic()
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    assert time.monotonic() - began < 2


def test_a_launcher_that_is_killed_takes_the_ranks_along(folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "ranks=0 60")
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) == 3, "a node and two ranks"
    process.kill()
    output, _ = process.communicate(timeout=20)
    assert "told to stop" in output
    assert not psutil.wait_procs(started, timeout=10)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a slots=1\nb slots=0\n", "line 2: 'b slots=0' is not NAME slots=N"),
        ("-oProxyCommand=x slots=1", "is not NAME slots=N"),
        ("a slots=1\na slots=2", "line 2: a is there twice"),
        ("# nothing\n", "names no machine"),
    ],
)
def test_a_hostfile_that_is_none_is_an_error_that_names_the_place(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_hostfile(tmp_path / "hosts")
    with pytest.raises(ValueError, match="there is no hostfile"):
        read_hostfile(tmp_path / "nothing")


def test_the_example_is_a_hostfile() -> None:
    assert read_hostfile(Path(__file__).parents[3] / "launch" / "hostfile.example") == {
        "node-0": 8,
        "node-1": 8,
    }


@pytest.mark.parametrize(
    "arguments",
    [[], ["hosts"], ["localhost:2", "--elastic", "a.yaml"], ["hosts", "--elastc", "a.yaml"]],
)
def test_a_command_line_that_does_not_fit_is_told_how(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="usage: python -m mlrec"):
        main(arguments)


def test_exit_codes_in_words() -> None:
    assert in_words("a", 255) == "the connection to a is lost"
    assert in_words("a", 137) == in_words("a", -9) == "a rank on a was ended by SIGKILL"
    assert in_words("a", 3) == "the ranks on a ended with exit code 3"
