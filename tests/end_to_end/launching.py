"""Starts the project's commands as a user does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

LAUNCHERS = {
    "plain": [sys.executable, "-m", "mlrec.cli", "train"],
    "deepspeed": ["deepspeed", "--num_accelerators", "2", "--module", "mlrec.train"],
    "torchrun": ["torchrun", "--nproc_per_node", "2", "-m", "mlrec.train"],
}
BIN = Path(sys.executable).parent


def start(command: list[str], **options: object) -> subprocess.Popen[str]:
    """A command of this environment in a process group of its own, on a rendezvous port of its own."""
    if command[0] in ("deepspeed", "torchrun"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            command = [command[0], "--master_port", str(probe.getsockname()[1]), *command[1:]]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options
    )


def run(command: list[str], expected: int = 0) -> str:
    """Output of a command that ends with the `expected` exit code."""
    process = start(command)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == expected, output
    return output


def result_of(command: list[str]) -> str:
    """What a command prints as its result."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout
