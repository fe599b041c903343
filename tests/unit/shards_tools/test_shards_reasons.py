"""Reasons why files failed: grouped, most frequent first, and short."""

from __future__ import annotations

import random

from shards_tools.pack.reasons import Reason, group_by_reason, reason_lines
from shards_tools.pack.records import Failure


def failures_of(reasons: list[tuple[str, int]]) -> list[Failure]:
    """Return failures of videos, with as many items for each reason as given."""
    failures: list[Failure] = []
    for reason, num_files in reasons:
        for _ in range(num_files):
            item = len(failures) + 1
            failures.append(Failure(item, f"raw{item}", "video", reason))
    return failures


def test_group_by_reason_most_frequent_first_whatever_the_order() -> None:
    failures = failures_of([("rare", 1), ("b frequent", 4), ("a frequent", 4)])
    failures.append(Failure(1, "raw1", "cover", "no image"))
    groups = group_by_reason(failures)
    assert groups == [
        Reason("video", "a frequent", 4, ["raw6", "raw7", "raw8"]),
        Reason("video", "b frequent", 4, ["raw2", "raw3", "raw4"]),
        Reason("video", "rare", 1, ["raw1"]),
        # covers come after videos, whose failures cost items
        Reason("cover", "no image", 1, ["raw1"]),
    ]
    random.Random(0).shuffle(failures)
    shuffled = [(group.kind, group.reason) for group in group_by_reason(failures)]
    assert shuffled == [(group.kind, group.reason) for group in groups]


def test_reason_lines_name_the_first_raw_ids() -> None:
    groups = group_by_reason(failures_of([("it is empty", 4), ("it is missing", 1)]))
    assert reason_lines(groups, "video") == [
        "4 x it is empty (raw ids raw1, raw2, raw3, ...)",
        "1 x it is missing (raw id raw5)",
    ]
    assert not reason_lines(groups, "audio")


def test_reason_lines_of_many_reasons_are_cut() -> None:
    groups = group_by_reason(failures_of([(f"reason {number}", 9 - number) for number in range(8)]))
    lines = reason_lines(groups, "video")
    assert len(lines) == 6
    assert lines[-1] == "9 x 3 other reasons"


def test_reason_lines_raw_ids_are_short_and_printable() -> None:
    failure = Failure(1, "\x1b[2J" + "x" * 1000, "video", "it is empty")
    (line,) = reason_lines(group_by_reason([failure]), "video")
    assert line.isprintable()
    assert len(line) < 100
