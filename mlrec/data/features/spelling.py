"""Raw ids of features as the data set spells them: 00017 and 17.0 are its 17."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from mlrec.data.features.join import ItemIds, match_rows, quoted
from mlrec.data.features.vectors import Features, checked
from mlrec.data.raw_ids import IdMatcher
from mlrec.runtime.printable import counted


def with_usual_spelling(features: Features, items: ItemIds) -> Features:
    """Return features whose raw ids are spelled as in the data set.

    An item with a vector of exactly its own raw id keeps that one.

    Raises:
        ValueError: two vectors spell the raw id of one item.
    """
    _, missing = match_rows(features.raw_ids_n, items)
    if not missing.num_items:
        return features
    # items that packing left out own their spellings as well
    known_ids = [*items.raw_ids_N.drop_null().to_pylist(), *items.left_out.to_pylist()]
    matcher = IdMatcher(known_ids)
    raw_ids = features.raw_ids_n.to_pylist()
    exact = set(raw_ids)
    examples: list[str] = []
    num_changed = 0
    for row, own in enumerate(raw_ids):
        raw_id = matcher.match(own)
        if raw_id is None or raw_id in exact:
            continue
        raw_ids[row] = raw_id
        num_changed += 1
        examples = examples or [own, raw_id]
    if not num_changed:
        return features
    remark = (
        f"{counted(num_changed, 'raw id')} of {features.url} matched in another spelling, such as "
        f"{quoted(examples[:1])} for {quoted(examples[1:])}"
    )
    return checked(replace(features, raw_ids_n=pa.array(raw_ids, pa.string()), spelling=remark))
