"""Lets the ranks of a run find each other.

The launcher's environment variables give each rank its place. The ranks meet at a store, which
rank 0 serves.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

# torch.distributed exports these classes without their types.
from torch._C._distributed_c10d import HashStore, Store, TCPStore

START_TIMEOUT = timedelta(minutes=10)
"""Longest wait of a rank for the others to start, after which the run ends."""

ANSWER_S = 15.0
"""Seconds that the program listening at rank 0's address has to answer."""
PROBE_EVERY_S = 3.0
"""Seconds between two checks whether anything listens at rank 0's address."""
PROBE_TIMEOUT_S = 5.0
BACKLOG = 1024
"""Ranks that may connect at the same time."""

_RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Place:
    """This process's place among the ranks of the run."""

    rank: int
    size: int
    local_rank: int
    """Number of this rank on its machine, from 0."""
    address: str
    """Address at which rank 0 listens; "" for a group of one, which does not need it."""
    port: int
    """Port at which rank 0 listens; 0 for a group of one."""


def find_place() -> Place:
    """Return the place that the launcher's environment variables describe.

    Without these variables it is the place in a group of one.

    Raises:
        RuntimeError: variables are missing, are not numbers, or contradict each other.
    """
    if not any(name in os.environ for name in _RANK_VARIABLES):
        return Place(rank=0, size=1, local_rank=0, address="", port=0)
    rank, size, local_rank = (_number(name) for name in _RANK_VARIABLES)
    if not local_rank <= rank < size:
        raise RuntimeError(
            f"the environment is inconsistent: RANK={rank}, LOCAL_RANK={local_rank}, "
            f"WORLD_SIZE={size}. It must be LOCAL_RANK <= RANK < WORLD_SIZE. "
            "Start the run with a launcher such as torchrun, or unset them"
        )
    if size == 1:
        return Place(rank, size, local_rank, address="", port=0)
    address = os.environ.get("MASTER_ADDR", "")
    port = _number("MASTER_PORT")
    if not address or not 0 < port < 65536:
        raise RuntimeError(
            f"WORLD_SIZE is {size}, but MASTER_ADDR={address!r} and MASTER_PORT={port} are not "
            "the address of rank 0. Start the run with a launcher such as torchrun"
        )
    return Place(rank, size, local_rank, address, port)


def _number(name: str) -> int:
    """Return the value of an environment variable that must be a whole number."""
    value = os.environ.get(name)
    if value is None:
        present = []
        for variable in _RANK_VARIABLES:
            if variable in os.environ:
                present.append(f"{variable}={os.environ[variable]}")
        raise RuntimeError(
            f"the environment has {', '.join(present)} but no {name}. Start the run with a "
            "launcher such as torchrun, which sets both, or unset them for a run of one process"
        )
    if not (value.isascii() and value.isdecimal()):
        raise RuntimeError(
            f"the environment variable {name} is {value!r}; it must be a number of 0 or more"
        )
    return int(value)


def open_store(place: Place) -> Store | None:
    """Open the store at which the ranks meet, or return None if torchrun serves it; collective.

    Rank 0 listens on MASTER_ADDR only. For a run on one machine that is the loopback interface.

    Raises:
        RuntimeError: the port is in use, the address is unknown, or rank 0 does not answer.
    """
    # A single rank needs no network, but gloo and NCCL open sockets all the same.
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
    # The socket is opened here: torch would listen on all addresses of the machine.
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
    """Connect to rank 0.

    Raises:
        RuntimeError: rank 0 does not answer, or another program listens at its address.
    """
    # In a thread: torch waits for ever if a program listens there that is not a store.
    outcome: list[Store | RuntimeError] = []

    def connect() -> None:
        try:
            outcome.append(
                TCPStore(
                    place.address,
                    place.port,
                    place.size,
                    wait_for_workers=False,
                    timeout=START_TIMEOUT,
                    multi_tenant=True,
                )
            )
        except RuntimeError as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    listening_since = time.monotonic()
    while thread.is_alive():
        thread.join(PROBE_EVERY_S)
        if thread.is_alive() and not _is_listening(place):  # rank 0 has not started yet
            listening_since = time.monotonic()
        if thread.is_alive() and time.monotonic() - listening_since > ANSWER_S:
            raise RuntimeError(
                f"the program that listens on {place.address}, port {place.port}, is not rank 0 "
                "of this run. Set another MASTER_PORT, or end that program"
            )
    if isinstance(outcome[0], RuntimeError):
        raise RuntimeError(
            f"rank 0 cannot be reached at {place.address}, port {place.port}. See its output"
        ) from outcome[0]
    return outcome[0]


def _is_listening(place: Place) -> bool:
    address = (place.address, place.port)
    try:
        socket.create_connection(address, timeout=PROBE_TIMEOUT_S).close()
        return True
    except OSError:
        return False


def _await_all(store: Store, place: Place) -> None:
    """Wait until all ranks have reached the store; collective."""
    # A key per rank, instead of a count, tells rank 0 which ranks are missing.
    store.set(f"rank{place.rank}", "here")
    names = [f"rank{rank}" for rank in range(place.size)]
    try:
        store.wait(names, START_TIMEOUT)
    except RuntimeError as error:
        if place.rank != 0:  # rank 0 names the missing ranks
            raise
        missing = [name.removeprefix("rank") for name in names if not store.check([name])]
        raise RuntimeError(
            f"ranks {', '.join(missing)} have not started within {START_TIMEOUT}. "
            "See their own output"
        ) from error


def _listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens on the address.

    If the address is not this machine's own, as in Kubernetes, it listens on all addresses.

    Raises:
        RuntimeError: the address is unknown, or the port is in use.
    """
    try:
        family, *_ = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise RuntimeError(f"MASTER_ADDR={address} cannot be resolved: {error.strerror}") from error
    for host in (address, ""):
        listening = socket.socket(family, socket.SOCK_STREAM)
        # Allows a restart while connections of the previous run are still closing.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
            return listening
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRNOTAVAIL and host:
                continue
            raise RuntimeError(
                f"rank 0 cannot listen on {address}, port {port}: {error.strerror}. "
                "Set another MASTER_PORT (torchrun and deepspeed: --master_port), "
                "or end the program that uses it"
            ) from error
    raise AssertionError("the loop returns or raises")


def _is_loopback(address: str) -> bool:
    """Return whether all IP addresses of the host `address` are loopback addresses."""
    try:
        entries = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except OSError:  # unknown host
        return False
    for *_, socket_address in entries:
        if not ipaddress.ip_address(socket_address[0]).is_loopback:
            return False
    return True


def _use_loopback() -> None:
    """Make gloo and NCCL use the loopback interface, unless the user has chosen another."""
    loopback_names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if not loopback_names:
        return
    for variable in _INTERFACE_VARIABLES:
        os.environ.setdefault(variable, loopback_names[0])
