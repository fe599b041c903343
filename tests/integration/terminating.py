"""Ranks that meet a fault.

One process that has imported everything starts them. Each rank has its own session and log.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from ranks import PRELOADED

LIMIT_S = 30.0
"""Within which every process has to end after a fault."""
SPENT_S = 120.0
"""Within which a rank has to start and meet its fault."""
_CLONE_NEWNS, _MS_PRIVATE, _MS_REC = 0x20000, 1 << 18, 1 << 14

Fault = Callable[[Callable[[], None]], None]
"""Prepares a rank. Its argument records that the fault happens now."""


class End(NamedTuple):
    """How the ranks of a run ended."""

    codes: list[int | None]
    """None for a rank that had not ended within LIMIT_S of the fault."""
    seconds: float
    """From the fault to the end of the last rank."""
    output: str
    left: list[str]
    """Processes that were left after the ranks ended."""

    @property
    def sentences(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("error")]


class Ranks:
    """Starts ranks."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*PRELOADED, "mlrec.cli.main", "terminating"])

    def run(
        self, ranks: int, folder: Path, fault: Fault, program: str, *arguments: str, faulty: int = 0
    ) -> End:
        """Run a command of `mlrec` or `mlrec-shards` on `ranks` ranks until all have ended.

        The fault happens on rank `faulty`; -1 means all ranks.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        place = (
            {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            if ranks > 1
            else {}
        )
        processes = []
        for rank in range(ranks):
            own = {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            job = (
                folder,
                rank,
                own,
                fault if faulty in (rank, -1) else nothing,
                program,
                arguments,
            )
            processes.append(self._context.Process(target=_rank, args=job))
            processes[-1].start()
        try:
            return self._watch(processes, folder)
        finally:
            for process in processes:
                for pid in _session(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _watch(processes: Sequence[Any], folder: Path) -> End:
        struck, began = folder / "struck", time.time()
        while any(process.exitcode is None for process in processes):
            since = float(struck.read_text() or began) if struck.exists() else began
            if time.time() - since > (LIMIT_S if struck.exists() else SPENT_S):
                break
            time.sleep(0.02)
        ended = time.time()
        codes = [process.exitcode for process in processes]
        time.sleep(0.3)  # for the kernel to end the workers
        left = [
            " ".join(psutil.Process(pid).cmdline()[-3:])
            for process in processes
            for pid in _session(process.pid)
        ]
        output = "".join((folder / f"rank{rank}.log").read_text() for rank in range(len(processes)))
        return End(
            codes,
            ended - float(struck.read_text()) if struck.exists() else float("nan"),
            output,
            left,
        )


def _session(session: int | None) -> list[int]:
    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.status() != psutil.STATUS_ZOMBIE and os.getsid(process.pid) == session:
                pids.append(process.pid)
    return pids


def _rank(
    folder: Path,
    rank: int,
    place: dict[str, str],
    fault: Fault,
    program: str,
    arguments: Sequence[str],
) -> None:
    from mlrec.runtime.entry_point import exit_with, run_main

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    multiprocessing.set_start_method(
        "fork", force=True
    )  # as in a process that was started by a command
    os.environ.update(place)
    fault(lambda: _strike(folder))
    exit_with(run_main(_program(program), arguments))


def _program(name: str) -> Callable[[Sequence[str]], int | None]:
    """Return the function that runs a program's command line."""
    if name == "mlrec":
        from mlrec.cli import main

        return main.run_command
    from shards_tools import cli

    return cli.run_command


def _strike(folder: Path) -> None:
    if not (folder / "struck").exists():
        (folder / "struck").write_text(repr(time.time()))


def nothing(strike: Callable[[], None]) -> None:
    """Prepare no fault."""


def at_once(strike: Callable[[], None]) -> None:
    """Note that the command itself meets the fault."""
    strike()


class Raises(NamedTuple):
    """A method that raises an error from its `call`-th call on."""

    module: str
    owner: str
    method: str
    error: Exception
    call: int = 1

    def __call__(self, strike: Callable[[], None]) -> None:
        import importlib

        owner = (
            getattr(importlib.import_module(self.module), self.owner)
            if self.owner
            else importlib.import_module(self.module)
        )
        original, calls = getattr(owner, self.method), 0

        def broken(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls < self.call:
                return original(*arguments, **options)
            strike()
            raise self.error

        setattr(owner, self.method, broken)


class Sleeps(NamedTuple):
    """A method that never returns and ignores signals, while `then` causes the fault."""

    module: str
    owner: str
    method: str
    then: Fault

    def __call__(self, strike: Callable[[], None]) -> None:
        import importlib

        def stuck(*arguments: Any, **options: Any) -> Any:
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(1000)

        setattr(getattr(importlib.import_module(self.module), self.owner), self.method, stuck)
        self.then(strike)


def few_files(strike: Callable[[], None]) -> None:
    """Allow 64 open files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    strike()


def small_shared_memory(strike: Callable[[], None]) -> None:
    """Give this process a /dev/shm of 64 MB."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "mounting is not possible here")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm"], check=True)
    strike()


def no_local_rank(strike: Callable[[], None]) -> None:
    """Leave the process without LOCAL_RANK."""
    os.environ.setdefault("RANK", "0")
    os.environ.pop("LOCAL_RANK", None)
    strike()


class TakenPort(NamedTuple):
    """A port for the ranks to meet at that another program listens on, without an answer."""

    port: int

    def __call__(self, strike: Callable[[], None]) -> None:
        from mlrec.runtime import rendezvous

        rendezvous.ANSWER_S, rendezvous.PROBE_EVERY_S = 2.0, 0.5
        os.environ["MASTER_PORT"] = str(self.port)
        strike()


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """Yield a file system of `kilobytes`, or None if mounting is not possible."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def killed_after_a_second(strike: Callable[[], None]) -> None:
    """Kill this process once it has started loader workers."""
    session = os.getpid()

    def kill() -> None:
        while len(_session(session)) < 3:
            time.sleep(0.1)
        time.sleep(1)
        strike()
        os.kill(session, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
