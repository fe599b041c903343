"""Readers of interactions in text: layouts, order, ids, and messages about malformed files."""

from pathlib import Path

import numpy as np
import pytest
from logs import runs, write_text

from shards_tools.raw.pairs.interactions import number_items
from shards_tools.raw.pairs.text import read_text


@pytest.mark.parametrize(
    "text",
    [
        "5\t10 9 10\n\n3\t2\n",
        "user\titems\n5\t10 9 10\n3\t2\n",
        "userID\tvideo_ids\n5\t10 9 10\n3\t2\n",
        "5\t[10, 9, 10]\n3\t[2]\n",
        "5\t['10', '9', '10']\n3\t['2']\n",
        "5\t10,9,10\n3\t2\n",
        '5,"[10, 9, 10]"\n3,[2]\n',
        "5,10,9,10\n3,2\n",
        "5 10 9 10\n3 2\n",
        "5;10 9 10\n3;2\n",
        "5\t10 9 10\t\n3\t2\t\n",
        "user\titems\n5\t10 9 10 \t\n3\t2 \t\n",
        "user\titems\n5\t10\t9\t10\n3\t2\n",
        "# mine\n\n5\t10 9 10\n3\t2\n",
        "# mine\nuser\titems\nint\tlist\n5\t10 9 10\n3\t2\n",
        "  5\t10  9 10 \r\n3\t 2\r\n",
        "\ufeff5\t10 9 10\n3\t2\n",
    ],
)
def test_read_text_lists_in_any_layout_are_the_same(tmp_path: Path, text: str) -> None:
    path = write_text(tmp_path / "x_pairs.tsv", text)
    assert runs(read_text(path)) == {"5": ["10", "9", "10"], "3": ["2"]}


@pytest.mark.parametrize(
    "text",
    [
        "user,item,timestamp\n5,a,30\n3,b,10\n5,c,20\n5,d,20\n3,a,5\n",
        "5,a,30\n3,b,10\n5,c,20\n5,d,20\n3,a,5\n",
        "user,item,timestamp\n5,a,30,\n3,b,10,\n5,c,20,\n5,d,20,\n3,a,5,\n",
        "5,a,30,\n3,b,10,\n5,c,20,\n5,d,20,\n3,a,5,\n",
        "# mine\nuser,item,timestamp\n5,a,30\n3,b,10\n5,c,20\n5,d,20\n3,a,5\n",
        '\n"User", Item ,TIMESTAMP\r\n5,a,30\r\n\r\n3,b,10\r\n5,c,20\r\n5,d,20\r\n3,a,5\r\n',
        "user_id:token\titem_id:token\ttimestamp:float\n"
        "5\ta\t30.0\n3\tb\t1e1\n5\tc\t20.0\n5\td\t20\n3\ta\t5\n",
        "item;ts;rating;uid\na;30;1;5\nb;10;2;3\nc;20;3;5\nd;20;4;5\na;5;5;3\n",
        "5|a|30\n3|b|10\n5|c|20\n5|d|20\n3|a|5\n",
        ",video_id,userID,time\n0,a,5,30\n1,b,3,10\n2,c,5,20\n3,d,5,20\n4,a,3,5\n",
        '5,"a","30"\n3,b, 10\n5,c,20\n5,d,20\n3,a,5\n',
    ],
)
def test_read_text_rows_in_any_layout_are_sorted_by_time_then_file_order(
    tmp_path: Path, text: str
) -> None:
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", text))
    assert runs(interactions) == {"5": ["c", "d", "a"], "3": ["a", "b"]}
    assert interactions.sequences.times is not None
    assert interactions.sequences.times.tolist() == [20, 20, 30, 5, 10]


