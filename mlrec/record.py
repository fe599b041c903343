"""run.json: what a run ran on, so that its figures can be repeated."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mlrec import __version__, storage
from mlrec.run_files import RECORD_FILE

_PACKAGES = ("torch", "deepspeed", "transformers", "webdataset", "numpy")


def hardware() -> str:
    """The accelerators or the processor of this machine, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The commit of the checkout that this code runs from, "" outside one; "+" marks uncommitted changes."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def new_record(name: str, world_size: int, dataset: dict[str, Any], parameters: dict[str, int]) -> dict[str, Any]:
    """The record of a run that begins now; `hours` grows with every call of `write_record`."""
    return {
        "name": name,
        "commit": commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hours": 0.0,
        "world": world_size,
        "hardware": hardware(),
        "versions": {"mlrec": __version__, **{package: version(package) for package in _PACKAGES}},
        "dataset": dataset,
        "parameters": parameters,
    }


def read_record(run_path: Path) -> dict[str, Any] | None:
    """The run's record, or None where it has none yet."""
    path = run_path / RECORD_FILE
    return json.loads(path.read_text()) if path.exists() else None


def write_record(run_path: Path, record: dict[str, Any]) -> None:
    """Writes the run's record, complete or not at all."""
    storage.write_bytes(str(run_path / RECORD_FILE), (json.dumps(record, indent=1) + "\n").encode())
