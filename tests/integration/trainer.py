"""A process that trains one run after another.

Starting Python, torch and DeepSpeed again takes longer than a tiny run.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

QUICK = {
    "mlrec.storage.transfer.FIRST_DELAY_S": 0.01,
    "mlrec.storage.transfer.MAX_DELAY_S": 0.1,
    "mlrec.storage.transfer.TIMEOUT_S": 2.0,
}
"""Waits of transfers that suit a server of this machine."""


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    output: str


class Trainer:
    """Runs `mlrec train` as its command line does, but in one process that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: Any = None

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop()

    def train(
        self, *arguments: str, patches: dict[str, Any] = QUICK, timeout_s: float = 100.0
    ) -> Outcome:
        """Run `mlrec train` with these arguments and patched module attributes.

        Raises:
            TimeoutError: it took longer.
        """
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._pipe, child_end = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(child_end, self.folder), daemon=False
            )
            self._process.start()
            child_end.close()
        self._pipe.send((arguments, patches))
        output = self.folder / "output"
        if not self._pipe.poll(timeout_s):
            self._stop()
            raise TimeoutError(f"the run has not ended within {timeout_s} s: {output.read_text()}")
        try:
            return Outcome(self._pipe.recv(), output.read_text())
        except EOFError:
            self._stop()
            return Outcome(-1, output.read_text())

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe: Connection, folder: Path) -> None:
    from mlrec.cli.main import run_command
    from mlrec.runtime.entry_point import run_main
    from mlrec.train import loop as train

    train.stop_world = lambda: None  # DeepSpeed keeps the first process group for good
    multiprocessing.set_start_method(
        "fork", force=True
    )  # as in a process that was started by a command
    while True:
        try:
            arguments, patches = pipe.recv()
        except EOFError:
            return
        handle = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.close(handle)
        before = {name: _set(name, value) for name, value in patches.items()}
        code = run_main(run_command, ["train", *arguments])
        for name, value in before.items():
            _set(name, value)
        sys.stdout.flush()
        sys.stderr.flush()
        pipe.send(code)


def _set(name: str, value: Any) -> Any:
    """Set an attribute of a module by its full name, and return the previous value."""
    module, _, attribute = name.rpartition(".")
    holder = importlib.import_module(module)
    before = getattr(holder, attribute)
    setattr(holder, attribute, value)
    return before