def test_read_text_rows_without_times_stay_in_file_order(tmp_path: Path) -> None:
    for text in ("5,c\n3,a\n5,a\n5,c\n", "5 c\n3 a\n5 a\n5 c\n", "item,user\nc,5\na,3\na,5\nc,5\n"):
        interactions = read_text(write_text(tmp_path / "x_pairs.csv", text))
        assert runs(interactions) == {"5": ["c", "a", "c"], "3": ["a"]}
        assert interactions.sequences.times is None
        assert interactions.remarks == [
            "x_pairs.csv: without times, each user's rows stay in file order"
        ]


def test_read_text_many_equal_times_are_said(tmp_path: Path) -> None:
    # equal times of two users are no ties
    rows = [f"u{row},{row},2020-01-01" for row in range(9)]
    path = write_text(tmp_path / "x_pairs.csv", "\n".join(rows))
    assert not any("equal time" in remark for remark in read_text(path).remarks)
    path = write_text(tmp_path / "x_pairs.csv", "\n".join([*rows, "u8,3,2020-01-01"]))
    interactions = read_text(path)
    assert runs(interactions)["u8"] == ["8", "3"]
    assert (
        "x_pairs.csv: 10% of the rows have the time of the user's row before; "
        "rows of equal time stay in file order" in interactions.remarks
    )


def test_read_text_lists_separated_by_spaces_may_have_equal_lengths(tmp_path: Path) -> None:
    path = write_text(tmp_path / "Beauty.txt", "1 7 8\n2 8 9\n")
    assert runs(read_text(path)) == {"1": ["7", "8"], "2": ["8", "9"]}
    # but three columns that end in a time are rows
    path = write_text(tmp_path / "rows.txt", "1 7 1600000009\n1 8 1600000001\n")
    assert runs(read_text(path)) == {"1": ["8", "7"]}


def test_read_text_ignored_columns_are_named(tmp_path: Path) -> None:
    path = write_text(
        tmp_path / "x.inter", "userID\titemID\trating\ttimestamp\tx_label\n1\t2\t3\t4\t0\n"
    )
    remarks = read_text(path).remarks
    assert "x.inter: 2 columns not used (rating, x_label)" in remarks


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("user_id,item_id,user,timestamp", "2 columns may hold the users: user, user_id. Rename"),
        ("user,user,item,timestamp", "2 columns may hold the users: user, user. Rename or remove"),
        ("user,item,video_id,timestamp", "2 columns may hold the items: item, video_id"),
        ("user,item,timestamp,Timestamp", "2 columns may hold the times: timestamp, Timestamp"),
        ("user,items,history,x", "2 columns may hold the items: items, history"),
    ],
)
def test_read_text_two_columns_of_one_kind_raise(tmp_path: Path, header: str, words: str) -> None:
    path = write_text(tmp_path / "x_pairs.csv", f"{header}\n1,2,3,4\n")
    with pytest.raises(ValueError, match=words):
        read_text(path)


def test_read_text_exact_time_is_used_next_to_its_date(tmp_path: Path) -> None:
    text = "user,item,date,time_ms\n1,2,20220501,1651369000001\n1,3,20220501,1651369000000\n"
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", text))
    assert runs(interactions) == {"1": ["3", "2"]}
    assert "x_pairs.csv: 1 column not used (date)" in interactions.remarks


