"""The content of a run's offline W&B file."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Logged:
    """A training run and the content of its W&B file."""

    path: Path
    history: dict[str, Any]
    """The last value of everything that was logged."""
    config: dict[str, Any]
    kinds: set[str]
    artifacts: list[Any]
    files: Path


def records(path: Path) -> Iterator[Any]:
    """Yield the records of an offline W&B run.

    The file is a LevelDB log of protobuf messages, in blocks of 32 KiB with headers of 7 bytes.
    """
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    at = 7
    parts = b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def read(run: Path, which: int = -1) -> Logged:
    """Return the content of a run's newest offline file, or of an earlier one."""
    folder = sorted(run.glob("wandb/offline-run-*"), key=lambda path: path.stat().st_mtime_ns)[
        which
    ]
    (file,) = folder.glob("*.wandb")
    logged = Logged(run, {}, {}, set(), [], folder / "files")
    for record in records(file):
        kind = record.WhichOneof("record_type")
        logged.kinds.add(kind)
        if kind == "history":
            for item in record.history.item:
                name, *inner = [item.key] if item.key else item.nested_key
                value = json.loads(item.value_json)
                if inner:  # a table or a chart, field by field
                    logged.history.setdefault(name, {})[inner[0]] = value
                else:
                    logged.history[name] = value
        elif kind == "run":
            logged.config |= {
                item.key: json.loads(item.value_json) for item in record.run.config.update
            }
        elif kind == "artifact":
            logged.artifacts.append(record.artifact)
    return logged
