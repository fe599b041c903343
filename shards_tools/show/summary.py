"""What was packed, what was left out and why, in lines for people.

The sources are not repeated here: they are printed before the packing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrec.data.format import FAILURES_FILE, DatasetInfo
from mlrec.runtime.printable import counted
from mlrec.runtime.units import megabytes
from shards_tools.pack.encoder_frames import describe_frames
from shards_tools.pack.reasons import Reason, reason_lines
from shards_tools.raw.split import describe_time_split


def summary_lines(url: str, info: DatasetInfo, reasons: Sequence[Reason]) -> list[str]:
    """Return the lines that describe a data set, the most important first.

    Args:
        reasons: Why raw files failed, from `read_reasons`.
    """
    counts = info.counts
    lines = [
        f"{url}: {counted(counts['users'], 'user')}, "
        f"{counted(counts['interactions'], 'interaction')}, {counted(counts['items'], 'item')}; "
        f"{megabytes(info.num_bytes)} in {counted(info.num_files, 'file')}"
    ]
    if info.split.kind == "time":
        lines.append(describe_time_split(info.split, counts))
    lines += _failure_lines(info, reasons)
    lines += _lacking_lines(info)
    lines += info.remarks
    if info.media.kind == "frames":
        lines += describe_frames(info.media.frames)
    return lines


def _failure_lines(info: DatasetInfo, reasons: Iterable[Reason]) -> list[str]:
    """Return what failed and why. Nothing is said about what did not fail."""
    counts = info.counts
    reasons = list(reasons)
    num_failed = counts["failed_items"]
    num_covers = counts.get("failed_covers", 0)
    num_audio = counts.get("failed_audio", 0)
    lines = []
    if num_failed:
        cost = cost_in_words(counts.get("lost_interactions", 0), counts.get("lost_users", 0))
        failed = f"{num_failed:,} of {counted(counts['items'], 'item')} failed"
        lines.append(f"{failed}, which cost {cost}:" if cost else f"{failed}:")
        lines += _indented(reason_lines(reasons, "video"))
    if num_covers:
        lines.append(f"{counted(num_covers, 'cover')} failed, replaced by black:")
        lines += _indented(reason_lines(reasons, "cover"))
    if num_audio:
        lines.append(f"{counted(num_audio, 'audio file')} failed, replaced by silence:")
        lines += _indented(reason_lines(reasons, "audio"))
    if lines:
        lines.append(f"{FAILURES_FILE} lists each file that failed, with the reason")
    return lines


def cost_in_words(lost_interactions: int, lost_users: int) -> str:
    """Return what failed items cost; "" if they cost nothing."""
    if not lost_interactions:
        return ""
    cost = counted(lost_interactions, "interaction")
    return f"{cost} and {counted(lost_users, 'user')}" if lost_users else cost


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


_CONSEQUENCES = {"cover": ("a cover", "get a black image"), "audio": ("audio", "get silence")}
"""Each part with its article, and what items without it get instead."""


def _lacking_lines(info: DatasetInfo) -> list[str]:
    """Return how many packed items have no cover, audio or title."""
    counts = info.counts
    num_packed = counts["items"] - counts["failed_items"]
    lines = []
    for part, (noun, consequence) in _CONSEQUENCES.items():
        num_lacking = counts.get(f"items_without_{part}", 0)
        if num_lacking == num_packed:
            lines.append(f"no item has {noun}: all {consequence}")
        elif num_lacking:
            items = f"{num_lacking:,} of {counted(num_packed, 'packed item')}"
            lines.append(f"{items} have no {part} and {consequence}")
    absent = _absent_parts(info)
    if absent:
        lines.append(f"without {', '.join(absent)}")
    return lines


def _absent_parts(info: DatasetInfo) -> list[str]:
    """Return the parts that the data set has for no item."""
    counts = info.counts
    num_packed = counts["items"] - counts["failed_items"]
    has_part = {
        "videos": info.media.kind != "none",
        "covers": info.media.has_cover,
        "audio": info.media.has_audio,
        # if some items have titles, a remark counts the others
        "titles": counts.get("items_without_title") != num_packed,
    }
    return [part for part, is_there in has_part.items() if not is_there]
