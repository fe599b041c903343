"""Starts the project's commands as a user does."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from mlrec.cli import main as cli
from mlrec.runtime.distributed import stop_world
from mlrec.runtime.entry_point import run_main
from shards_tools import cli as shards_cli

LAUNCHERS = {
    "plain": [sys.executable, "-m", "mlrec", "train"],
    "deepspeed": ["deepspeed", "--num_accelerators", "2", "--module", "mlrec.train"],
    "torchrun": ["torchrun", "--nproc_per_node", "2", "-m", "mlrec.train"],
}
BIN = Path(sys.executable).parent


def start(command: list[str], **options: object) -> subprocess.Popen[str]:
    """Start a command of this environment with its own process group and rendezvous port."""
    if command[0] in ("deepspeed", "torchrun") and "--master_port" not in command:
        command = [command[0], "--master_port", str(free_port()), *command[1:]]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )


def start_nodes(folder: Path, *arguments: list[str]) -> list[subprocess.Popen[str]]:
    """Start one rank on each of several nodes that are all this machine.

    `arguments` holds the command-line arguments of each node.
    """
    hosts = folder / "hostfile"
    hosts.write_text("".join(f"127.0.0.{node + 1} slots=1\n" for node in range(len(arguments))))
    together = [
        "--hostfile",
        str(hosts),
        "--no_ssh",
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        str(free_port()),
    ]
    return [
        start(["deepspeed", *together, "--node_rank", str(node), "--module", "mlrec.train", *own])
        for node, own in enumerate(arguments)
    ]


def finish(process: subprocess.Popen[str], expected: int = 0, timeout_s: float = 200) -> str:
    """Return the output of a command that ends with the `expected` exit code."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == expected, output
    return output


def run(command: list[str], expected: int = 0) -> str:
    """Run a command and return its output; it must end with the `expected` exit code."""
    return finish(start(command), expected)


def result_of(command: list[str]) -> str:
    """Return what a command prints on standard output."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout


def call(*words: str) -> int:
    """Run a command in this process and return its exit code."""
    programs = {"mlrec": cli.run_command, "mlrec-shards": shards_cli.run_command}
    before = dict(os.environ)
    try:
        return run_main(programs[words[0]], words[1:])
    except SystemExit as ended:  # argparse
        return int(ended.code or 0)
    finally:
        # Other commands follow in this process, after errors too.
        stop_world()
        os.environ.clear()
        os.environ.update(before)


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