def test_read_text_rows_with_label_0_are_left_out(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x_pairs.csv", "user,item,label\n1,2,1\n1,3,0\n1,4,1\n")
    interactions = read_text(path)
    assert runs(interactions) == {"1": ["2", "4"]}
    assert "x_pairs.csv: 1 row with a label of 0 was left out" in interactions.remarks


@pytest.mark.parametrize("size", [64, 1 << 20])
def test_read_text_strips_spaces_around_ids_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    rows = []
    expected = {}
    for user in range(50, 20, -1):
        # two rows each, so that an id occurs in several blocks
        rows += [f" {user} , i{user % 7}\t,{user}", f" {user} , i{user % 7}\t,{user + 1}"]
        expected[str(user)] = 2 * [f"i{user % 7}"]
    path = write_text(tmp_path / "x_pairs.csv", "\n".join(rows))
    monkeypatch.setattr("shards_tools.raw.pairs.text_blocks.BLOCK_BYTES", size)
    monkeypatch.setattr("shards_tools.raw.pairs.id_codes.MIN_MERGED_IDS", 4)
    interactions = read_text(path)
    # users stand in the order of their first rows
    assert list(runs(interactions).items()) == list(expected.items())
    assert len(interactions.raw_ids) == 7
    # spaces are no other spelling
    assert interactions.remarks == [
        "x_pairs.csv: the unit of the times, such as 51, was not recognized; "
        "they are stored as they stand"
    ]


def test_read_text_spellings_of_one_id_are_merged_and_counted(tmp_path: Path) -> None:
    rows = ["u1,17.0,1", "u1,17,2", "u1, 17,3", "u\u0065\u0301,18.0,4", "u\u00e9,19.0,5"]
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", "\n".join(rows)))
    assert runs(interactions) == {"u1": ["17", "17", "17"], "u\u00e9": ["18", "19"]}
    assert "x_pairs.csv: 3 item ids had other spellings, such as '17.0' for 17" in (
        interactions.remarks
    )
    # both look the same on a terminal
    example = "'ue\\u0301' for u\u00e9"
    assert f"x_pairs.csv: 1 user id had other spellings, such as {example}" in interactions.remarks


def test_read_text_equal_rows_are_counted_once(tmp_path: Path) -> None:
    # two items alternate at one time, so that equal rows are no neighbours
    rows = ["1,a,5", "1,b,5", "1,a,5", "1,b,5", "1,a,6", "2,a,5", "1,a,5"]
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", "\n".join(rows)))
    assert runs(interactions) == {"1": ["a", "b", "a"], "2": ["a"]}
    assert interactions.counts == {"dropped_rows": 0, "duplicate_rows": 3}
    assert (
        "x_pairs.csv: 3 rows with the user, item and time of another row were left out"
        in interactions.remarks
    )


def test_read_text_users_without_distinct_numbers_are_numbered(tmp_path: Path) -> None:
    # 7 and 07 are two users of one number
    for first, second in (("u1", "u0"), ("7", "07")):
        path = write_text(tmp_path / "x_pairs.tsv", f"{first}\t1 2\n{second}\t3 4\n")
        assert read_text(path).sequences.users.tolist() == [1, 2]


def test_number_items_sorts_by_number_or_else_by_name(tmp_path: Path) -> None:
    # 9 < 10 < 100 as numbers
    numbers = number_items(read_text(write_text(tmp_path / "a_pairs.tsv", "1\t10 9 100 9\n")))
    assert (numbers.raw_ids, numbers.sequences.items.tolist()) == (["9", "10", "100"], [1, 0, 2, 0])
    # "10" < "9" < "x" as texts
    names = number_items(read_text(write_text(tmp_path / "b_pairs.tsv", "1\t10 9 x\n")))
    assert (names.raw_ids, names.sequences.items.tolist()) == (["10", "9", "x"], [0, 1, 2])
    assert isinstance(names.sequences.items, np.ndarray)


def test_read_text_lines_before_the_first_row_are_said(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x_pairs.tsv", "# mine\nuser\titems\nint\tlist\n5\t10 9\n")
    assert read_text(path).remarks == [
        "x_pairs.tsv: 2 lines of comments or types before the first row left out, such as '# mine'"
    ]


def test_read_text_column_without_name_is_no_list(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x_pairs.tsv", "user\titems\n5\t10 9\t100 200\n3\t2\t300\n")
    with pytest.raises(ValueError, match="2 of 2 rows could not be read"):
        read_text(path)


def test_read_text_ids_that_all_begin_with_a_hash_are_kept(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x_pairs.tsv", "#5\t10 9\n#3\t2\n")
    assert runs(read_text(path)) == {"#5": ["10", "9"], "#3": ["2"]}
