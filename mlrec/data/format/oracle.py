"""oracle.json: metrics of the generating model on its synthetic data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field

from mlrec import storage
from mlrec.data.format.dataset_info import DATASET_FILE, ORACLE_FILE, REMEDY, DatasetInfo
from mlrec.storage.typed_json import MAX_JSON_BYTES, parse_json

Value = Annotated[float, Field(ge=0, le=1e15)]


@dataclass(frozen=True)
class _Oracle:
    """The part of oracle.json that rankings are compared with."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    test: dict[str, dict[str, dict[str, Value]]]


def read_oracle(url: str, info: DatasetInfo, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the oracle's metrics on the test split, by group of users ("all", "cold", ...).

    Args:
        metrics: names that each group must have, in addition to "users".

    Raises:
        ValueError: the file is not the one that dataset.json names, or lacks a group or a metric.
    """
    where = storage.join(url, ORACLE_FILE)
    file = info.file(ORACLE_FILE)
    if file.size > MAX_JSON_BYTES:
        raise ValueError(
            f"{where} is {file.size:,} bytes long, at most {MAX_JSON_BYTES:,} are read. {REMEDY}."
        )
    raw = storage.read_bytes(where, file.size)
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise ValueError(f"{where} does not have the sha256 that {DATASET_FILE} names. {REMEDY}.")
    groups = parse_json(raw, _Oracle, where, REMEDY).test.get("oracle", {})
    if "all" not in groups:
        raise ValueError(f"{where} has no metrics of the oracle for all users. {REMEDY}.")
    for group, values in groups.items():
        if absent := [name for name in ("users", *metrics) if name not in values]:
            raise ValueError(
                f"{where}: the oracle has no {absent[0]} for {group[:40]!r}. {REMEDY}."
            )
    return groups
