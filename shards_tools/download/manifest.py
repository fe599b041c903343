"""download.json: what was downloaded, with the size and SHA-256 of each file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlrec import storage
from mlrec.storage.typed_json import MAX_JSON_BYTES, STRICT, parse_json, read_bounded

MANIFEST_FILE = "download.json"


@dataclass(frozen=True)
class Record:
    """A complete file."""

    __pydantic_config__ = STRICT

    url: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    mtime_ns: int
    """Modification time of the local file. While it stays, the content is not read again."""


@dataclass
class Manifest:
    """The content of download.json."""

    __pydantic_config__ = STRICT

    dataset: str
    files: dict[str, Record] = field(default_factory=dict)
    """By path relative to the folder."""


def read_manifest(folder: Path, dataset: str) -> Manifest:
    """Return the manifest of a folder, which is empty for a new one.

    Raises:
        ValueError: it is damaged, or of another data set.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return Manifest(dataset)
    remedy = "Remove it: files of the published size are kept"
    content = read_bounded(path, MAX_JSON_BYTES, remedy)
    manifest = parse_json(content, Manifest, str(path), remedy)
    if manifest.dataset != dataset:
        raise ValueError(f"{folder} holds {manifest.dataset}. Give {dataset} a folder of its own")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, complete or not at all."""
    content = json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n"
    storage.write_bytes(str(folder / MANIFEST_FILE), content.encode())
