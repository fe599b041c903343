"""Data sets with one fault each, and the messages that refuse them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlrec.config import DataConfig
from mlrec.data.format import DATASET_FILE
from mlrec.data.stream import open_data
from shards_tools.check.dataset import check

Info = dict[str, Any]


def edit(copy: Path, change: Callable[[Info], object]) -> None:
    content = json.loads((copy / DATASET_FILE).read_text())
    change(content)
    (copy / DATASET_FILE).write_text(json.dumps(content))


def seal(copy: Path) -> None:
    """Write the sizes and sha256 of the files as they are now into dataset.json."""

    def update(info: Info) -> None:
        for entry in info["files"]:
            raw = (copy / entry["path"]).read_bytes()
            entry |= {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}

    edit(copy, update)


def refusal(copy: Path, tmp_path: Path) -> str:
    """Return the sentence that opening for training ends in; check must name a fault as well."""
    faults = list(check(str(copy)))
    assert faults
    assert all("\n" not in fault for fault in faults)
    with pytest.raises(ValueError, match=r".") as caught:
        open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache")))
    assert "\n" not in str(caught.value)
    return str(caught.value)
