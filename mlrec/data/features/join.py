"""Join features with the items of a data set by raw id, the identity that all packings share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.runtime.printable import printable

# stored.py reads data sets, whose format states the bounds of features in info.py
if TYPE_CHECKING:
    from mlrec.data.features.stored import StoredFeatures

MAX_NAMED_IDS = 3
"""Largest number of raw ids that a message names."""


@dataclass(frozen=True)
class ItemIds:
    """The items of an opened data set as features know them."""

    raw_ids_N: pa.Array
    """Strings, in the order of the items 1 ... N; null for an item that packing left out."""
    dataset: str
    """Name of the data set."""
    fingerprint: str
    """SHA-256 of its dataset.json."""
    left_out: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    """Raw ids of the items that packing left out, strings."""
    features: Mapping[str, StoredFeatures] = field(default_factory=dict)
    """Features in the samples of the data set, by name."""

    @property
    def num_packed(self) -> int:
        """Number of items that training and ranking use."""
        return int(len(self.raw_ids_N) - self.raw_ids_N.null_count)


def quoted(raw_ids: list[str]) -> str:
    """Return raw ids as a message shows them."""
    return ", ".join(repr(printable(raw_id, 40)) for raw_id in raw_ids)


class MissingVectors(NamedTuple):
    """Items of a data set that features have no vector for."""

    num_items: int
    first_raw_ids: list[str]
    """Raw ids of the first of them, at most MAX_NAMED_IDS."""


def match_rows(raw_ids_n: pa.Array, items: ItemIds) -> tuple[np.ndarray, MissingVectors]:
    """Return the row of each item, int64 [N], -1 for none, and the packed items without a row."""
    # skip_nulls, because index_in would otherwise look up a null like any other value.
    rows_N = pc.index_in(items.raw_ids_N, value_set=raw_ids_n, skip_nulls=True)
    # An item that packing left out has a null raw id and needs no vector.
    is_missing_N = pc.and_(pc.is_null(rows_N), pc.is_valid(items.raw_ids_N))
    first_ids = items.raw_ids_N.filter(is_missing_N).slice(0, MAX_NAMED_IDS).to_pylist()
    missing = MissingVectors(pc.sum(is_missing_N).as_py() or 0, first_ids)
    # Nulls are filled first, because to_numpy turns integers with nulls into floats.
    return rows_N.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), missing


def missing_fault(
    where: str, made_of: str, raw_ids_n: pa.Array, items: ItemIds, missing: MissingVectors
) -> ValueError:
    """Return the error for items without a vector.

    Args:
        made_of: name of the data set that the features were made of; "" if unknown.
    """
    names = quoted(missing.first_raw_ids)
    if missing.num_items > MAX_NAMED_IDS:
        names += ", ..."
    example = quoted(raw_ids_n.slice(0, 1).to_pylist())
    source = f", made of {printable(made_of)}," if made_of else ""
    remedy = "Give features of this data set"
    if missing.num_items < items.num_packed:
        remedy += (
            ", or set missing: zeros in the encoder's options if only a few are missing. Items "
            "that mlrec extract could not read are in its failures.jsonl; repair those in the data "
            "set first"
        )
    return ValueError(
        f"{where}{source} has no vector for {missing.num_items:,} of {items.num_packed:,} items of "
        f"{printable(items.dataset)} (raw ids {names}); its own raw ids look like {example}. "
        f"{remedy}"
    )
