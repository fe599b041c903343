"""Data sets with one fault each: check names it, and opening refuses it in one sentence."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_dataset import Info, edit, refusal, seal

from mlrec.data.format import (
    CATALOGUE_FILE,
    item_shard,
)
from shards_tools.check.dataset import check
from shards_tools.push import push

BY_TIME = {"kind": "time", "validation_from": 10}


@pytest.fixture
def copy(dataset_dir: Path, tmp_path: Path) -> Path:
    """A data set to change."""
    return Path(shutil.copytree(dataset_dir, tmp_path / "data"))


def items(info: Info) -> Info:
    """Return the entry of the first item shard."""
    entry: Info = next(entry for entry in info["files"] if entry["path"] == item_shard(0))
    return entry


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda info: items(info).update(sha256="/etc/passwd"), "sha256 is '/etc/passwd'"),
        (lambda info: items(info).update(sha256="../" * 20 + "abcd"), "sha256 is"),
        (lambda info: items(info).update(sha256="A" * 64), "sha256 is"),
        (lambda info: items(info).update(sha256="a" * 64 + "\n"), "sha256 is"),
        (
            lambda info: items(info).update(path="items/../../x/items-00000.tar"),
            "is not the path of a file",
        ),
        (
            lambda info: items(info).update(path="/items/items-00000.tar"),
            "is not the path of a file",
        ),
        (
            lambda info: items(info).update(path="items/items-00000.tar\n"),
            "is not the path of a file",
        ),
        (
            lambda info: items(info).update(path="items/items-٠٠٠٠٠.tar"),
            "is not the path of a file",
        ),
        (
            lambda info: items(info).update(path="sequences/items-00000.tar"),
            "is not the path of a file",
        ),
        (
            lambda info: items(info).update(path="items/items-000000000000000001.tar"),
            "is not the path of a file",
        ),
        (
            lambda info: items(info).update(path="items/items-99999.tar"),
            "and not items/items-00000.tar",
        ),
        (lambda info: items(info).update(size=-1), "size is -1"),
        (lambda info: items(info).update(size=1.5), "size is 1.5"),
        (lambda info: items(info).update(size=1 << 60), "size is"),
        (lambda info: info["files"].append(items(info)), "names items/items-00000.tar 2 times"),
        (
            lambda info: info["files"].append({**items(info), "path": "../victim"}),
            "is not the path of a file",
        ),
        (lambda info: info.update(files=[]), "does not name catalogue.parquet"),
        (lambda info: info.update(files={}), "files is {}"),
        (
            lambda info: info.update(files=[e for e in info["files"] if "seq" not in e["path"]]),
            "no sequence shard",
        ),
        (lambda info: info["counts"].update(users=10**12, interactions=10**13), "do not fit"),
        (lambda info: info["counts"].update(users="many"), "counts.users is 'many'"),
        (lambda info: info["counts"].update(items=10**9), "bytes of catalogue.parquet"),
        (lambda info: info["counts"].update(items=0, failed_items=0), "counts.items is 0"),
        (
            lambda info: info["counts"].update(items_without_cover=10**6),
            "counts.items_without_cover is 1000000, but only ",
        ),
        (lambda info: info["counts"].update(interactions=1), "interactions"),
        (lambda info: info["counts"].update(train=True), "counts.train is True"),
        (lambda info: info["counts"].update(train=-1), "counts.train is -1"),
        (lambda info: info["counts"].update(test=1), "do not fit"),
        (lambda info: info["counts"].pop("users"), "counts has no users"),
        (lambda info: info["counts"].update(extra=1), "unknown entry 'extra'"),
        (lambda info: info.update(sources=["x" * 2001]), "sources.0 is 'xxx"),
        (lambda info: info.update(remarks=[""] * 1001), "remarks is ["),
        (lambda info: info.update(version=float("nan")), "version is nan"),
        (lambda info: info.update(version=99), "Update mlrec"),
        (lambda info: info.update(version=None), "version is None"),
        (lambda info: info.update(name=["x"]), "name is ['x']"),
        (lambda info: info.update(name="x" * 10**6), "name is"),
        (lambda info: info.update(fingerprint="a" * 64), "fingerprint"),
        (lambda info: info["media"].update(frames=0), "media.frames is 0"),
        (lambda info: info["media"].update(frames=10**9), "media.frames is"),
        (lambda info: info["media"].update(size=1 << 20), "media.size is"),
        (lambda info: info["media"].update(kind="exe"), "media.kind is 'exe'"),
        (lambda info: info["media"].update(policy="evil"), "unknown frame policy 'evil'"),
        (lambda info: info["media"].update(has_cover="yes"), "media.has_cover is 'yes'"),
        (lambda info: info["split"].update(keep_last=10**9), "at most 1000"),
        (lambda info: info["split"].update(min_interactions=1), "min_interactions of 4"),
        (lambda info: info["split"].update(kind="random"), "split.kind is 'random'"),
        (lambda info: info["split"].update(kind="time"), "needs validation_from and test_from"),
        (lambda info: info["split"].update(test_from=5), "belong to a split by time"),
        (lambda info: info["split"].update(**BY_TIME, test_from=5), "which is not before test"),
        (lambda info: info["split"].update(**BY_TIME, test_from=1 << 63), "test_from is"),
        (lambda info: info["split"].update(**BY_TIME, test_from="now"), "test_from is 'now'"),
        (lambda info: info.update(more=1), "more is 1"),
    ],
)
def test_dataset_json_with_a_wrong_value_is_refused(
    copy: Path, tmp_path: Path, change: Callable[[Info], object], words: str
) -> None:
    edit(copy, change)
    assert words in refusal(copy, tmp_path)


def column(
    name: str, change: Callable[[list[Any]], list[Any]], kind: pa.DataType | None = None
) -> Callable[[pa.Table], pa.Table]:
    """Return a change of one column of a table."""

    def changed(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        field = field if kind is None else pa.field(name, kind)
        return table.set_column(
            place, field, pa.array(change(table[name].to_pylist()), type=field.type)
        )

    return changed


def first(**changes: Any) -> Callable[[list[Any]], list[Any]]:
    """Return a change of the first member of the first item that has members."""

    def changed(rows: list[Any]) -> list[Any]:
        row = next(row for row in rows if row)
        row[0] |= changes
        return rows

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (column("shard", lambda values: [99] * len(values)), "are in item shard 99"),
        (column("shard", lambda values: [-2] * len(values)), "are in item shard -2"),
        (column("shard", lambda values: values[::-1]), "ascending"),
        (column("raw_id", lambda values: values[:1] * len(values)), "occurs more than once"),
        (column("raw_id", lambda values: ["", *values[1:]]), "raw id of 0 bytes"),
        (column("raw_id", lambda values: ["x" * 9999, *values[1:]]), "raw id of 9999 bytes"),
        (column("raw_id", lambda values: [None, *values[1:]]), "1 rows have no raw_id"),
        (
            column("raw_id", lambda values: list(range(len(values))), pa.int64()),
            "column raw_id is int64",
        ),
        (column("item", lambda values: values[::-1]), "item number"),
        (column("item", lambda values: [1] * len(values)), "item number 1, expected 2"),
        (column("status", lambda values: ["odd", *values[1:]]), "status 'odd'"),
        (column("status", lambda values: ["failed", *values[1:]]), "failed"),
        (
            column("title", lambda values: ["x" * (2 << 20), *values[1:]]),
            "title of 2,097,152 bytes",
        ),
        (column("popularity", lambda values: [-1, *values[1:]]), "has -1 popularity"),
        (column("popularity", lambda values: [values[0] + 1, *values[1:]]), "popularities add up"),
        (
            column("popularity", lambda values: [1e9] * len(values), pa.float64()),
            "column popularity is double",
        ),
        (column("members", first(offset=1 << 40)), "has a member at bytes"),
        (column("members", first(offset=-512)), "has a member at bytes"),
        (column("members", first(offset=(1 << 63) - 512)), "has a member at bytes"),
        (column("members", first(offset=700)), "has a member at bytes"),
        (column("members", first(size=-1)), "has a member of -1 bytes"),
        (column("members", first(size=1 << 40)), "has a member of"),
        (column("members", first(name="../x")), "a member is called '../x'"),
        (column("members", first(name="1.jpg")), "two members of one name"),
        (column("members", first(name=None)), "a member lacks"),
        (column("members", lambda rows: [[], *rows[1:]]), "has 0 members"),
        (column("members", lambda rows: [rows[0][::2], *rows[1:]]), "side by side"),
        (column("members", lambda rows: [rows[0], rows[0], *rows[2:]]), "overlap"),
        (column("members", lambda rows: [[None, *rows[0][1:]], *rows[1:]]), "a member lacks"),
        (lambda table: table.slice(1), "rows, dataset.json says"),
        (lambda table: table.drop_columns("title"), "has no column title"),
        (lambda table: table.append_column("more", table["item"]), "unknown column 'more'"),
        (lambda table: table.select(table.schema.names[::-1]), "its columns are"),
    ],
)
def test_catalogue_with_a_wrong_row_is_refused(
    copy: Path, tmp_path: Path, change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    pq.write_table(change(pq.read_table(copy / CATALOGUE_FILE)), copy / CATALOGUE_FILE)
    seal(copy)
    assert words in refusal(copy, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a table\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_catalogue_that_is_no_table_is_refused(copy: Path, tmp_path: Path, content: bytes) -> None:
    (copy / CATALOGUE_FILE).write_bytes(content.ljust(100))
    seal(copy)
    assert "is not a catalogue" in refusal(copy, tmp_path)


def test_catalogue_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(
    copy: Path, tmp_path: Path
) -> None:
    table = pq.read_table(copy / CATALOGUE_FILE)
    titles = pa.array(["x" * (8 << 20)] * table.num_rows)
    place = table.schema.get_field_index("title")
    bomb = table.set_column(place, "title", titles)
    pq.write_table(bomb, copy / CATALOGUE_FILE, compression="zstd", use_dictionary=False)
    assert (copy / CATALOGUE_FILE).stat().st_size < 1 << 20
    seal(copy)
    assert "it unpacks to" in refusal(copy, tmp_path)


def test_catalogue_whose_one_long_title_occurs_in_every_row_is_refused_before_it_is_unpacked(
    copy: Path, tmp_path: Path
) -> None:
    table = pq.read_table(copy / CATALOGUE_FILE)
    titles = pa.DictionaryArray.from_arrays(
        pa.array([0] * table.num_rows, pa.int32()), pa.array(["x" * (32 << 20)])
    )
    bomb = table.set_column(table.schema.get_field_index("title"), "title", titles)
    pq.write_table(
        bomb,
        copy / CATALOGUE_FILE,
        compression="zstd",
        dictionary_pagesize_limit=1 << 30,
        store_schema=False,
    )
    assert (copy / CATALOGUE_FILE).stat().st_size < 1 << 17
    seal(copy)
    assert "column title unpacks to" in refusal(copy, tmp_path)


def test_catalogue_with_a_million_members_of_an_item_is_refused_before_it_is_unpacked(
    copy: Path, tmp_path: Path
) -> None:
    table = pq.read_table(copy / CATALOGUE_FILE)
    member = table["members"][0][0].as_py()
    many = [[member] * 200_000, *table["members"].to_pylist()[1:]]
    place = table.schema.get_field_index("members")
    pq.write_table(
        table.set_column(place, "members", pa.array(many, table.schema.field(place).type)),
        copy / CATALOGUE_FILE,
    )
    seal(copy)
    assert "values of members.list.element" in refusal(copy, tmp_path)


@pytest.mark.parametrize(
    "path",
    ["dataset.json", "catalogue.parquet", "items/items-00000.tar", "sequences/sequences-00000.tar"],
)
def test_pipe_in_the_place_of_a_file_is_named(path: str, copy: Path) -> None:
    (copy / path).unlink()
    os.mkfifo(copy / path)
    with pytest.raises(OSError, match=rf"{path} is a pipe or a device"):
        raise OSError("\n".join(check(str(copy))))


def test_push_of_a_data_set_that_names_files_outside_writes_nothing(
    copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    entry = {"path": "../secret", "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    edit(copy, lambda info: info["files"].append(entry))
    with pytest.raises(ValueError, match="is not the path of a file"):
        list(push(str(copy), str(tmp_path / "place" / "target")))
    assert not (tmp_path / "place").exists()
