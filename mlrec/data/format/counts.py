"""The counts of dataset.json, and what must hold between them."""

from __future__ import annotations

from collections.abc import Mapping

from mlrec.data.format.splits import SplitInfo

MAX_ITEMS = (1 << 31) - 2
"""Items are numbered in int32."""

REQUIRED_COUNTS = ("users", "items", "interactions", "train", "validation", "test", "failed_items")
_FAILED_PARTS = ("failed_covers", "failed_audio")
OTHER_COUNTS = (
    *_FAILED_PARTS,
    "items_without_title",
    "items_without_cover",
    "items_without_audio",
    "lost_interactions",
    "lost_users",
    # users of a split by time whose target has no earlier interaction, who are not ranked
    "validation_without_history",
    "test_without_history",
    # of the raw interactions: rows that could not be read, and rows equal to another
    "dropped_rows",
    "duplicate_rows",
    # interactions with an item that the user had before, and targets that repeat their history
    "repeated_interactions",
    "repeated_targets",
    # what was left out for lack of interactions
    "excluded_users",
    "excluded_items",
    "excluded_interactions",
)
"""Counts that may be missing.

failed_covers, failed_audio and items_without_ count packed items. In version 1, failed_covers
and failed_audio include the items that have no such file.
"""


def check_counts(counts: Mapping[str, int], split: SplitInfo) -> None:
    """Check that counts fit each other and the split.

    Raises:
        ValueError: one is missing or unknown, or they contradict each other.
    """
    if absent := [name for name in REQUIRED_COUNTS if name not in counts]:
        raise ValueError(f"counts has no {absent[0]}")
    if unknown := set(counts) - {*REQUIRED_COUNTS, *OTHER_COUNTS}:
        raise ValueError(f"counts has an unknown entry {min(unknown)!r}")
    users = counts["users"]
    interactions = counts["interactions"]
    if users < 1 or interactions < users * split.min_interactions:
        raise ValueError(
            f"{users} users with {interactions} interactions; "
            f"each has {split.min_interactions} or more"
        )
    _check_item_counts(counts)
    _check_split_counts(counts, split)


def _check_item_counts(counts: Mapping[str, int]) -> None:
    items = counts["items"]
    num_packed = items - counts["failed_items"]
    if not 1 <= items <= MAX_ITEMS or num_packed < 0:
        raise ValueError(f"counts.items is {items} with {counts['failed_items']} failed ones")
    for name, count in counts.items():
        is_about_packed = name.startswith("items_without_") or name in _FAILED_PARTS
        if is_about_packed and count > num_packed:
            raise ValueError(f"counts.{name} is {count}, but only {num_packed} items are packed")


def _check_split_counts(counts: Mapping[str, int], split: SplitInfo) -> None:
    users = counts["users"]
    targets = (counts["validation"], counts["test"])
    # A split by time has users without a target.
    least = users if split.kind == "leave_one_out" else 1
    are_targets = least <= min(targets) and max(targets) <= users
    # Fewer training interactions are fine: the split drops all but a user's last ones.
    if not are_targets or counts["train"] > counts["interactions"] - sum(targets):
        raise ValueError(
            "the counts of train, validation and test do not fit those of users and interactions"
        )
