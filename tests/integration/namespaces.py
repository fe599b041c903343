"""Machines that are network namespaces of this one: an address, an sshd and one core each, and a cable between two of them."""

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
"""What is needed, and Debian's packages of it."""
SERVE = "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f {folder}/sshd_config"
"""sshd asks for a folder that its service makes when a real machine starts; this mount is of the namespace alone."""

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


def why_not() -> str:
    """What this machine lacks; nothing where it has all."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = {
        package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None
    }
    if missing:
        return f"it needs apt-get install {' '.join(sorted(missing))}"
    if os.geteuid() != 0:
        return f"it makes network namespaces, which {getpass.getuser()} may not: run it as root"
    probe = f"mlrec-{os.getpid()}"
    made = subprocess.run(
        ["ip", "netns", "add", probe], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return f"this machine allows no network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return ""


class Machines:
    """Two machines on a cable from `with` to its end, which leaves nothing but the folder: no process, no namespace."""

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
        """For commands on them: the `ssh` that they find has the machines' key."""
        return {
            **os.environ,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "GLOO_SOCKET_IFNAME": "cable",
        }

    def on(self, place: int, *command: str) -> list[str]:
        """A command, as it is started on a machine; it has that one's core."""
        core = sorted(os.sched_getaffinity(0))[place % len(os.sched_getaffinity(0))]
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
        """All processes of a machine, and their command lines."""
        found = {}
        for pid in _run("ip", "netns", "pids", self._names[place]).split():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                found[process] = process.cmdline()
        return found

    def kill(self, place: int) -> None:
        """Kills all processes of a machine."""
        while found := self.processes(place):
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)

    def plug(self, inserted: bool) -> None:
        """Pulls the cable out, or puts it in again."""
        _run("ip", "-n", self._names[1], "link", "set", "cable", "up" if inserted else "down")

    def serve(self, place: int) -> None:
        """Starts a machine's sshd."""
        with open(self.folder / "sshd.log", "ab") as log:
            daemon = self.on(place, "sh", "-c", SERVE.format(folder=self.folder))
            subprocess.Popen(
                daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 20
        ask = [f"{self.folder}/bin/ssh", "-o", "ConnectTimeout=2", self.addresses[place], "true"]
        while subprocess.run(
            self.on(place, *ask), stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"sshd of machine {place} does not answer: {(self.folder / 'sshd.log').read_text()}"
                )
            time.sleep(0.1)

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
        one, other = self._names
        _run(
            "ip",
            "link",
            "add",
            "cable",
            "netns",
            one,
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            other,
        )
        for place, (name, address) in enumerate(zip(self._names, self.addresses, strict=True)):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _run("ip", "-n", name, "link", "set", device, "up")
            self.serve(place)

    def _stop(self) -> None:
        known = _run("ip", "netns", "list").split()
        for place, name in enumerate(self._names):
            if name in known:
                self.kill(place)
                _run(
                    "ip", "netns", "delete", name
                )  # its end of the cable, and so the cable, goes with it


def rank_of(processes: dict[psutil.Process, list[str]]) -> psutil.Process:
    """The one rank among the processes; its loader workers have the same command line."""
    ranks = [process for process, words in processes.items() if "mlrec.train" in words]
    return next(rank for rank in ranks if rank.parent() not in ranks)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
