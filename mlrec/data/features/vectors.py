"""Vectors of items by raw id, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlrec.data.features.info import MAX_ROWS, MAX_WIDTH, REMEDY, FeaturesInfo
from mlrec.data.features.join import MAX_NAMED_IDS, ItemIds, match_rows, missing_fault, quoted
from mlrec.runtime.printable import are, counted, printable

_ROUNDING_TOLERANCE = 1e-5
"""Relative difference of fp32 vectors that count as equal; results vary with the batch size."""


class Rows(NamedTuple):
    """The content of a file of vectors."""

    raw_ids_n: pa.Array | None
    """Raw id of each row, strings; None for a file without ids."""
    vectors_nX: np.ndarray
    """Vector of each row, float16 or float32 [n, width]; [n, K, width] for K vectors each."""


@dataclass(frozen=True)
class Features:
    """Vectors of items. Raw ids are unique, and vectors are finite."""

    url: str
    raw_ids_n: pa.Array
    """Raw id of each row, strings."""
    vectors_nX: np.ndarray
    """Vector of each row, float16 or float32 [n, width]; [n, K, width] for K vectors each."""
    info: FeaturesInfo | None
    """Content of features.json; None for a file without one."""
    row_order: str = ""
    """Rule that gave the rows of a file without ids their raw ids; "" for a file with ids."""
    spelling: str = ""
    """Remark about raw ids that the file spells differently from the data set; "" for none."""

    @property
    def width(self) -> int:
        """Number of values per vector."""
        return int(self.vectors_nX.shape[-1])

    @property
    def vectors_per_item(self) -> int:
        """Number of vectors per item (K)."""
        return int(self.vectors_nX.shape[1]) if self.vectors_nX.ndim == 3 else 1

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of an item's K vectors; empty for one vector."""
        if self.vectors_nX.ndim == 2:
            return ()
        if self.info is not None:
            return self.info.rows
        return tuple(f"row {row}" for row in range(self.vectors_per_item))

    def rows_of(self, items: ItemIds, may_miss: bool = False) -> np.ndarray:
        """Return each item's row, int64 [N]; -1 for an item without a vector.

        Args:
            may_miss: accept items of the data set without a vector, unless all lack one. Items that
                packing left out need none in any case.

        Raises:
            ValueError: items of the data set have no vector. It says how many and names the first.
        """
        rows_N, missing = match_rows(self.raw_ids_n, items)
        if missing.num_items and not (may_miss and (rows_N >= 0).any()):
            made_of = self.info.dataset if self.info else ""
            raise missing_fault(self.url, made_of, self.raw_ids_n, items, missing)
        return rows_N

    def remarks(self, items: ItemIds) -> tuple[str, ...]:
        """Return what users should know about the join, in sentences without a full stop."""
        rows_N, missing = match_rows(self.raw_ids_n, items)
        num_extra = len(self.raw_ids_n) - int((rows_N >= 0).sum())
        info = self.info
        remarks = []
        if self.row_order:
            remarks.append(self.row_order)
        if self.spelling:
            remarks.append(self.spelling)
        if info and info.fingerprint != items.fingerprint:
            remarks.append(
                f"{self.url} was made of another packing or data set ({printable(info.dataset)}, "
                f"fingerprint {info.fingerprint[:12]}); vectors are joined by raw ids"
            )
        if info and info.checkpoint is None:
            remarks.append(f"{self.url} was made by {printable(info.encoder)} with random weights")
        if missing.num_items:
            remarks.append(
                f"{missing.num_items:,} of {counted(items.num_packed, 'item')} have no vector in "
                f"{self.url}"
            )
        if num_extra:
            remarks.append(
                f"{num_extra:,} of {len(self.raw_ids_n):,} vectors in {self.url} belong to no item "
                "of the data set"
            )
        return tuple(remarks)


def checked(features: Features) -> Features:
    """Return the features after checking them.

    Raises:
        ValueError: there is no vector, the width or the number of ids is wrong, ids are null or not
            unique, or a vector is not finite.
    """
    fault = _shape_fault(features) or _value_fault(features)
    if fault:
        raise unusable(features.url, fault)
    return features


def unusable(url: str, reason: str) -> ValueError:
    """Return the error for features that cannot be used."""
    return ValueError(f"{url} cannot be used as features: {reason}. {REMEDY}.")


def _shape_fault(features: Features) -> str:
    """Return the fault in the number of ids and vectors or in the width, or ""."""
    vectors = features.vectors_nX
    width = features.width
    if not len(vectors) or not 1 <= width <= MAX_WIDTH:
        return f"{len(vectors)} vectors of width {width}; the width must be 1 to {MAX_WIDTH:,}"
    if not 1 <= features.vectors_per_item <= MAX_ROWS:
        return f"{features.vectors_per_item} vectors per item; at most {MAX_ROWS:,} are read"
    if len(features.raw_ids_n) != len(vectors):
        return f"{len(vectors):,} vectors for {len(features.raw_ids_n):,} raw ids"
    return ""


def _value_fault(features: Features) -> str:
    """Return the fault in the values of ids and vectors, or ""."""
    raw_ids_n = features.raw_ids_n
    if raw_ids_n.null_count:
        return f"{raw_ids_n.null_count:,} raw ids are null"
    counts = pc.value_counts(raw_ids_n)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        example = quoted(repeated.slice(0, 1).to_pylist())
        return f"{len(repeated):,} raw ids occur more than once, such as {example}"
    is_broken_n = ~are_finite(features.vectors_nX)
    if is_broken_n.any():
        num_broken = int(is_broken_n.sum())
        broken_ids = raw_ids_n.filter(pa.array(is_broken_n))
        examples = quoted(broken_ids.slice(0, MAX_NAMED_IDS).to_pylist())
        broken = f"{counted(num_broken, 'vector')} {are(num_broken)}"
        return f"{broken} not finite, such as that of {examples}"
    return ""


def are_finite(vectors_nX: np.ndarray) -> np.ndarray:
    """Return whether all values of each item are finite, bool [n]."""
    is_finite = np.isfinite(vectors_nX).reshape(len(vectors_nX), -1)
    of_items: np.ndarray = np.all(is_finite, axis=1)
    return of_items


def are_equal(vectors_nX: np.ndarray) -> bool:
    """Tell whether there are several vectors and all are equal except for rounding."""
    # Encoders differ in scale, so the tolerance is relative. `<=` makes all-zero vectors equal.
    largest = max(vectors_nX.max(), -vectors_nX.min())
    spread = (vectors_nX.max(axis=0) - vectors_nX.min(axis=0)).max()
    return len(vectors_nX) > 1 and bool(spread <= _ROUNDING_TOLERANCE * largest)
