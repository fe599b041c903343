"""How the ranks of a run find each other: the place that a launcher gives each in the environment, and the store they meet at."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from torch._C._distributed_c10d import (
    HashStore,
    Store,
    TCPStore,
)  # torch.distributed's, as typed there

MEETING = timedelta(minutes=10)
"""A rank that waits longer than this for the others to start ends the run."""

ANSWER_S = 15.0
"""Seconds that whoever listens at rank 0's address has to answer."""
PROBE_S = 3.0

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Place:
    """This process's place among the ranks of the run."""

    rank: int
    size: int
    local_rank: int
    """Among the ranks of this machine."""
    address: str
    """Where rank 0 listens; "" for a group of one, which has no need of it."""
    port: int


def find_place() -> Place:
    """Return the place that the launcher's environment variables describe; without them, that of a group of one.

    Raises:
        RuntimeError: variables are missing, are no numbers, or contradict each other.
    """
    if not any(name in os.environ for name in _NUMBERS):
        return Place(rank=0, size=1, local_rank=0, address="", port=0)
    rank, size, local_rank = (_number(name) for name in _NUMBERS)
    if not local_rank <= rank < size:
        raise RuntimeError(
            f"the environment is inconsistent: RANK={rank}, LOCAL_RANK={local_rank}, WORLD_SIZE={size}. It must be "
            "LOCAL_RANK <= RANK < WORLD_SIZE. Start the run with a launcher such as torchrun, or unset them"
        )
    if size == 1:
        return Place(rank, size, local_rank, address="", port=0)
    address, port = os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT")
    if not address or not 0 < port < 65536:
        raise RuntimeError(
            f"WORLD_SIZE is {size}, but MASTER_ADDR={address!r} and MASTER_PORT={port} are not the address of rank 0. "
            "Start the run with a launcher such as torchrun"
        )
    return Place(rank, size, local_rank, address, port)


def _number(name: str) -> int:
    value = os.environ.get(name)
    if value is None:
        there = ", ".join(
            f"{other}={os.environ[other]}" for other in _NUMBERS if other in os.environ
        )
        raise RuntimeError(
            f"the environment has {there} but no {name}. Start the run with a launcher such as torchrun, which sets both, "
            "or unset them for a run of one process"
        )
    if not (value.isascii() and value.isdecimal()):
        raise RuntimeError(
            f"the environment variable {name} is {value!r}; it must be a number of 0 or more"
        )
    return int(value)


def open_store(place: Place) -> Store | None:
    """Open the store at which the ranks meet; None where the launcher (torchrun) holds it.

    Rank 0 listens on MASTER_ADDR alone: for a run on one machine that is the loopback interface.

    Raises:
        RuntimeError: the port is in use, the address is unknown, or rank 0 does not answer.
    """
    if place.size == 1:
        _use_loopback()
        return HashStore()
    if _is_loopback(place.address):
        _use_loopback()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return None
    store = _serve_store(place) if place.rank == 0 else _join_store(place)
    _await_all(store, place)
    return store


def _serve_store(place: Place) -> Store:
    listening = _listen(place.address, place.port)
    return TCPStore(
        place.address,
        place.port,
        place.size,
        is_master=True,
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listening.detach(),
    )


def _join_store(place: Place) -> Store:
    """Connect to rank 0, in a thread: torch waits without end for the answer of a program that is no store."""
    outcome: list[Store | RuntimeError] = []

    def connect() -> None:
        try:
            outcome.append(
                TCPStore(
                    place.address,
                    place.port,
                    place.size,
                    wait_for_workers=False,
                    timeout=MEETING,
                    multi_tenant=True,
                )
            )
        except RuntimeError as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    began = time.monotonic()
    while thread.is_alive():
        thread.join(PROBE_S)
        if thread.is_alive() and not _is_listening(place):  # rank 0 is about to start
            began = time.monotonic()
        if thread.is_alive() and time.monotonic() - began > ANSWER_S:
            raise RuntimeError(
                f"the program that listens on {place.address}, port {place.port}, is not rank 0 of this run. "
                "Set another MASTER_PORT, or end that program"
            )
    if isinstance(outcome[0], RuntimeError):
        raise RuntimeError(
            f"rank 0 cannot be reached at {place.address}, port {place.port}. See its output"
        ) from outcome[0]
    return outcome[0]


def _is_listening(place: Place) -> bool:
    try:
        socket.create_connection((place.address, place.port), timeout=5).close()
        return True
    except OSError:
        return False


def _await_all(store: Store, place: Place) -> None:
    """Wait until all ranks have come to the store."""
    store.set(f"rank{place.rank}", "here")
    names = [f"rank{rank}" for rank in range(place.size)]
    try:
        store.wait(names, MEETING)
    except RuntimeError as error:
        if place.rank:
            raise
        missing = [name.removeprefix("rank") for name in names if not store.check([name])]
        raise RuntimeError(
            f"ranks {', '.join(missing)} have not started within {MEETING}. See their own output"
        ) from error


def _listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens on the address, or on all addresses where it is not this machine's own, as in Kubernetes."""
    try:
        family, *_ = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise RuntimeError(f"MASTER_ADDR={address} cannot be resolved: {error.strerror}") from error
    for host in (address, ""):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(1024)
            return listening
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRNOTAVAIL and host:
                continue
            raise RuntimeError(
                f"rank 0 cannot listen on {address}, port {port}: {error.strerror}. Set another MASTER_PORT "
                "(torchrun and deepspeed: --master_port), or end the program that uses it"
            ) from error
    raise AssertionError("the loop returns or raises")


def _is_loopback(address: str) -> bool:
    try:
        return all(
            ipaddress.ip_address(found[4][0]).is_loopback
            for found in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
        )
    except OSError:
        return False


def _use_loopback() -> None:
    """Have gloo and NCCL listen on the loopback interface, where the user has not chosen another."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for variable in _INTERFACE_VARIABLES if names else ():
        os.environ.setdefault(variable, names[0])
