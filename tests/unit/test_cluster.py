"""Starting a run on several machines: here processes that only pretend to be ssh and DeepSpeed's launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlrec import cluster
from mlrec.cluster import in_words, main, read_hostfile
from mlrec.process import run_main

LAUNCH = """
import base64, json, os, signal, sys, time
given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
place = int(given["--node_rank"])
world = json.loads(base64.urlsafe_b64decode(given["--world_info"]))
seen = {"place": place, "world": world, "arguments": sys.argv[1:], "environment": dict(os.environ)}
open(f"{os.environ['FOLDER']}/seen-{len(world)}-{place}.json", "w").write(json.dumps(seen))
def stop(number, frame):
    print("told to stop", place, flush=True)
    time.sleep(float(given.get("stops_after", 0)))
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
code, after = given.get(f"node{place}", "0 0").split()
time.sleep(float(after))
sys.exit(int(code))
"""
SSH = """#!{python}
import os, sys
host, command = sys.argv[-2:]
if host in open("{folder}/down").read().split():
    sys.exit(255)
print("10.0.0.1") if command == "hostname -I" else os.execvp("sh", ["sh", "-c", command])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Holds a launcher and an ssh; afterwards no process of theirs is left."""
    package = tmp_path / "deepspeed" / "launcher"
    package.mkdir(parents=True)
    for file in (package.parent / "__init__.py", package / "__init__.py"):
        file.touch()
    (package / "launch.py").write_text(LAUNCH)
    (tmp_path / "ssh").write_text(SSH.format(python=sys.executable, folder=tmp_path))
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "down").touch()
    (tmp_path / "hosts").write_text("one slots=2 # the first\n\ntwo slots=1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setattr(cluster, "GRACE_S", 0.5)
    yield tmp_path
    left = [child for child in psutil.Process().children(recursive=True) if "mlrec.node" in child.cmdline()]
    assert not left


def seen(folder: Path, nodes: int, place: int) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / f"seen-{nodes}-{place}.json").read_text())
    return found


def test_every_machine_gets_its_part_and_the_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "it's")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    given = ["a.yaml", "name=two words", "item.options={a: {b: $HOME}}"]
    assert main([str(folder / "hosts"), *given]) == 0
    first, second = (seen(folder, 2, place) for place in (0, 1))
    assert first["world"] == second["world"] == {"one": [0, 1], "two": [0]}
    for part in (first, second):
        arguments, environment = part["arguments"], part["environment"]
        assert isinstance(arguments, list) and isinstance(environment, dict)
        assert arguments[-3:] == given and "--master_addr=10.0.0.1" in arguments
        assert environment["AWS_SECRET_ACCESS_KEY"] == "it's" and environment["NCCL_DEBUG"] == "INFO"


@pytest.mark.parametrize(
    ("node", "words"),
    [("3 0", "the ranks on two ended with exit code 3"), ("247 0", "a rank on two was killed by SIGKILL")],
)
def test_a_part_that_fails_ends_the_others(node: str, words: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert run_main(main, [str(folder / "hosts"), "a.yaml", f"node1={node}", "node0=0 60"]) == 1
    assert time.monotonic() - began < 45
    said = capfd.readouterr().err
    assert f"error: the run has failed: {words}; " in said
    assert "one had not ended by itself and is killed" in said
    assert "The same command goes on" in said


def test_bad_input_is_no_failure_to_start_again_from(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, [str(folder / "hosts"), "--elastic", "a.yaml", "node0=2 0", "node1=2 0"]) == 2
    assert "starting again" not in capfd.readouterr().err


def test_a_machine_that_is_down_is_named_or_left_out(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "down").write_text("one")
    command = [str(folder / "hosts"), "a.yaml"]
    assert run_main(main, command) == 2
    assert "error: one of the hostfile cannot be reached by ssh without a password; try: ssh one true" in capfd.readouterr().err
    assert run_main(main, [*command, "--elastic"]) == 0
    assert seen(folder, 1, 0)["world"] == {"two": [0]}
    (folder / "down").write_text("one two")
    assert run_main(main, [*command, "--elastic"]) == 2


def test_an_elastic_run_is_given_up_after_failures_in_a_row(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_main(main, [str(folder / "hosts"), "--elastic", "a.yaml", "node0=1 0", "node1=1 0"]) == 1
    said = capfd.readouterr().err
    assert said.count("starting again from the last checkpoint") == 2
    assert "error: the run has failed 3 times in a row: " in said


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlrec.cluster", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    deadline = time.monotonic() + 30
    while not list(folder.glob("seen-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_ranks_and_is_waited_for(number: int, code: int, folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "node0=0 60", "stops_after=1")
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code, output
    assert output.count("told to stop") == 1


def test_a_second_interrupt_kills_the_ranks_and_a_second_sigterm_does_not(folder: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(folder, "localhost:2", "a.yaml", "node0=0 60", f"stops_after={60 if number == signal.SIGINT else 3}")
        began = time.monotonic()
        os.killpg(process.pid, number)
        time.sleep(1)
        os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == code, output
        assert (time.monotonic() - began < 3) == (number == signal.SIGINT)
        for file in folder.glob("seen-*"):
            file.unlink()


def test_a_launcher_that_is_killed_takes_the_ranks_along(folder: Path) -> None:
    process = start(folder, "localhost:2", "a.yaml", "node0=0 60")
    ranks = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks) == 2
    process.kill()
    output, _ = process.communicate(timeout=20)
    assert "told to stop" in output
    assert not psutil.wait_procs(ranks, timeout=10)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a slots=1\nb slots=0\n", "line 2: 'b slots=0' is not NAME slots=N"),
        ("-oProxyCommand=x slots=1", "is not NAME slots=N"),
        ("a slots=1\na slots=2", "line 2: a is there twice"),
        ("# nothing\n", "names no machine"),
    ],
)
def test_a_hostfile_that_is_none_is_an_error_that_names_the_place(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_hostfile(tmp_path / "hosts")
    with pytest.raises(ValueError, match="there is no hostfile"):
        read_hostfile(tmp_path / "nothing")


def test_the_example_is_a_hostfile() -> None:
    assert read_hostfile(Path(__file__).parents[2] / "launch" / "hostfile.example") == {"node-0": 8, "node-1": 8}


@pytest.mark.parametrize("arguments", [[], ["hosts"], ["localhost:2", "--elastic", "a.yaml"], ["hosts", "--elastc", "a.yaml"]])
def test_a_command_line_that_does_not_fit_is_told_how(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="usage: python -m mlrec"):
        main(arguments)


def test_exit_codes_in_words() -> None:
    assert in_words("a", 255) == "the connection to a is lost"
    assert in_words("a", 247) == "a rank on a was killed by SIGKILL"
    assert in_words("a", 137) == "the ranks on a were ended by SIGKILL"
