"""The machines of a run: read from a hostfile, and reached over ssh."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SSH = (
    "ssh",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=10",
    "-o",
    "ServerAliveCountMax=3",
)
"""ssh without questions. A machine that vanishes without closing its connections is given up
after 40 s."""
ADDRESS_TIMEOUT_S = 20.0
"""Seconds a machine has to report its addresses over ssh."""

# The name may not begin with "-": ssh would read it as an option.
_HOST_LINE = re.compile(r"([^\s=-][^\s=]*)\s+slots=([1-9]\d*)")


def read_hostfile(path: Path) -> dict[str, int]:
    """Return the number of ranks by machine, from lines "NAME slots=N".

    Raises:
        ValueError: the file is missing or names no machine, or a line is malformed or repeated.
    """
    if not path.is_file():
        raise ValueError(f"hostfile {path} does not exist. Write one like launch/hostfile.example")
    slots: dict[str, int] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _HOST_LINE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{path}, line {number}: {text!r} is not NAME slots=N, with N of 1 or more"
            )
        # A second line would silently replace the first one's slots.
        name = match[1]
        if name in slots:
            raise ValueError(
                f"{path}, line {number}: {name} is listed twice. "
                "Give it one line with all its slots"
            )
        slots[name] = int(match[2])
    if not slots:
        raise ValueError(f"{path} names no machine. Write lines NAME slots=N")
    return slots


def reachable_addresses(hosts: Sequence[str]) -> dict[str, str]:
    """Return the address of every machine that answers ssh.

    That is the name itself where it is an address, else the first one that the machine reports.
    """
    # All at once: a machine that is down takes the full time limit.
    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(pool.map(_ask_address, hosts))
    addresses = {}
    for host, address in zip(hosts, answers, strict=True):
        if address is not None:
            addresses[host] = address
    return addresses


def _ask_address(host: str) -> str | None:
    try:
        answer = subprocess.run(
            [*SSH, host, "hostname -I"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=ADDRESS_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return None
    reported = answer.stdout.split()
    # Any failure counts as unreachable: ssh's own message is not needed to name the machine.
    if answer.returncode or not reported:
        return None
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:  # the host is a name
        return reported[0]
