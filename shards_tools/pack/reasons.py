"""Failures grouped by kind and reason, for errors, summaries and pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlrec import storage
from mlrec.data.format import FAILURES_FILE, DatasetInfo
from mlrec.runtime.printable import printable
from shards_tools.pack.records import FAILURE_COUNTS, Failure, Kind, read_failures

MAX_EXAMPLES = 3
"""Number of raw ids that are quoted for a reason."""
MAX_REASONS = 5
"""Number of reasons that are quoted for a kind of file."""
MAX_ID_CHARACTERS = 40
MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Reason:
    """One reason why files of a kind failed."""

    kind: Kind
    reason: str
    num_files: int
    """Number of files that failed for it."""
    raw_ids: list[str]
    """The first few of their items, in catalogue order."""

    @property
    def examples(self) -> str:
        """The raw ids in words."""
        quoted = [printable(raw_id, MAX_ID_CHARACTERS) for raw_id in self.raw_ids]
        more = ", ..." if self.num_files > len(quoted) else ""
        return ", ".join(quoted) + more

    def __str__(self) -> str:
        noun = "raw id" if self.num_files == 1 else "raw ids"
        reason = printable(self.reason, MAX_REASON_CHARACTERS)
        return f"{self.num_files:,} x {reason} ({noun} {self.examples})"


def group_by_reason(failures: Iterable[Failure], max_examples: int = MAX_EXAMPLES) -> list[Reason]:
    """Return the reasons, those of videos first, of one kind the most frequent first.

    Args:
        max_examples: Number of raw ids of each.
    """
    raw_ids: dict[tuple[Kind, str], list[str]] = {}
    counts: dict[tuple[Kind, str], int] = {}
    for failure in failures:
        key = (failure.kind, failure.reason)
        counts[key] = counts.get(key, 0) + 1
        examples = raw_ids.setdefault(key, [])
        # a data set may have a million failures, of which no more than these are held
        if len(examples) < max_examples:
            examples.append(failure.raw_id)
    reasons = []
    for (kind, reason), count in counts.items():
        reasons.append(Reason(kind, reason, count, raw_ids[kind, reason]))
    kinds = list(FAILURE_COUNTS)
    # by text at last, so that the order does not depend on the items
    return sorted(
        reasons,
        key=lambda reason: (kinds.index(reason.kind), -reason.num_files, reason.reason),
    )


def read_reasons(url: str, info: DatasetInfo, max_examples: int = MAX_EXAMPLES) -> list[Reason]:
    """Return why raw files of the data set at `url` failed.

    Args:
        max_examples: Number of raw ids of each reason.

    Raises:
        ValueError: failures.jsonl is missing or damaged.
    """
    if not info.has(FAILURES_FILE):
        return []
    where = storage.join(url, FAILURES_FILE)
    try:
        content = storage.read_bytes(where, info.file(FAILURES_FILE).size)
    except FileNotFoundError as error:
        raise ValueError(
            f"{where} is missing. mlrec-shards repair RAW {url} packs it again"
        ) from error
    return group_by_reason(read_failures(content, where), max_examples)


def reason_lines(reasons: Iterable[Reason], kind: Kind) -> list[str]:
    """Return a line for each reason of a kind of file, the most frequent first."""
    of_kind = [reason for reason in reasons if reason.kind == kind]
    lines = [str(reason) for reason in of_kind[:MAX_REASONS]]
    others = of_kind[MAX_REASONS:]
    if others:
        num_files = sum(reason.num_files for reason in others)
        lines.append(f"{num_files:,} x {len(others):,} other reasons")
    return lines
