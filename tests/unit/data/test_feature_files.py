"""Features on storage: faults are named in one sentence, before anything is computed."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from features import FINGERPRINT, item_ids, save_features

from mlrec.data.features.files import read_features, vectors_of_items
from mlrec.data.features.info import INFO_FILE, RAW_IDS_FILE, VECTORS_FILE
from mlrec.data.features.vectors import are_equal
from mlrec.storage.npy import npy_bytes

ROWS = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_features_round_trip(tmp_path: Path) -> None:
    vectors = save_features(tmp_path, ["b", "a", "c"])
    for url in (str(tmp_path), f"{tmp_path}/features.parquet"):
        features = read_features(url)
        assert features.raw_ids_n.to_pylist() == ["b", "a", "c"]
        assert np.array_equal(features.vectors_nX, vectors)
    info = read_features(str(tmp_path)).info
    assert info is not None
    assert (info.dataset, info.fingerprint, info.encoder, info.count, info.width) == (
        "tiny",
        FINGERPRINT,
        "video/tiny",
        3,
        4,
    )


def test_features_with_several_vectors_per_item_round_trip_in_float16(tmp_path: Path) -> None:
    vectors = save_features(tmp_path, ["b", "a", "c"], rows=("stage 0", "stage 1"))
    for url in (str(tmp_path), f"{tmp_path}/features.parquet"):
        features = read_features(url)
        assert features.vectors_nX.dtype == np.float16
        assert np.array_equal(features.vectors_nX, vectors)
        assert (features.vectors_per_item, features.width) == (2, 4)
    info = read_features(str(tmp_path)).info
    assert info is not None
    assert (info.rows, info.dtype, info.shape) == (("stage 0", "stage 1"), "float16", (3, 2, 4))


def test_features_of_one_float32_vector_have_the_info_of_earlier_versions(tmp_path: Path) -> None:
    save_features(tmp_path, ["b", "a"])
    keys = json.loads((tmp_path / INFO_FILE).read_text()).keys()
    assert keys == {
        "dataset",
        "fingerprint",
        "encoder",
        "checkpoint",
        "count",
        "width",
        "sha256",
    }


def test_features_made_with_random_weights_say_so(tmp_path: Path) -> None:
    for name, checkpoint in (("random", None), ("pretrained", "s3://weights/tiny")):
        save_features(tmp_path / name, ["b", "a"], checkpoint=checkpoint)
        remarks = read_features(f"{tmp_path}/{name}").remarks(item_ids(["a", "b"]))
        assert [remark.partition("was made by ")[2] for remark in remarks] == [
            "video/tiny with random weights"
        ] * (not checkpoint)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        (np.ones((3, 2)), True),
        (np.zeros((3, 2)), True),
        (np.eye(3), False),
        (np.ones((1, 2)), False),
        (-np.ones((2, 2)), True),
    ],
)
def test_are_equal_compares_items(vectors: np.ndarray, expected: bool) -> None:
    assert are_equal(vectors.astype(np.float32)) == expected


def test_rows_are_joined_by_raw_id_whatever_the_numbering(tmp_path: Path) -> None:
    vectors = save_features(tmp_path, ["b", "a", "c", "x"])
    features = read_features(str(tmp_path))
    assert features.rows_of(item_ids(["a", None, "b", "c"])).tolist() == [1, -1, 0, 2]
    assert features.rows_of(item_ids(["c", "b", "a"])).tolist() == [2, 0, 1]
    for packing in (["a", "b", "c"], ["c", "a", "b"]):
        assert np.array_equal(vectors_of_items(str(tmp_path), item_ids(packing)), vectors[:3]), (
            "in the file's order"
        )


def test_missing_items_are_counted(tmp_path: Path) -> None:
    save_features(tmp_path, ["b", "a"])
    items = item_ids(["a", *"defg", None])
    with pytest.raises(
        ValueError,
        match=r"made of tiny, has no vector for 4 of 5 items of tiny "
        r"\(raw ids 'd', 'e', 'f', \.\.\.\); its own .* like 'b'",
    ):
        read_features(str(tmp_path)).rows_of(items)


def write_parts(folder: Path, vectors: bytes, raw_ids: object, **info: object) -> None:
    """A folder whose checksums fit, whatever its content."""
    contents = {VECTORS_FILE: vectors, RAW_IDS_FILE: json.dumps(raw_ids).encode()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    facts: dict[str, object] = {
        "dataset": "tiny",
        "fingerprint": FINGERPRINT,
        "encoder": "video/tiny",
        "checkpoint": None,
    }
    facts |= {"count": 3, "width": 2}
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    (folder / INFO_FILE).write_text(json.dumps({**facts, "sha256": digests, **info}))


GOOD = np.array(ROWS, np.float32)
BAD_FOLDERS: dict[str, tuple[bytes, Any, dict[str, Any], str]] = {
    "nan": (
        npy_bytes(np.where(GOOD == 3, np.nan, GOOD)),
        ["1", "2", "3"],
        {},
        "1 vector is not finite, such as that of '2'",
    ),
    "infinite": (
        npy_bytes(np.where(GOOD > 1, np.inf, GOOD)),
        ["1", "2", "3"],
        {},
        "2 vectors are not finite",
    ),
    "twice": (npy_bytes(GOOD), ["1", "2", "1"], {}, "1 raw ids occur more than once, such as '1'"),
    "few_ids": (npy_bytes(GOOD), ["1", "2"], {}, "3 vectors for 2 raw ids"),
    "null_id": (npy_bytes(GOOD), ["1", None, "3"], {}, "raw_ids.json is invalid: 1 is None"),
    "fractional_id": (npy_bytes(GOOD), ["1", 1.5, "3"], {}, r"raw_ids.json is invalid: 1 is 1\.5"),
    "ids_of_a_map": (npy_bytes(GOOD), {"1": 1}, {}, "raw_ids.json is invalid"),
    "float64": (
        npy_bytes(GOOD.astype(np.float64)),
        ["1", "2", "3"],
        {},
        "npy file of float64, expected float32",
    ),
    "integers": (
        npy_bytes(GOOD.astype(np.int64)),
        ["1", "2", "3"],
        {},
        "npy file of int64, expected float32",
    ),
    "flat": (npy_bytes(GOOD[0]), ["1", "2"], {}, "expected 2 dimension"),
    "no_width": (npy_bytes(GOOD[:, :0]), ["1", "2", "3"], {"width": 0}, "width"),
    "no_items": (npy_bytes(GOOD[:0]), [], {"count": 0}, "count"),
    "other_shape": (
        npy_bytes(GOOD[:2]),
        ["1", "2"],
        {},
        r"says 3 x 2, but features\.npy is \[2, 2\]",
    ),
    "other_rows": (
        npy_bytes(GOOD[:, None].astype(np.float16)),
        ["1", "2", "3"],
        {"rows": ["stage 0", "stage 1"], "dtype": "float16"},
        r"says 3 x 2 x 2, but features\.npy is \[3, 1, 2\]",
    ),
    "other_type": (npy_bytes(GOOD), ["1", "2", "3"], {"dtype": "float16"}, "expected float16"),
    "unknown_type": (npy_bytes(GOOD), ["1", "2", "3"], {"dtype": "int8"}, "dtype is 'int8'"),
    "huge_header": (
        npy_bytes(GOOD).replace(b"(3, 2)", b"(9, 9)"),
        ["1", "2", "3"],
        {},
        r"shape \[9, 9\] and 24 bytes",
    ),
    "no_npy": (b"text", ["1", "2", "3"], {}, "not an .npy file"),
    "fingerprint": (npy_bytes(GOOD), ["1", "2", "3"], {"fingerprint": "../x"}, "fingerprint"),
    "unknown_key": (npy_bytes(GOOD), ["1", "2", "3"], {"more": 1}, "more"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_folder_that_cannot_be_used_is_named_with_its_fault(case: str, tmp_path: Path) -> None:
    vectors, raw_ids, info, words = BAD_FOLDERS[case]
    write_parts(tmp_path, vectors, raw_ids, **info)
    with pytest.raises(ValueError, match=words) as error:
        read_features(str(tmp_path))
    assert (
        str(tmp_path) in str(error.value)
        and "mlrec extract" in str(error.value)
        and "\n" not in str(error.value)
    )


def test_folder_with_a_changed_file_is_refused(tmp_path: Path) -> None:
    save_features(tmp_path, ["1", "2", "3"])
    whole = (tmp_path / VECTORS_FILE).read_bytes()
    (tmp_path / VECTORS_FILE).write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(
        ValueError,
        match=rf"^{tmp_path}/features\.npy does not have the sha256 .* in another folder\.$",
    ):
        read_features(str(tmp_path))


def test_table_of_an_extraction_that_was_changed_is_refused(tmp_path: Path) -> None:
    save_features(tmp_path, ["1", "2", "3"])
    other_table = pa.table({"raw_id": ["1", "2", "3"], "vector": pa.array(ROWS)})
    pq.write_table(other_table, tmp_path / "features.parquet")
    with pytest.raises(
        ValueError,
        match=r"features\.parquet does not have the sha256 .* "
        r"your own vectors in another folder",
    ):
        read_features(f"{tmp_path}/features.parquet")
    (tmp_path / INFO_FILE).unlink()
    assert read_features(f"{tmp_path}/features.parquet").info is None


def write_old_folder(folder: Path) -> None:
    np.save(folder / "items.npy", np.array([1, 2, 3]))
    np.save(folder / VECTORS_FILE, GOOD)


def remove_info(folder: Path) -> None:
    save_features(folder, ["1", "2", "3"])
    (folder / INFO_FILE).unlink()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, f"there are no features at .* it has no {INFO_FILE}"),
        (
            write_old_folder,
            "features of an earlier version: items.npy numbers the items of one packing",
        ),
        (remove_info, "its extraction is incomplete. Run the same mlrec extract again"),
    ],
)
def test_folder_without_features_json_is_refused(
    prepare: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    prepare(tmp_path)
    with pytest.raises(ValueError, match=words):
        read_features(str(tmp_path))
