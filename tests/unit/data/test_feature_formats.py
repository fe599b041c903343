"""Features as .npy, .json, .pt and Parquet files of other programs: equal vectors, or one fault."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from features import item_ids, numbered

from mlrec.data.features.files import read_features

GOOD = np.array([[0.5, 1.0], [2.0, 3.0], [4.0, -5.25]], np.float32)
IDS = ["1", "2", "3"]


def save_npy(path: Path) -> None:
    np.save(path, GOOD)


def save_half(path: Path) -> None:
    np.save(path, GOOD.astype(np.float16))


def save_big_endian_doubles(path: Path) -> None:
    np.save(path, np.asfortranarray(GOOD.astype(">f8")))


def save_json(path: Path) -> None:
    path.write_text(json.dumps(dict(zip(IDS, GOOD.tolist(), strict=True)), indent=1))


def save_json_list(path: Path) -> None:
    vectors = [[0.5, 1], [2, 3.0], [4, -5.25]]
    rows = [{"raw_id": int(i), "vector": v} for i, v in zip(IDS, vectors, strict=True)]
    path.write_text("\ufeff" + json.dumps(rows) + "\n")


def save_tensor(path: Path) -> None:
    torch.save(torch.from_numpy(GOOD), path)


def save_wrapped_tensor(path: Path) -> None:
    torch.save({"features": torch.from_numpy(GOOD).bfloat16()}, path)


def save_tensors_by_id(path: Path) -> None:
    torch.save({int(i): row for i, row in zip(IDS, torch.from_numpy(GOOD), strict=True)}, path)


def save_item_feature(path: Path) -> None:
    table = {"item_id": [1, 2, 3], "item_title": ["a", "b", "c"], "txt_emb_BERT": GOOD.tolist()}
    pq.write_table(pa.table({**table, "img_emb_CLIPRN50": [[9.0]] * 3}), path)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npy": (".npy", save_npy),
    "float16": (".npy", save_half),
    "float64": (".npy", save_big_endian_doubles),
    "json": (".json", save_json),
    "json_list": (".json", save_json_list),
    "tensor": (".pt", save_tensor),
    "wrapped": (".pt", save_wrapped_tensor),
    "by_id": (".pt", save_tensors_by_id),
    "microlens_1m": (".parquet", save_item_feature),
}


@pytest.mark.parametrize("case", WRITERS)
def test_read_features_every_format_gives_the_same_vectors(case: str, tmp_path: Path) -> None:
    ending, write = WRITERS[case]
    path = tmp_path / f"mine{ending}"
    write(path)
    features = read_features(str(path), numbered(3), "txt_emb_BERT")
    assert features.raw_ids_n.to_pylist() == IDS
    assert features.vectors_nX.dtype == np.float32
    assert np.array_equal(features.vectors_nX, GOOD)


def test_read_features_array_of_three_dimensions_has_several_vectors_per_item(
    tmp_path: Path,
) -> None:
    frames = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    np.save(tmp_path / "frames.npy", frames)
    (tmp_path / "frames.ids.txt").write_text("1\n2\n3\n")
    features = read_features(f"{tmp_path}/frames.npy", numbered(3))
    assert features.vectors_per_item == 2
    assert np.array_equal(features.vectors_nX, frames)


def test_read_features_several_vector_columns_are_named(tmp_path: Path) -> None:
    save_item_feature(tmp_path / "mine.parquet")
    words = "its columns 'txt_emb_BERT', 'img_emb_CLIPRN50' are all vectors. Name the features"
    with pytest.raises(ValueError, match=words):
        read_features(f"{tmp_path}/mine.parquet", numbered(3), "text")


def test_read_features_raw_ids_in_another_spelling_are_matched_and_counted(tmp_path: Path) -> None:
    url = f"{tmp_path}/mine.json"
    Path(url).write_text('{"017": [1.0], "18.0": [2.0], " cafe\u0301": [3.0], "x": [4.0]}')
    items = item_ids(["caf\u00e9", "18", "17"])
    features = read_features(url, items)
    assert features.rows_of(items).tolist() == [2, 1, 0]
    assert features.remarks(items)[0] == (
        f"3 raw ids of {url} matched in another spelling, such as '017' for '17'"
    )


def test_read_features_raw_id_of_exactly_an_item_goes_before_other_spellings(
    tmp_path: Path,
) -> None:
    url = f"{tmp_path}/mine.json"
    Path(url).write_text('{"017": [1.0], "17": [2.0]}')
    assert read_features(url, item_ids(["17", "x"])).raw_ids_n.to_pylist() == ["017", "17"]
    # the data set has both spellings, so 0017 may be either
    Path(url).write_text('{"0017": [1.0], "5": [2.0]}')
    assert read_features(url, item_ids(["17", "017", "5"])).spelling == ""


def test_read_features_two_spellings_of_one_item_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"017": [1.0], "17.0": [2.0]}')
    with pytest.raises(ValueError, match="1 raw ids occur more than once, such as '17'"):
        read_features(f"{tmp_path}/mine.json", item_ids(["17"]))


def saved(content: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(content, sink)
    return sink.getvalue()


def compressed(content: bytes) -> bytes:
    """Deflate all members of a zip file."""
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return sink.getvalue()


def of_zip_version(content: bytes, version: int) -> bytes:
    """Let the first entry of a zip file need another version."""
    place = content.index(b"PK\x01\x02") + 6
    return content[:place] + bytes([version]) + content[place + 1 :]


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=True)
    return sink.getvalue()


class Hostile:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit(9)",))


DEEP = b'{"1": ' + b"[" * 100_000
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "npy_int": (".npy", npy(np.eye(3, dtype=np.int64)), "of int64, expected float16, float32 or"),
    "npy_long": (".npy", npy(GOOD.astype(np.longdouble)), "expected float16, float32 or float64"),
    "npy_object": (".npy", npy(np.array([[None]])), "expected plain numbers"),
    "npy_flat": (".npy", npy(GOOD[0]), "expected 2 dimension"),
    "npy_claim": (".npy", npy(GOOD).replace(b"(3, 2)", b"(9, 9)"), r"\[9, 9\] and 24 bytes"),
    "npy_nan": (".npy", npy(GOOD * np.nan), "3 vectors are not finite, such as that of '1'"),
    "npy_text": (".npy", b"text", "not an .npy file"),
    "pt_code": (".pt", saved(Hostile()), "it holds Python objects, which are not read; save a"),
    "pt_codes": (".pt", saved({"1": Hostile()}), "it holds Python objects, which are not read"),
    "pt_module": (".pt", saved(torch.nn.Linear(2, 2)), "tensors, and numpy arrays as .npy"),
    "pt_numpy": (".pt", saved({"1": GOOD[0]}), "tensors, and numpy arrays as .npy"),
    "pt_sparse": (".pt", saved(torch.ones(3, 2).to_sparse()), r"call \.to_dense\(\) before"),
    "pt_text": (".pt", b"text", "not a file of torch.save"),
    "pt_cut": (".pt", saved(torch.ones(9, 9))[:-40], "not a file of torch.save"),
    "pt_version": (".pt", of_zip_version(saved(torch.ones(9, 9)), 200), "not a file of torch.save"),
    "pt_int": (".pt", saved(torch.ones(3, 2).long()), "a tensor of torch.int64"),
    "pt_list": (".pt", saved([[1.0]]), "it holds a list where a tensor is expected"),
    "pt_repeated": (".pt", saved(torch.ones(1).expand(9999, 9999)), "more than the file holds"),
    "pt_zeros": (".pt", compressed(saved(torch.zeros(9999, 9))), "it unpacks to 36"),
    "pt_key": (".pt", saved({(1, 2): torch.ones(2)}), "neither text nor a whole number"),
    "pt_ragged": (".pt", saved({"1": torch.ones(2), "2": torch.ones(3)}), "several widths"),
    "json_text": (".json", b"text", "neither an object of vectors by raw id nor a list"),
    "json_empty": (".json", b"{}", "0 vectors of width 0"),
    "json_twice": (".json", b'{"1": [1.0], "1": [2.0]}', "1 raw ids occur more than once"),
    "json_ragged": (
        ".json",
        b'{"1": [1.0], "2": [2.0, 3]}',
        "such as 1 for '1' and 2 for '2'",
    ),
    "json_bool": (".json", b'{"1": [true]}', "the vector of '1' is no list of numbers"),
    "json_nested": (".json", b'{"1": [[1.0]]}', "the vector of '1' is no list of numbers"),
    "json_deep": (".json", DEEP, "nested too deeply"),
    "json_nan": (".json", b'{"1": [NaN]}', "1 vector is not finite"),
    "json_huge": (".json", b'{"1": [1' + b"0" * 400 + b"]}", "too many digits"),
    "json_digits": (".json", b'{"1": [' + b"9" * 6000 + b"]}", "a number of 6,000 digits"),
    "json_cut": (".json", b'{"1": [1.0]', "',' is missing at character 11"),
    "json_more": (".json", b'{"1": [1.0]} 2', "more text follows its end"),
    "json_keys": (".json", b'[{"id": 1, "vector": [1.0]}]', "a list whose elements are not"),
    "json_latin": (".json", b'{"\xff": [1.0]}', "utf-8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_read_features_bad_file_is_named_with_its_fault(case: str, tmp_path: Path) -> None:
    ending, content, words = BAD_FILES[case]
    path = tmp_path / f"mine{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_features(str(path), numbered(3))
    assert str(error.value).startswith(f"{path} cannot be used as features: ")
    assert not any(words in str(error.value) for words in ("\n", "weights_only", "\\x1b"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.npy", r"none\.npy does not exist\. Write features with mlrec extract"),
        ("x.csv", r"it ends in none of \.parquet, \.npy, \.json, \.pt, and is no folder with"),
    ],
)
def test_read_features_missing_file_and_other_format_are_told_apart(
    name: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ValueError, match=words):
        read_features(f"{tmp_path}/{name}")


def test_read_features_too_large_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_npy(tmp_path / "mine.npy")
    monkeypatch.setattr("mlrec.data.features.files.MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match=r"mine\.npy has 152 bytes, at most 100 are read"):
        read_features(f"{tmp_path}/mine.npy", numbered(3))
