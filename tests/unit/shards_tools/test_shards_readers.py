"""Readers of interactions: rows, order, ids, and messages about malformed files."""

from pathlib import Path

import numpy as np
import pytest

from shards_tools.raw.folder import open_raw
from shards_tools.raw.interactions import Interactions, number_items
from shards_tools.raw.pairs_csv import read_pairs_csv
from shards_tools.raw.pairs_tsv import read_pairs_tsv


def runs(interactions: Interactions) -> dict[int, list[str]]:
    """Return the raw item ids of each user."""
    sequences = interactions.sequences
    raw_ids = np.array(interactions.raw_ids)
    runs_by_user = {}
    for row, user in enumerate(sequences.users.tolist()):
        items = sequences.items[sequences.offsets[row] : sequences.offsets[row + 1]]
        runs_by_user[user] = raw_ids[items].tolist()
    return runs_by_user


def write(path: Path, text: str) -> str:
    """Write a file, and return its URL."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_read_pairs_tsv_keeps_order_and_repeats(tmp_path: Path) -> None:
    path = write(tmp_path / "x_pairs.tsv", "5\t10 9 10\n\n3\t2\n")
    assert runs(read_pairs_tsv(path)) == {5: ["10", "9", "10"], 3: ["2"]}


@pytest.mark.parametrize("header", ["", "user,item,timestamp\n", '\n"User", Item ,TIMESTAMP\r\n'])
def test_read_pairs_csv_sorts_by_time_then_file_order(tmp_path: Path, header: str) -> None:
    rows = ["5,a,30", "3,b,10", "5,c,20", "5,d,20", "3,a,5"]
    interactions = read_pairs_csv(write(tmp_path / "x_pairs.csv", header + "\n".join(rows) + "\n"))
    assert runs(interactions) == {5: ["c", "d", "a"], 3: ["a", "b"]}
    assert interactions.sequences.times is not None
    assert interactions.sequences.times.tolist() == [20, 20, 30, 5, 10]


@pytest.mark.parametrize("first", ["5,a,-5", '5,a,"5"', "5,a, 5", "\n5,a,5", '"5","a",5'])
def test_read_pairs_csv_without_header_keeps_the_first_row(tmp_path: Path, first: str) -> None:
    interactions = read_pairs_csv(write(tmp_path / "x_pairs.csv", f"{first}\n5,b,6\n"))
    assert runs(interactions) == {5: ["a", "b"]}


def test_read_pairs_csv_strips_spaces_around_ids_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    expected = {}
    for user in range(50, 20, -1):
        # two rows each, so that an id occurs in several blocks
        rows += 2 * [f" {user} , i{user % 7}\t,{user}"]
        expected[user] = 2 * [f"i{user % 7}"]
    path = write(tmp_path / "x_pairs.csv", "\n".join(rows))
    for size in (64, 1 << 20):
        monkeypatch.setattr("shards_tools.raw.pairs_csv.CSV_BLOCK_BYTES", size)
        interactions = read_pairs_csv(path)
        assert runs(interactions) == expected
        # users stand in the order of their first rows
        assert interactions.sequences.users.tolist() == list(expected)
        assert len(interactions.raw_ids) == 7


def test_read_pairs_tsv_users_without_distinct_numbers_are_numbered(tmp_path: Path) -> None:
    # 7 and 07 are two users of one number
    for first, second in (("u1", "u0"), ("7", "07")):
        path = write(tmp_path / "x_pairs.tsv", f"{first}\t1 2\n{second}\t3 4\n")
        assert read_pairs_tsv(path).sequences.users.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x_pairs.tsv", "1\t2 3\n4 5 6\n", r"x_pairs.tsv, line 2: expected user<TAB>item"),
        ("x_pairs.tsv", "1\t2 3\n4\t\n", "line 2"),
        ("x_pairs.tsv", "1\t2 3\n1\t4 5\n", "user '1' has several lines"),
        (
            "x_pairs.tsv",
            "a b\t2 3\n a b \t4 5\n",
            "user 'a b' has several lines, spaces around the id aside",
        ),
        ("x_pairs.csv", "user,item,timestamp\n1,2,yesterday\n", "whole timestamps"),
        ("x_pairs.csv", "user,item,timestamp\n1,2,\n", "1 rows have no timestamp"),
        ("x_pairs.csv", "user,item,timestamp\n1,2\n", "expected rows of user,item,timestamp"),
        (
            "x_pairs.csv",
            "user,item,timestamp\n1,2,3\n1,,4\n1, ,5\n",
            r"x_pairs.csv: 2 rows have no item\. Give every row one",
        ),
        (
            "x_pairs.csv",
            "1, f,3\n1,f ,4\n1,g,5\n1,g ,6\n2,h,7\n",
            "2 item ids with .* such as ' f' and 'f '. Spaces",
        ),
        (
            "x_pairs.csv",
            "u,a,3\nu ,b,4\n",
            "1 user id with .* 'u' and 'u '.* one user. Remove the spaces in the file if",
        ),
        ("x_pairs.csv", "1,2,3\n,2,4\n", r"x_pairs.csv: 1 rows have no user"),
        (
            "x_pairs.csv",
            "item,user,timestamp\n1,2,3\n",
            "line 1: expected the header user,item,timestamp, with the",
        ),
        ("x_pairs.csv", "timestamp,user,item\n1,2,3\n", "found 'timestamp,user,item"),
        (
            "x_pairs.csv",
            "\n1,2,1.5e3\n",
            "line 2: .* or an interaction with a whole timestamp, found '1,2,1.5e3",
        ),
        ("x_pairs.csv", "", "expected rows of user,item,timestamp"),
    ],
)
def test_readers_malformed_file_names_the_place(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    write(tmp_path / name, text)
    raw = open_raw(str(tmp_path))
    with pytest.raises(ValueError, match=words):
        raw.read_pairs(raw.pairs)


def test_read_pairs_tsv_not_utf8_raises(tmp_path: Path) -> None:
    path = tmp_path / "x_pairs.tsv"
    # 0xff begins no character
    path.write_bytes(b"1\t2 \xff\n")
    with pytest.raises(ValueError, match=r"x_pairs.tsv is not UTF-8 text"):
        read_pairs_tsv(str(path))


def test_number_items_sorts_by_number_or_else_by_name(tmp_path: Path) -> None:
    # 9 < 10 < 100 as numbers
    numbers = number_items(read_pairs_tsv(write(tmp_path / "a_pairs.tsv", "1\t10 9 100 9\n")))
    assert (numbers.raw_ids, numbers.sequences.items.tolist()) == (["9", "10", "100"], [1, 0, 2, 0])
    # "10" < "9" < "x" as texts
    names = number_items(read_pairs_tsv(write(tmp_path / "b_pairs.tsv", "1\t10 9 x\n")))
    assert (names.raw_ids, names.sequences.items.tolist()) == (["10", "9", "x"], [0, 1, 2])
