"""Update checksums after a change of a file, as its publisher would."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

GUARDS = (".json", ".sha256", ".yaml")
"""Endings of files that may hold checksums of other files."""
_MAX_PASSES = 6
"""A chain of checksums: member, catalogue, dataset.json, checkpoint."""


def seal(root: Path, changed: str, before: bytes) -> bool:
    """Update every checksum below `root` of the file `changed`; return whether one matched."""
    if changed.endswith(".tar"):
        _seal_members(root, root / changed, root)
    sealed = changed.endswith(".tar")
    if Path(changed).name == "state.json":
        (root / changed).write_bytes(_signed((root / changed).read_bytes()))
        sealed = True
    pending = [(before, (root / changed).read_bytes())]
    for _ in range(_MAX_PASSES):
        if not pending:
            break
        old, new = pending.pop()
        for guard in [path for path in root.rglob("*") if path.suffix in GUARDS and path.is_file()]:
            content = guard.read_bytes()
            updated = _updated(content, old, new)
            updated = _signed(updated) if updated != content else content
            if updated != content:
                guard.write_bytes(updated)
                pending.append((content, updated))
                sealed = True
    return sealed


def _updated(content: bytes, old: bytes, new: bytes) -> bytes:
    """A guard with the digests and sizes of the new content in place of the old one's."""
    digests = (hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
    if digests[0].encode() not in content:
        return content
    content = content.replace(digests[0].encode(), digests[1].encode())
    try:
        tree = json.loads(content)
    except ValueError:
        return content
    if not _set_sizes(tree, digests[1], len(old), len(new)):
        return content
    indent = 1 if b"\n " in content else None
    sort_keys = (
        content.find(b'"counts"') < content.find(b'"files"')
        and b'"sha256"' in content
        and b'"media"' in content
    )
    return (
        json.dumps(tree, indent=indent, sort_keys=sort_keys) + "\n" * content.endswith(b"\n")
    ).encode()


def _signed(content: bytes) -> bytes:
    """Return a document with the correct digest of its own other fields, if it holds one."""
    try:
        tree = json.loads(content)
        if not isinstance(tree, dict) or "parts" not in tree or "sha256" not in tree:
            return content
        unsigned = json.dumps({**tree, "sha256": ""}, sort_keys=True)
    except (ValueError, RecursionError):
        return content
    return (
        json.dumps(
            {**tree, "sha256": hashlib.sha256(unsigned.encode()).hexdigest()}, indent=1
        ).encode()
        + b"\n"
    )


def _set_sizes(tree: Any, digest: str, old: int, new: int) -> bool:
    """Set the sizes that stand beside the digest."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    updated = sum(_set_sizes(child, digest, old, new) for child in children) > 0  # all of them
    if isinstance(tree, dict) and digest in [
        value for value in tree.values() if isinstance(value, str)
    ]:
        for key, value in tree.items():
            if value == old and not isinstance(value, bool):
                tree[key], updated = new, True
    return updated


def _seal_members(root: Path, shard: Path, folder: Path) -> None:
    """Write where the members of a changed item shard lie, and their crc32, into its catalogue."""
    catalogue = shard.parents[1] / "catalogue.parquet"
    if shard.parent.name != "items" or not catalogue.exists():
        return
    content = shard.read_bytes()
    try:
        with tarfile.open(shard) as tar:
            # reads by size, for a header may state terabytes
            entries = [
                (entry.name, entry.offset_data, content[entry.offset_data :][: entry.size])
                for entry in tar
            ]
    except (tarfile.TarError, OSError, ValueError):
        return
    members_by_key: dict[str, list[dict[str, Any]]] = {}
    for name, offset, data in entries:
        key, _, member = name.partition(".")
        members_by_key.setdefault(key, []).append(
            {"name": member, "offset": offset, "size": len(data), "crc32": zlib.crc32(data)}
        )
    table = pq.read_table(catalogue)
    number = int(shard.stem.rpartition("-")[2])
    rows = zip(
        table["item"].to_pylist(),
        table["shard"].to_pylist(),
        table["members"].to_pylist(),
        strict=True,
    )
    members = [
        members_by_key.get(f"{item:09d}", []) if of == number else old for item, of, old in rows
    ]
    before = catalogue.read_bytes()
    place = table.schema.get_field_index("members")
    field = table.schema.field(place)
    sink = io.BytesIO()
    pq.write_table(
        table.set_column(place, field, pa.array(members, type=field.type)), sink, compression="zstd"
    )
    catalogue.write_bytes(sink.getvalue())
    seal(root, str(catalogue.relative_to(root)), before)
