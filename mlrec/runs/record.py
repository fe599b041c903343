"""run.json: hardware, commit and versions of a run, so that its figures can be repeated."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from mlrec import __version__, storage
from mlrec.config.run_files import RECORD_FILE
from mlrec.runtime.hardware import processor_name
from mlrec.runtime.versions import commit
from mlrec.storage.typed_json import parse_json, read_bounded

MAX_RECORD_BYTES = 1 << 20
MAX_HOURS = 1e6
# Not STRICT, which refuses the keys that a later version may add.
KNOWN_KEYS = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

_PACKAGES = ("torch", "deepspeed", "transformers", "webdataset", "numpy")


def hardware() -> str:
    """Return the accelerators of this machine, or its processor, in words."""
    # Here, because commands that only read records run without torch.
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {processor_name()}"


def new_record(
    name: str, world_size: int, dataset: dict[str, Any], parameters: dict[str, int]
) -> dict[str, Any]:
    """Return the record of a run that starts now."""
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


@dataclass(frozen=True)
class Dataset:
    """The data set that a run was trained on."""

    __pydantic_config__ = KNOWN_KEYS

    name: str = ""
    url: str = ""
    fingerprint: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    split: str = "leave_one_out"
    """Kind of the split. Records of earlier versions lack it."""


@dataclass(frozen=True)
class Record:
    """The keys of run.json that commands read. Later versions may add others."""

    __pydantic_config__ = KNOWN_KEYS

    name: str = ""
    commit: str = ""
    started: str = ""
    hours: Annotated[float, Field(ge=0, le=MAX_HOURS)] = 0.0
    world: Annotated[int, Field(ge=0)] = 0
    hardware: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    dataset: Dataset = field(default_factory=Dataset)
    parameters: dict[str, int] = field(default_factory=dict)
    users_per_epoch: Annotated[int, Field(ge=0)] = 0
    """Users that an epoch trains on. Records of earlier versions lack it."""
    random_weights: list[str] = field(default_factory=list)
    """Encoders that started from random weights, although pretrained ones are usual."""


def read_record(run_path: Path) -> dict[str, Any] | None:
    """Return the run's run.json, or None if it has none yet.

    Keys that `Record` names have its types.

    Raises:
        ValueError: the file is damaged.
    """
    path = run_path / RECORD_FILE
    if not path.exists():
        return None
    remedy = f"Remove {path}: the next command that trains this run writes it again"
    raw = read_bounded(path, MAX_RECORD_BYTES, remedy)
    # Record checks the keys that it knows and drops the others; the second parse returns all.
    parse_json(raw, Record, str(path), remedy)
    return parse_json(raw, dict[str, Any], str(path), remedy)


def trained_on(run_path: Path) -> str:
    """Return the fingerprint of the data set that the run was last trained on, "" if unknown."""
    record = read_record(run_path) or {}
    return str(record.get("dataset", {}).get("fingerprint", ""))


def write_record(run_path: Path, record: dict[str, Any]) -> None:
    """Write the run's record, complete or not at all."""
    storage.write_bytes(str(run_path / RECORD_FILE), (json.dumps(record, indent=1) + "\n").encode())
