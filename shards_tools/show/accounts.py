"""What became of the raw data: packed, or left out and why, in groups of counts and shares.

The counts are those that make wrote to dataset.json.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlrec.data.format import SPLITS, Catalogue, DatasetInfo, Split, SplitInfo
from mlrec.data.sequences import SequenceTable
from mlrec.runtime.printable import are, counted
from shards_tools.raw.pairs.cleaning import were_repeats_merged


@dataclass(frozen=True)
class Line:
    """A part of a group with one fate."""

    name: str
    count: int
    reason: str = ""
    """Why it was left out, or what replaces it; "" for what was packed."""


@dataclass(frozen=True)
class Account:
    """A group of raw data. Its lines add up to `total`."""

    name: str
    noun: str
    """What is counted, in the singular."""
    lines: tuple[Line, ...]
    """What was packed, then what was left out. Only the first may be empty."""

    @property
    def total(self) -> int:
        """Number of all of them, packed or not."""
        return sum(line.count for line in self.lines)

    @property
    def heading(self) -> str:
        """Name and size of the group."""
        return f"{self.name}: {counted(self.total, self.noun)}"

    def share(self, line: Line) -> str:
        """Return a line's part of the total, as a percentage."""
        return percentage(line.count, self.total)


def percentage(count: int, total: int) -> str:
    """Return a share with one decimal. Only all are 100 % and only none are 0 %."""
    if not count or count == total:
        return "100 %" if count else "0 %"
    percent = 100 * count / total
    if percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if percent > 99.9 else f"{percent:.1f} %"


def accounts(info: DatasetInfo, catalogue: Catalogue) -> list[Account]:
    """Return what became of interactions, users, items, covers, audio, titles and features."""
    groups = [_interactions(info), _users(info), _items(info)]
    # a part that no item has is no loss, and the overview says that it is absent
    if info.media.has_cover:
        groups.append(_part(info, "cover", "Covers", "failed_covers", "a black image"))
    if info.media.has_audio:
        groups.append(_part(info, "audio", "Audio", "failed_audio", "silence"))
    groups.append(_titles(info))
    for name in info.media.features:
        groups.append(_features(info, catalogue, name))
    return groups


def _account(name: str, noun: str, packed: Line, *left_out: Line) -> Account:
    """Return a group without what did not occur."""
    return Account(name, noun, (packed, *(line for line in left_out if line.count)))


def _interactions(info: DatasetInfo) -> Account:
    counts = info.counts
    too_few = f"their user has fewer than {info.split.min_interactions} interactions"
    if counts.get("excluded_items", 0):
        too_few += ", or their item too few"
    # without merging, repeats are among the packed
    num_merged = counts.get("repeated_interactions", 0) if were_repeats_merged(info.remarks) else 0
    return _account(
        "Interactions",
        "row",
        Line("packed", counts["interactions"]),
        Line("too few interactions", counts.get("excluded_interactions", 0), too_few),
        Line(
            "failed items",
            counts.get("lost_interactions", 0),
            f"their item failed, or left their user with fewer than {info.split.min_interactions}",
        ),
        Line("merged repeats", num_merged, "the user has the item more than once"),
        Line(
            "equal rows",
            counts.get("duplicate_rows", 0),
            "user, item and time are those of another row",
        ),
        Line("unreadable rows", counts.get("dropped_rows", 0), "they do not hold an interaction"),
    )


def _users(info: DatasetInfo) -> Account:
    counts = info.counts
    fewer = f"fewer than {info.split.min_interactions}"
    return _account(
        "Users",
        "user",
        Line("packed", counts["users"]),
        Line("too few interactions", counts.get("excluded_users", 0), f"they have {fewer}"),
        Line("failed items", counts.get("lost_users", 0), f"without them {fewer} are left"),
    )


def _items(info: DatasetInfo) -> Account:
    counts = info.counts
    return _account(
        "Items",
        "item",
        Line("packed", num_packed(info)),
        Line("failed", counts["failed_items"], "their video could not be packed"),
        Line(
            "too few interactions",
            counts.get("excluded_items", 0),
            "fewer than --min-item-interactions",
        ),
    )


def _part(info: DatasetInfo, noun: str, name: str, failed_count: str, replacement: str) -> Account:
    counts = info.counts
    num_failed = counts.get(failed_count, 0)
    num_lacking = counts.get(f"items_without_{noun}", 0)
    return _account(
        name,
        "packed item",
        Line("packed", max(num_packed(info) - num_failed - num_lacking, 0)),
        Line("no file", num_lacking, f"replaced by {replacement}"),
        Line("failed", num_failed, f"replaced by {replacement}"),
    )


def _titles(info: DatasetInfo) -> Account:
    num_untitled = info.counts.get("items_without_title", 0)
    return _account(
        "Titles",
        "packed item",
        Line("packed", num_packed(info) - num_untitled),
        Line("no title", num_untitled, "left empty"),
    )


def _features(info: DatasetInfo, catalogue: Catalogue, name: str) -> Account:
    num_items = catalogue.items_with(f"{name}.npy")
    return _account(
        f"Features {name}",
        "packed item",
        Line("packed", num_items),
        Line("no vector", num_packed(info) - num_items, "encoders read zeros with missing: zeros"),
    )


def num_packed(info: DatasetInfo) -> int:
    """Return the number of items that were packed."""
    return info.counts["items"] - info.counts["failed_items"]


def split_account(info: DatasetInfo, catalogue: Catalogue, table: SequenceTable) -> Account:
    """Return the packed interactions by what they are used for."""
    counts = info.counts
    split = info.split
    users = counted(table.num_train_users, "user")
    lines = [Line("training", counts["train"], f"of {users}, at most {split.train_length} each")]
    for name in SPLITS:
        targets = table.target(table.evaluated_users(name), name)
        num_cold = int((catalogue.popularity_N1[targets] == 0).sum())
        reason = _target_in_words(split, name)
        if num_cold:
            reason += f"; {num_cold:,} {are(num_cold)} cold"
        lines.append(Line(f"{name} targets", counts[name], reason))
    num_used = counts["train"] + sum(counts[name] for name in SPLITS)
    older = f"older than the last {split.train_length} training interactions of their user"
    if split.kind == "time":
        older += ", or after a cut-off and no target"
    lines.append(Line("not used", counts["interactions"] - num_used, older))
    return _account("Packed interactions", "interaction", *lines)


def _target_in_words(split: SplitInfo, name: Split) -> str:
    if split.kind == "leave_one_out":
        return "the last of each user" if name == "test" else "the last but one of each user"
    return f"the last of a user in the {name} period, if others are before it"
