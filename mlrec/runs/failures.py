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

# Room for about a million failures; a longer file is not read into memory.
MAX_LEDGER_BYTES = 256 << 20


@dataclass(frozen=True)
class Failure:
    """An item that could not be read."""

    __pydantic_config__ = STRICT

    item: Annotated[int, Field(ge=1, le=1 << 40)]
    """Number in the catalogue."""
    reason: str
    step: Annotated[int, Field(ge=0)]
    """Number of steps that were done when it failed."""


def read_failures(run_path: Path) -> list[Failure]:
    """Return the run's ledger, oldest first; empty if it has none.

    The last line is ignored if a crash cut it off.

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


def frequent_reason(reasons: Collection[str]) -> str:
    """Return the most frequent of the reasons, one per item, as a sentence without a full stop."""
    reason, count = Counter(reasons).most_common(1)[0]
    return f"The most frequent reason, of {count:,}: {printable(reason)}"


def too_many(reasons: Collection[str], most: int, url: str, ledger: Path | None) -> RuntimeError:
    """Return the error of a run with more than `most` unreadable items.

    Args:
        reasons: one reason per item.
        most: data.max_bad_items.
        url: the data set.
        ledger: file with all reasons; None if there is none.
    """
    place = f"; all reasons are in {ledger}" if ledger else ""
    return RuntimeError(
        f"{counted(len(reasons), 'item')} could not be read, data.max_bad_items is {most:,}. "
        f"{frequent_reason(reasons)}. "
        f"Repair the data set ({url}){place}"
    )


def repair(run_path: Path) -> list[Failure]:
    """Return the run's ledger, and remove a line that a crash cut off.

    Without that the next line would be appended to the broken one.
    """
    ledger = read_failures(run_path)
    path = run_path / FAILURES_FILE
    complete_lines = _lines(ledger).encode()
    if path.exists() and complete_lines != path.read_bytes():
        # Replaced as a whole, so that a crash during the repair loses no complete line.
        storage.write_bytes(str(path), complete_lines)
    return ledger


def append(run_path: Path, new: Sequence[Failure]) -> None:
    """Add items to the ledger."""
    # Without fsync: an item whose line is lost is written again when it fails again.
    with open(run_path / FAILURES_FILE, "a") as ledger:
        ledger.write(_lines(new))


def _lines(ledger: Sequence[Failure]) -> str:
    return "".join(json.dumps(asdict(failure)) + "\n" for failure in ledger)
