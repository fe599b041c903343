"""failures.jsonl: the ledger of items that a run could not read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlrec import storage
from mlrec.config.run_files import FAILURES_FILE
from mlrec.runtime.printable import counted, printable
from mlrec.storage.typed_json import STRICT, parse_json_lines, read_bounded

MAX_LEDGER_BYTES = 256 << 20


@dataclass(frozen=True)
class Failure:
    """An item that could not be read."""

    __pydantic_config__ = STRICT

    item: Annotated[int, Field(ge=1, le=1 << 40)]
    """Its number in the catalogue."""
    reason: str
    step: Annotated[int, Field(ge=0)]
    """Steps done when this was found."""


def read_failures(run_path: Path) -> list[Failure]:
    """Return the run's ledger, oldest first; empty if it has none. A last line that a crash cut off is left out.

    Raises:
        ValueError: another line is damaged.
    """
    path = run_path / FAILURES_FILE
    if not path.exists():
        return []
    remedy = f"Remove {path}: items that cannot be read are found and written again"
    return parse_json_lines(
        read_bounded(path, MAX_LEDGER_BYTES, remedy), Failure, str(path), remedy
    )


def too_many(reasons: Collection[str], most: int, url: str, ledger: Path | None) -> RuntimeError:
    """Return the error of a run in which more than `most` items of the data set at `url` could not be read.

    Args:
        reasons: one of each item.
        ledger: the file that has them; None if they are not kept.
    """
    reason, count = Counter(reasons).most_common(1)[0]
    kept = f"; all reasons are in {ledger}" if ledger else ""
    return RuntimeError(
        f"{counted(len(reasons), 'item')} could not be read, data.max_bad_items is {most:,}. "
        f"The most frequent reason, of {count:,}: {printable(reason)}. Repair the data set ({url}){kept}"
    )


def repair(run_path: Path) -> list[Failure]:
    """Return the run's ledger and remove a line that a crash cut off, so that the next one is whole."""
    ledger = read_failures(run_path)
    path = run_path / FAILURES_FILE
    if path.exists() and (whole := _lines(ledger).encode()) != path.read_bytes():
        storage.write_bytes(str(path), whole)
    return ledger


def append(run_path: Path, new: Sequence[Failure]) -> None:
    """Add items to the ledger."""
    with open(run_path / FAILURES_FILE, "a") as ledger:
        ledger.write(_lines(new))


def _lines(ledger: Sequence[Failure]) -> str:
    return "".join(json.dumps(asdict(failure)) + "\n" for failure in ledger)
