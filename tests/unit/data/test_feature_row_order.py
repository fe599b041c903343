"""Rows of a file without raw ids: a rule that fits the data set, or an error with the choices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from features import FINGERPRINT, item_ids

from mlrec.data.features.files import read_features
from mlrec.data.features.join import ItemIds
from mlrec.data.features.row_order import ids_of_rows


def save_rows(folder: Path, num_rows: int, name: str = "mine.npy") -> str:
    """Save vectors whose only value is the number of their row, and return the URL."""
    np.save(folder / name, np.arange(num_rows, dtype=np.float32)[:, None])
    return f"{folder}/{name}"


def looked_up(url: str, raw_ids: Sequence[str | None], may_miss: bool = False) -> list[int]:
    """Return the row of each item."""
    items = item_ids(raw_ids)
    return read_features(url, items).rows_of(items, may_miss).tolist()


@pytest.mark.parametrize(
    ("raw_ids", "num_rows", "expected"),
    [
        (["1", "2", "3"], 3, [0, 1, 2]),  # a row per item
        (["0", "1", "2"], 3, [0, 1, 2]),
        (["7", "30", "200"], 3, [0, 1, 2]),
        (["2", "6"], 6, [1, 5]),  # the last row is raw id 6
        (["0", "6"], 9, [0, 6]),  # the first row is raw id 0
    ],
)
def test_rows_without_ids_follow_the_only_rule_that_fits(
    raw_ids: list[str], num_rows: int, expected: list[int], tmp_path: Path
) -> None:
    assert looked_up(save_rows(tmp_path, num_rows), raw_ids) == expected


def test_rows_without_ids_include_items_that_packing_left_out(tmp_path: Path) -> None:
    url = save_rows(tmp_path, 3)
    items = ItemIds(pa.array(["5", None, "9"]), "tiny", FINGERPRINT, pa.array(["7"]))
    features = read_features(url, items)
    assert features.rows_of(items).tolist() == [0, -1, 2]
    assert features.remarks(items)[0].startswith(f"{url} has a row for each item")


def test_published_rows_of_microlens_begin_with_raw_id_1(tmp_path: Path) -> None:
    url = save_rows(tmp_path, 19_738, "MicroLens-100k_image_features_CLIPRN50.npy")
    assert looked_up(url, ["1", "5", "19000"]) == [0, 4, 18_999]
    features = read_features(url, item_ids(["1", "5", "19000"]))
    assert features.row_order == f"{url} has no raw ids; its rows are taken as raw ids 1 to 19738"
    with pytest.raises(ValueError, match="neither numbers from 0 nor from 1 fit"):
        read_features(url, item_ids(["1", "19739"]))


@pytest.mark.parametrize(
    ("raw_ids", "words"),
    [
        (["1", "4"], r"raw ids 1 to 4: the first row may be raw id 0 or 1. Say which: seq 0 5 > "),
        (["1", "7"], "with raw ids up to 7: neither numbers from 0 nor from 1 fit"),
        (["a", "b"], "such as 'a', are no whole numbers. Write one raw id per row"),
        (["01", "2"], "such as '01', are no whole numbers"),
    ],
)
def test_rows_without_ids_of_unknown_order_name_the_choices(
    raw_ids: list[str], words: str, tmp_path: Path
) -> None:
    url = save_rows(tmp_path, 6)
    with pytest.raises(ValueError, match=words) as error:
        read_features(url, item_ids(raw_ids))
    assert f"{tmp_path}/mine.ids.txt" in str(error.value)


def test_rows_without_ids_and_without_a_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.npy has no raw ids. Write one raw id per row"):
        read_features(save_rows(tmp_path, 6))


IDS_FILES = {
    "json": ("mine.ids.json", '["b", 7, "a"]'),
    "txt": ("mine.ids.txt", "b\r\n7\r\na\r\n"),
    "txt_header": ("mine.ids.txt", "raw_id\nb\n7\na\n"),
    "after_the_whole_name": ("mine.npy.ids.txt", "b\n7\na\n"),
    "json_after_the_whole_name": ("mine.npy.ids.json", '["b", 7, "a"]'),
    "csv": ("mine.ids.csv", "raw_id\nb\n7\na\n"),
    "csv_rows": ("mine.ids.csv", "id,row\na,2\nb,0\n7,1"),
    "mmrec": ("i_id_mapping.csv", "asin\titemID\nb\t0\n7\t1\na\t2\n"),
}


@pytest.mark.parametrize("case", IDS_FILES)
def test_ids_file_decides_over_the_order_of_numbers(case: str, tmp_path: Path) -> None:
    name, content = IDS_FILES[case]
    url = save_rows(tmp_path, 3)
    (tmp_path / name).write_text(content)
    assert looked_up(url, ["7", "a", "b"]) == [1, 2, 0]
    assert looked_up(url, ["7", "z"], may_miss=True) == [1, -1]
    order = read_features(url).row_order
    assert order == f"the rows of {url} have the ids of {tmp_path}/{name}"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("mine.ids.json", '["a"]', "has 1 ids for 3 rows"),
        ("mine.ids.json", "[1.5, 2, 3]", "is invalid"),
        ("mine.ids.txt", "a\nb\n", "has 2 ids for 3 rows"),
        ("mine.ids.txt", "x\na\nb\nc\n", "has 4 ids for 3 rows"),
        ("mine.ids.csv", "x\na\nb\nc\n", "has 4 ids for 3 rows"),
        ("mine.ids.txt", "raw_id\na\nb\n", "has 2 ids for 3 rows"),
        ("mine.ids.csv", "id,row\na,0\nb,1\n", "has 2 ids for 3 rows"),
        ("mine.ids.csv", f"a,{'9' * 5000}\n", "expected a raw id and the number of its row"),
        ("mine.ids.txt", "a\nb\na\n", "1 raw ids occur more than once, such as 'a'"),
        ("mine.ids.csv", "a,0\nb,1\nc,1\n", "the numbers of the rows are not 0 to 2, each once"),
        ("mine.ids.csv", "a,0\nb,x\nc,1\n", "entry 2 is 'b x', expected a raw id and the number"),
    ],
)
def test_ids_file_that_does_not_fit_is_named(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    url = save_rows(tmp_path, 3)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        read_features(url)


def test_ids_file_text_keeps_commas_and_quotes(tmp_path: Path) -> None:
    url = save_rows(tmp_path, 3)
    (tmp_path / "mine.ids.txt").write_text('item b-1, é\n"quoted"\nsaid ""a""\tthere\n')
    assert looked_up(url, ['"quoted"', "item b-1, é", 'said ""a""\tthere']) == [1, 0, 2]


def test_ids_file_first_line_that_is_a_raw_id_is_no_header(tmp_path: Path) -> None:
    url = save_rows(tmp_path, 3)
    (tmp_path / "mine.ids.txt").write_text("video\na\nb\n")
    assert looked_up(url, ["a", "b", "video"]) == [1, 2, 0]
    left_out = ItemIds(pa.array(["a", None]), "tiny", FINGERPRINT, pa.array(["video"]))
    assert read_features(url, left_out).rows_of(left_out).tolist() == [1, -1]


def test_ids_files_of_both_names_must_be_equal(tmp_path: Path) -> None:
    url = save_rows(tmp_path, 3)
    for name in ("mine.npy.ids.txt", "mine.ids.txt"):
        (tmp_path / name).write_text("a\nb\nc\n")
    assert looked_up(url, ["c", "a"]) == [2, 0]
    (tmp_path / "mine.ids.txt").write_text("c\nb\na\n")
    words = r"two ids files that differ, .*mine\.npy\.ids\.txt and .*mine\.ids\.txt\. Remove one"
    with pytest.raises(ValueError, match=words):
        read_features(url)


def test_ids_file_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.ids.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"mine\.ids\.txt is no text in UTF-8"):
        ids_of_rows(f"{tmp_path}/mine.npy", 1, None)
