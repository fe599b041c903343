"""Features as a Parquet file that another program wrote: faults are named in one sentence."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlrec.data.features.files import read_features

ROWS = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
GOOD = np.array(ROWS, np.float32)


def table(raw_ids: Any = ("1", "2", "3"), vectors: Any = None, **columns: Any) -> pa.Table:
    return pa.table(
        {"raw_id": raw_ids, "vector": pa.array(ROWS) if vectors is None else vectors, **columns}
    )


BAD_TABLES: dict[str, tuple[pa.Table, str]] = {
    "old_columns": (
        pa.table({"item": [1], "vector": [[1.0]]}),
        "its columns are 'item', 'vector', not raw_id and vector",
    ),
    "fractional": (
        table(raw_ids=[1.0, 2.5, 3.0]),
        "raw_id is a column of double; write raw ids as text or whole numbers",
    ),
    "times": (
        table(raw_ids=pa.array([1, 2, 3], pa.timestamp("s"))),
        "raw_id is a column of timestamp",
    ),
    "null_id": (table(raw_ids=["1", None, "3"]), "1 raw ids are null"),
    "twice": (table(raw_ids=["1", "2", "2"]), "1 raw ids occur more than once"),
    "ragged": (
        table(vectors=[[1.0], [1.0, 2.0], [3.0]]),
        "vectors have several widths, such as 1 and 2",
    ),
    "null_vector": (table(vectors=pa.array([[1.0], None, [2.0]])), "1 vector is null"),
    "null_number": (
        table(vectors=pa.array([[1.0], [None], [2.0]])),
        "1 numbers of the vectors are null",
    ),
    "text": (table(vectors=[["a"], ["b"], ["c"]]), "vector is a column of list"),
    "integers": (
        table(vectors=[[1], [2], [3]]),
        "the vector column vector holds whole numbers; floating-point numbers are needed",
    ),
    "integers_of_another_name": (
        pa.table({"raw_id": ["1"], "v": [[1, 2]]}),
        "the vector column v holds whole numbers; floating-point numbers are needed",
    ),
    "bytes": (table(raw_ids=[b"1", b"2", b"3"]), "raw_id is a column of binary; write raw ids"),
    "two_ids": (
        table(item_id=[1, 3, 3]),
        "its columns raw_id and item_id differ, such as '2', '3'; keep the one with",
    ),
    "plain": (table(vectors=[1.0, 2.0, 3.0]), "vector is a column of double"),
    "no_width": (
        table(vectors=pa.array([[], [], []], pa.list_(pa.float32()))),
        "3 vectors of width 0",
    ),
    "no_rows": (
        table(raw_ids=pa.array([], pa.string()), vectors=pa.array([], pa.list_(pa.float32()))),
        "0 vectors of width 0",
    ),
    "too_large": (
        table(vectors=pa.array([[1e300], [1.0], [2.0]])),
        "1 vector is not finite, such as that of '1'",
    ),
    "zeros_for_all": (
        table(
            raw_ids=[""] * 400_000, vectors=pa.array([[0.0] * 64] * 400_000, pa.list_(pa.float32()))
        ),
        "it claims 26,000,000 values in",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_parquet_that_cannot_be_used_is_named_with_its_fault(case: str, tmp_path: Path) -> None:
    content, words = BAD_TABLES[case]
    path = tmp_path / "mine.parquet"
    pq.write_table(content, path)
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(path))} cannot be used as features: .*{words}"
    ) as error:
        read_features(str(path))
    assert "mlrec extract" in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).count(str(path)) == str(error.value).count("Write features") == 1


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize(
    "vector", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 2)]
)
def test_parquet_takes_whole_numbers_and_every_list_of_floats(
    kind: pa.DataType, vector: pa.DataType, tmp_path: Path
) -> None:
    raw_ids = (
        pa.array([1, 2, 3], kind)
        if pa.types.is_integer(kind)
        else pa.array(["1", "2", "3"]).cast(kind)
    )
    rows = (
        [[np.float16(value) for value in row] for row in ROWS]
        if vector.value_type == pa.float16()
        else ROWS
    )
    pq.write_table(
        table(raw_ids=raw_ids, vectors=pa.array(rows, vector), more=[1, 2, 3]),
        tmp_path / "mine.parquet",
    )
    features = read_features(f"{tmp_path}/mine.parquet")
    assert features.raw_ids_n.to_pylist() == ["1", "2", "3"]
    assert np.array_equal(features.vectors_nX, GOOD)
    half = vector.value_type == pa.float16()
    assert features.vectors_nX.dtype == (np.float16 if half else np.float32)


def test_parquet_that_is_missing_or_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no features at"):
        read_features(f"{tmp_path}/none.parquet")
    pq.write_table(table(item_id=[1, 2, 3]), tmp_path / "both.parquet")
    assert read_features(f"{tmp_path}/both.parquet").raw_ids_n.to_pylist() == ["1", "2", "3"]
    (tmp_path / "mine.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(ValueError, match="cannot be used as features"):
        read_features(f"{tmp_path}/mine.parquet")


def test_features_whose_one_long_id_occurs_in_every_row_are_refused_before_it_is_unpacked(
    tmp_path: Path,
) -> None:
    ids = pa.DictionaryArray.from_arrays(
        pa.array([0] * 300, pa.int32()), pa.array(["x" * (4 << 20)])
    )
    table = pa.table({"raw_id": ids, "vector": pa.array([[1.0]] * 300)})
    options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    pq.write_table(table, tmp_path / "bomb.parquet", **options)
    with pytest.raises(ValueError, match="its raw ids take 1,258,291,200 bytes"):
        read_features(str(tmp_path / "bomb.parquet"))
