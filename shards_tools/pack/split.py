"""The split of a data set that is yet to be packed."""

from __future__ import annotations

from mlrec.data.format import ORACLE_FILE, SplitInfo
from mlrec.data.format.splits import TimeUnit, time_in_words
from shards_tools.pack.settings import Settings
from shards_tools.raw.cut_offs import (
    TRAIN_AND_VALIDATION_SHARE,
    TRAIN_SHARE,
    check_split,
    find_cut_offs,
    time_range,
)
from shards_tools.raw.folder import RawFolder
from shards_tools.raw.split import Sequences


def split_of(
    sequences: Sequences, time_unit: TimeUnit, settings: Settings, where: str
) -> SplitInfo:
    """Return the split, with the cut-offs of a split by time.

    Raises:
        ValueError: the sequences cannot be split like this.
    """
    cut_offs = None
    if settings.split == "time":
        cut_offs = find_cut_offs(
            sequences, time_unit, settings.validation_from, settings.test_from, where
        )
    try:
        split = settings.split_info(cut_offs)
    except ValueError as error:
        assert cut_offs is not None
        raise ValueError(
            f"Cannot split {where} by time: {error}. {time_range(sequences, cut_offs.unit)}. "
            "Choose other cut-offs with --validation-from and --test-from"
        ) from error
    check_split(sequences, split, where)
    return split


def split_remarks(raw: RawFolder, settings: Settings, split: SplitInfo) -> list[str]:
    """Return what a split by time chooses and leaves out."""
    if split.kind == "leave_one_out":
        return []
    remarks = []
    if not settings.validation_from:
        remarks.append(_chosen("validation", split.validation_from, split, TRAIN_SHARE))
    if not settings.test_from:
        remarks.append(_chosen("test", split.test_from, split, TRAIN_AND_VALIDATION_SHARE))
    if raw.oracle is not None:
        remarks.append(f"{ORACLE_FILE} is left out: its metrics are those of leave-one-out")
    return remarks


def _chosen(name: str, time: int | None, split: SplitInfo, share: float) -> str:
    assert time is not None
    return (
        f"{name} begins at {time_in_words(time, split.time_unit)}, after {100 * share:.0f} % of "
        f"the interactions, because --{name}-from is not set"
    )
