"""A Ceph object store on this machine: a monitor, a storage daemon, and an S3 gateway.

Its data are in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

from launching import free_port

PROGRAMS = (
    "ceph",
    "ceph-mon",
    "ceph-osd",
    "radosgw",
    "radosgw-admin",
    "ceph-authtool",
    "monmaptool",
)
KEY = "testing"
"""Access key, and secret key too."""
DISK_BYTES = 2 << 30
"""Bound of the memory for data."""

SETTINGS = """
[global]
fsid = {fsid}
mon host = {monitor}
keyring = {folder}/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {disk_bytes}
mon allow pool size one = true
mon max pg per osd = 1000
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
log file = {folder}/log
mon cluster log file = {folder}/log
run dir = {folder}
crash dir = {folder}
admin socket = {folder}/$name.asok
setuser match path =
"""
START_TIMEOUT_S = 200.0
"""Bound of the start of Ceph's daemons, which share the cores with other tests."""


def missing_programs() -> list[str]:
    """Return the names of Ceph's programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class ObjectStore:
    """A store that runs within a `with` block, and leaves nothing but its folder.

    Names of sockets have at most 107 characters, so the folder's name must be short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> ObjectStore:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop()

    def _start(self) -> None:
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir()
        fsid = str(uuid.uuid4())
        monitor = f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
        keyring = "keyring"
        settings = {
            "fsid": fsid,
            "monitor": monitor,
            "port": self.url.rpartition(":")[2],
            "disk_bytes": DISK_BYTES,
        }
        (self.folder / "ceph.conf").write_text(SETTINGS.format(folder=self.folder, **settings))
        create_keyring = ["ceph-authtool", "--create-keyring", keyring, "--gen-key"]
        self._run(*create_keyring, "-n", "mon.", "--cap", "mon", "allow *")
        rights = []
        for part in ("mon", "osd", "mgr", "mds"):
            rights += ["--cap", part, "allow *"]
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *rights)
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, "monmap")
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap", "--keyring", keyring)
        self._serve("ceph-mon", "-i", "a")
        self._until("the monitor", lambda: bool(self._run("ceph", "fsid", check=False)))
        # the monitor knows the daemon by the id of its disk
        disk = str(uuid.uuid4())
        self._run("ceph", "osd", "new", disk)
        self._run("ceph-authtool", "--create-keyring", "osd/keyring", "--gen-key", "-n", "osd.0")
        rights = ["mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"]
        self._run("ceph", "auth", "add", "osd.0", *rights, "-i", "osd/keyring")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk, "--keyring", "osd/keyring")
        self._serve("ceph-osd", "-i", "0", "--keyring", "osd/keyring")
        self._until("the storage daemon", lambda: "1 up" in self._run("ceph", "osd", "stat"))
        place = ["0", "1.0", "host=localhost", "root=default"]
        self._run("ceph", "osd", "crush", "add", *place, check=False)
        self._serve("radosgw", "-n", "client.admin")
        self._until("the gateway", self._answers)
        user = ["--uid=tests", "--display-name=tests", f"--access-key={KEY}", f"--secret-key={KEY}"]
        self._run("radosgw-admin", "user", "create", *user)

    def _run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def _serve(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out", "wb") as log:
            daemon = subprocess.Popen(
                [*command, "-f"], cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )
        self._daemons.append(daemon)

    def _until(
        self, what: str, ready: Callable[[], bool], timeout_s: float = START_TIMEOUT_S
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline or any(
                daemon.poll() is not None for daemon in self._daemons
            ):
                logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.out"))
                raise RuntimeError(f"{what} did not start: {logs}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    def _stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
