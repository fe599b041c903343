"""The interactions of a data set: read, cleaned, and with what is said about them."""

from __future__ import annotations

from dataclasses import replace

from mlrec.data.format import SplitInfo
from shards_tools.pack.settings import Settings
from shards_tools.raw.folder import RawFolder
from shards_tools.raw.pairs.cleaning import clean
from shards_tools.raw.pairs.interactions import Interactions, number_items
from shards_tools.raw.pairs.repeats import count_repeated_targets


def read_interactions(raw: RawFolder, settings: Settings) -> Interactions:
    """Return the interactions that are packed, with items numbered from 0 by raw id.

    Raises:
        ValueError: the file with the interactions is malformed, or no user has enough.
    """
    cleaned = clean(
        raw.read_pairs(raw.pairs),
        settings.repeats,
        settings.min_interactions,
        settings.min_item_interactions,
    )
    # an empty data set would only fail later, in training
    if not len(cleaned.sequences.users):
        minimum = f"no user has {settings.min_interactions} interactions"
        remedy = "Lower --min-interactions"
        if settings.min_item_interactions > 1:
            minimum += f" with items that have {settings.min_item_interactions}"
            remedy += " or --min-item-interactions"
        # the last remark is on users with too few interactions, which are all
        reasons = [f"{remark}. " for remark in cleaned.remarks[:-1]]
        raise ValueError(f"{raw.pairs}: {minimum}. {''.join(reasons)}{remedy}")
    # last: an item that only users with too few interactions watched gets no catalogue id
    return number_items(cleaned)


def with_repeated_targets(interactions: Interactions, split: SplitInfo) -> Interactions:
    """Return the interactions with a count, and a remark, of the targets that repeat a history."""
    num_repeated = count_repeated_targets(interactions.sequences, split)
    counts = {**interactions.counts, "repeated_targets": num_repeated}
    remarks = list(interactions.remarks)
    if num_repeated:
        remarks.append(
            f"{num_repeated:,} of the validation and test targets repeat an item of their history, "
            "so that they are easy to find"
        )
    return replace(interactions, counts=counts, remarks=remarks)
