"""What becomes of a log before it is packed: repeats, and users and items with little in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mlrec.runtime.printable import counted, were
from shards_tools.raw.pairs.core import Core, core_of
from shards_tools.raw.pairs.interactions import Interactions
from shards_tools.raw.pairs.repeats import Repeats, handle_repeats

MERGED = "because of --repeats"
"""Part of the remark that repeats were merged."""


def clean(
    interactions: Interactions, repeats: Repeats, min_interactions: int, min_item_interactions: int
) -> Interactions:
    """Return the interactions that are packed, with further counts and remarks.

    Args:
        repeats: Which of a user's interactions with one item stay.
        min_interactions: Least number of a user's interactions.
        min_item_interactions: Least number of an item's interactions.
    """
    # repeats first: without them a user may have too few interactions
    sequences, num_repeated = handle_repeats(interactions.sequences, repeats)
    core = core_of(sequences, min_interactions, min_item_interactions)
    num_excluded = len(sequences.items) - len(core.sequences.items)
    counts = {
        **interactions.counts,
        "repeated_interactions": num_repeated,
        "excluded_users": core.excluded_users,
        "excluded_items": core.excluded_items,
        "excluded_interactions": num_excluded,
    }
    remarks = [*interactions.remarks, *_repeat_remarks(num_repeated, repeats)]
    if num_excluded:
        remarks.append(_describe_core(core, num_excluded, min_interactions, min_item_interactions))
    return replace(interactions, sequences=core.sequences, counts=counts, remarks=remarks)


def _repeat_remarks(num_repeated: int, repeats: Repeats) -> list[str]:
    if not num_repeated:
        return []
    repeated = f"{counted(num_repeated, 'interaction')} with an item that the user watched before"
    if repeats == "keep":
        return [f"the log has {repeated}; --repeats first or last keeps one of each"]
    merged = f"{repeated} {were(num_repeated)} merged"
    return [f"{merged}: the {repeats} of each stays, {MERGED} {repeats}"]


def were_repeats_merged(remarks: Iterable[str]) -> bool:
    """Return whether the remarks of `clean` say that repeats were merged."""
    return any(MERGED in remark for remark in remarks)


def _describe_core(
    core: Core, num_excluded: int, min_interactions: int, min_item_interactions: int
) -> str:
    excluded = f"{counted(core.excluded_users, 'user')} with fewer than {min_interactions}"
    if core.excluded_items:
        items = counted(core.excluded_items, "item")
        excluded += f" and {items} with fewer than {min_item_interactions}"
    verb = were(core.excluded_users + core.excluded_items)
    return f"{excluded} interactions {verb} left out, with {counted(num_excluded, 'interaction')}"
