"""Interactions in Parquet tables, .inter files and lists with times, and the file that is used."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logs import runs, write_text

from shards_tools.raw.folder import fingerprint, open_raw
from shards_tools.raw.pairs.inter import read_inter
from shards_tools.raw.pairs.parquet import read_parquet
from shards_tools.raw.pairs.text import read_text


def write_table(path: Path, **columns: object) -> str:
    """Write a Parquet table, and return its URL."""
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("dtype", [pa.int64(), pa.float64(), pa.string()])
def test_read_parquet_rows_of_any_type_are_the_same(tmp_path: Path, dtype: pa.DataType) -> None:
    path = write_table(
        tmp_path / "x_pairs.parquet",
        item_id=pa.array([7, 8, 9]).cast(dtype),
        likes=[0, 0, 0],
        user_id=pa.array([5, 5, 3]).cast(dtype),
        timestamp=[1_600_000_001, 1_600_000_000, 1_600_000_000],
    )
    interactions = read_parquet(path)
    assert runs(interactions) == {"5": ["8", "7"], "3": ["9"]}
    assert interactions.time_unit == "milliseconds"
    assert "x_pairs.parquet: 1 column not used (likes)" in interactions.remarks


def test_read_parquet_timestamps_and_missing_values(tmp_path: Path) -> None:
    day = datetime(2023, 7, 1, tzinfo=UTC)
    path = write_table(
        tmp_path / "x_pairs.parquet",
        user=["u", "u", None, "u"],
        item=["a", "b", "c", "d"],
        date=pa.array([day, day, day, None], pa.timestamp("ns", "UTC")),
    )
    interactions = read_parquet(path)
    assert runs(interactions) == {"u": ["a", "b"]}
    assert interactions.sequences.times is not None
    assert interactions.sequences.times.tolist() == 2 * [int(day.timestamp() * 1000)]
    assert "2 of 4 rows could not be read" in interactions.remarks[0]
    assert "row 3 with 'None', 'c'" in interactions.remarks[0]


def test_read_parquet_lists_are_read(tmp_path: Path) -> None:
    path = write_table(tmp_path / "item_seq.parquet", user_id=[5, 3], item_seq=[[7, 8, 7], [9]])
    assert runs(read_parquet(path)) == {"5": ["7", "8", "7"], "3": ["9"]}


def test_read_parquet_lists_lose_padding_that_only_begins_or_ends_them(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "item_seq.parquet", user_id=[5, 3], item_seq=[[0, 0, 7, 8], [0, 9, 8, 7]]
    )
    interactions = read_parquet(path)
    assert runs(interactions) == {"5": ["7", "8"], "3": ["9", "8", "7"]}
    assert any("3 items 0 that pad lists" in remark for remark in interactions.remarks)
    # here 0 is an item
    path = write_table(
        tmp_path / "item_seq.parquet", user_id=[5, 3], item_seq=[[0, 0, 7, 8], [9, 0, 8, 7]]
    )
    assert runs(read_parquet(path))["3"] == ["9", "0", "8", "7"]


def test_read_parquet_lists_with_times_are_sorted(tmp_path: Path) -> None:
    first = 1_600_000_000
    path = write_table(
        tmp_path / "item_seq.parquet",
        user_id=["u", "v", "w"],
        item_id=[[7, 8, 7], [9], None],
        timestamps=[[first + 2, first, first + 1], [first], None],
    )
    interactions = read_parquet(path)
    assert runs(interactions) == {"u": ["8", "7", "7"], "v": ["9"]}
    assert interactions.sequences.times is not None
    seconds = [first, first + 1, first + 2, first]
    assert interactions.sequences.times.tolist() == [1000 * second for second in seconds]
    assert interactions.time_unit == "milliseconds"
    assert "1 of 5 rows could not be read" in interactions.remarks[0]


def test_read_parquet_lists_with_too_few_times_are_dropped(tmp_path: Path) -> None:
    days = [datetime(2023, 7, day, tzinfo=UTC) for day in (2, 1, 3)]
    columns = {"user_id": ["u", "v"], "item_seq": [[7, 8, 9], [7, 8, 9]]}
    path = write_table(tmp_path / "x_pairs.parquet", **columns, times=[days, days[:2]])
    interactions = read_parquet(path)
    assert runs(interactions) == {"u": ["8", "7", "9"]}
    assert interactions.counts["dropped_rows"] == 3
    assert interactions.remarks[0].endswith("line 2 with user 'v', 3 items and 2 times")
    path = write_table(tmp_path / "x_pairs.parquet", **columns, times=2 * [days[:2]])
    with pytest.raises(ValueError, match=r"6 of 6 rows .* user 'u', 3 items and 2 times"):
        read_parquet(path)


def test_read_parquet_single_time_of_a_list_is_not_used(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "x_pairs.parquet", user_id=["u"], item_seq=[[8, 7]], timestamp=[1_600_000_000]
    )
    interactions = read_parquet(path)
    assert runs(interactions) == {"u": ["8", "7"]}
    assert "x_pairs.parquet: 1 column not used (timestamp)" in interactions.remarks


@pytest.mark.parametrize(
    "text",
    [
        "user\titems\ttimestamps\n1\t7 8 7\t1600000002 1600000000 1600000001\n2\t9\t1600000000\n",
        'items,timestamps,user\n"[7, 8, 7]","[1600000002, 1600000000, 1600000001]",1\n'
        "[9],[1600000000],2\n",
        "user;items;times\n1;7,8,7;1600000002,1600000000,1600000001\n2;9;1600000000\n",
    ],
)
def test_read_text_lists_with_times_are_sorted(tmp_path: Path, text: str) -> None:
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", text))
    assert runs(interactions) == {"1": ["8", "7", "7"], "2": ["9"]}
    assert interactions.time_unit == "milliseconds"


def test_read_text_single_time_of_a_list_is_not_used(tmp_path: Path) -> None:
    text = "user,items,timestamp\n1,8 7,1600000000\n2,9,1600000000\n"
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", text))
    assert runs(interactions) == {"1": ["8", "7"], "2": ["9"]}
    assert "x_pairs.csv: 1 column not used (timestamp)" in interactions.remarks


def test_read_parquet_samples_of_training_are_read_as_rows(tmp_path: Path) -> None:
    # MicroLens-1M's train.parquet: an item that was shown after a history
    path = write_table(
        tmp_path / "train.parquet",
        user_id=[5, 5, 5],
        item_seq=[[1, 2], [1, 2], [1, 2]],
        item_id=[7, 8, 9],
        label=[1, 0, 1],
    )
    interactions = read_parquet(path)
    assert runs(interactions) == {"5": ["7", "9"]}
    assert "train.parquet: 1 column not used (item_seq)" in interactions.remarks


def test_read_parquet_unusable_table_is_one_sentence(tmp_path: Path) -> None:
    path = write_table(tmp_path / "x_pairs.parquet", viewer=[1], clip=[2])
    with pytest.raises(ValueError, match=r"its columns are viewer, clip\. Name them user_id and"):
        read_parquet(path)
    (tmp_path / "x_pairs.parquet").write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(ValueError, match="cannot be read as a Parquet table"):
        read_parquet(str(tmp_path / "x_pairs.parquet"))


def test_read_inter_mappings_give_the_original_ids(tmp_path: Path) -> None:
    inter = tmp_path / "baby.inter"
    inter.write_text(
        "userID\titemID\trating\ttimestamp\tx_label\n0\t1\t5.0\t7\t0\n0\t0\t4.0\t6\t2\n"
    )
    assert runs(read_inter(str(inter))) == {"0": ["0", "1"]}
    before = fingerprint_of(tmp_path)
    (tmp_path / "i_id_mapping.csv").write_text("asin\titemID\nB00A\t0\nB00B\t1\n")
    (tmp_path / "u_id_mapping.csv").write_text(",user_id,userID\n0,A1,0\n")
    assert runs(read_inter(str(inter))) == {"A1": ["B00A", "B00B"]}
    # a data set with other ids is another one
    assert fingerprint_of(tmp_path) != before


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("asin\titemID\nB00A\t0\n", "lacks 1 of the 2 numbers .* such as 1. Give the mapping"),
        ("asin\titemID\nB00A\t0\nB00A\t1\n", "gives several numbers the same id"),
        ("asin\tnumber\nB00A\t0\n", "line 1: expected the columns"),
    ],
)
def test_read_inter_mapping_that_does_not_fit_raises(
    tmp_path: Path, mapping: str, words: str
) -> None:
    inter = tmp_path / "baby.inter"
    inter.write_text("userID\titemID\n0\t1\n0\t0\n")
    (tmp_path / "i_id_mapping.csv").write_text(mapping)
    with pytest.raises(ValueError, match=words):
        read_inter(str(inter))


def fingerprint_of(folder: Path) -> str:
    """Return the fingerprint of a raw folder."""
    return fingerprint(open_raw(str(folder)), frozenset())


def test_open_raw_unused_interactions_are_named(tmp_path: Path) -> None:
    (tmp_path / "X_PAIRS.TSV").write_text("1\t2 3\n")
    (tmp_path / "x_pairs.csv").write_text("1,2,3\n")
    (tmp_path / "x_likes_and_views.txt").write_text("1\t2\t3\n")
    (tmp_path / "notes.txt").write_text("12 rows were removed\n")
    raw = open_raw(str(tmp_path))
    assert raw.remarks == ["x_pairs.csv: its interactions are used, those of X_PAIRS.TSV are not"]


def test_open_raw_any_table_of_numbers_is_the_last_choice(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("Amazon Beauty, 5-core\n")
    (tmp_path / "Beauty.txt").write_text("1 2 3 4\n2 3 4\n")
    assert open_raw(str(tmp_path)).pairs.endswith("/Beauty.txt")


def test_open_raw_without_interactions_says_why_tables_do_not_count(tmp_path: Path) -> None:
    for name in ("log.csv", "readme.txt"):
        (tmp_path / name).write_text("Amazon Beauty, 5-core\n")
    with pytest.raises(ValueError, match="holds no interactions") as error:
        open_raw(str(tmp_path))
    reasons = "log.csv has another name. readme.txt does not begin with lines of numbers only. "
    assert f"holds no interactions. {reasons}Expected *pairs.csv or" in str(error.value)
