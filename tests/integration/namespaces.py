"""Two machines as network namespaces: each has an address, an sshd and one core.

A virtual cable connects them.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil

PROGRAMS = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
"""Required programs, and the Debian package of each."""
# sshd needs a folder that its service creates when a real machine starts. The mount exists in this
# namespace only.
SERVE = (
    "mount -t tmpfs tmpfs /run && mkdir /run/sshd && "
    "exec /usr/sbin/sshd -D -e -f {folder}/sshd_config"
)
SSHD_START_S = 20

SSHD = """
Port 22
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
"""
SSH = """
IdentityFile {folder}/key
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
"""


def missing_requirement() -> str:
    """Return what this machine lacks, and what to do about it; "" if nothing is missing."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    packages = set()
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=path) is None:
            packages.add(package)
    if packages:
        return f"it needs apt-get install {' '.join(sorted(packages))}"
    if os.geteuid() != 0:
        return f"{getpass.getuser()} may not create network namespaces: run it as root"
    # Containers often deny namespaces to root as well.
    probe = f"mlrec-{os.getpid()}"
    done = subprocess.run(
        ["ip", "netns", "add", probe], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"this machine allows no network namespaces: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return ""


class Machines:
    """Two connected machines within a `with` block, which removes them at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        number = os.getpid() % 250
        self.addresses = (f"10.213.{number}.1", f"10.213.{number}.2")
        self._names = tuple(f"mlrec-{os.getpid()}-{place}" for place in range(2))

    def __enter__(self) -> Machines:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop()

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands on the machines, whose `ssh` uses the machines' key."""
        return {
            **os.environ,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "GLOO_SOCKET_IFNAME": "cable",
        }

    def on(self, place: int, *command: str) -> list[str]:
        """Return a command line that runs a command on a machine, on its core."""
        cores = sorted(os.sched_getaffinity(0))
        core = cores[place % len(cores)]
        return [
            "ip",
            "netns",
            "exec",
            self._names[place],
            "taskset",
            "--cpu-list",
            str(core),
            *command,
        ]

    def processes(self, place: int) -> dict[psutil.Process, list[str]]:
        """Return the command lines of all processes of a machine."""
        commands = {}
        for pid in _run("ip", "netns", "pids", self._names[place]).split():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                commands[process] = process.cmdline()
        return commands

    def kill(self, place: int) -> None:
        """Kill all processes of a machine."""
        # A process may start others while it is being killed.
        while processes := self.processes(place):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)

    def plug(self, inserted: bool) -> None:
        """Pull the cable, or plug it in again."""
        _run("ip", "-n", self._names[1], "link", "set", "cable", "up" if inserted else "down")

    def serve(self, place: int) -> None:
        """Start the sshd of a machine, and wait until it answers."""
        with open(self.folder / "sshd.log", "ab") as log:
            daemon = self.on(place, "sh", "-c", SERVE.format(folder=self.folder))
            subprocess.Popen(
                daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SSHD_START_S
        while not self._answers(place):
            if time.monotonic() > deadline:
                log_text = (self.folder / "sshd.log").read_text()
                raise RuntimeError(f"sshd of machine {place} does not answer: {log_text}")
            time.sleep(0.1)

    def _answers(self, place: int) -> bool:
        """Return whether the machine answers its own ssh."""
        ssh = [f"{self.folder}/bin/ssh", "-o", "ConnectTimeout=2", self.addresses[place], "true"]
        done = subprocess.run(
            self.on(place, *ssh), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return done.returncode == 0

    def _start(self) -> None:
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key"))
        (self.folder / "sshd_config").write_text(SSHD.format(folder=self.folder))
        (self.folder / "ssh_config").write_text(SSH.format(folder=self.folder))
        wrapper = self.folder / "bin" / "ssh"
        wrapper.parent.mkdir()
        wrapper.write_text(
            f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.folder}/ssh_config "$@"\n'
        )
        wrapper.chmod(0o755)
        for name in self._names:
            _run("ip", "netns", "add", name)
        first, second = self._names
        # Both ends of the cable have the same name, each in its own namespace.
        cable = ["add", "cable", "netns", first, "type", "veth"]
        _run("ip", "link", *cable, "peer", "name", "cable", "netns", second)
        for place, (name, address) in enumerate(zip(self._names, self.addresses, strict=True)):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _run("ip", "-n", name, "link", "set", device, "up")
            self.serve(place)

    def _stop(self) -> None:
        namespaces = _run("ip", "netns", "list").split()
        for place, name in enumerate(self._names):
            if name in namespaces:
                self.kill(place)
                # Deletes its end of the cable as well, and thereby the cable.
                _run("ip", "netns", "delete", name)


def rank_of(processes: dict[psutil.Process, list[str]]) -> psutil.Process:
    """Return the one rank among the processes."""
    # Loader workers are forked from their rank, and have its command line.
    candidates = [process for process, words in processes.items() if "mlrec.train" in words]
    return next(process for process in candidates if process.parent() not in candidates)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
