"""Malformed files of interactions: what is dropped and said, and what is an error."""

from pathlib import Path

import pytest
from logs import runs, write_text

from shards_tools.raw.folder import open_raw
from shards_tools.raw.pairs.text import read_text


def test_read_text_few_malformed_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = ["user,item,timestamp", "1,2,3", "", "1,2", "1,,4", "1,2,yesterday", "1,5,6", "7,8,9"]
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", "\n".join(rows)))
    assert runs(interactions) == {"1": ["2", "5"], "7": ["8"]}
    assert interactions.counts["dropped_rows"] == 3
    assert (
        "x_pairs.csv: 3 of 6 rows could not be read and were dropped; the first is line 4, '1,2', "
        "with 2 cells instead of 3" in interactions.remarks
    )


def test_read_text_malformed_values_are_shown_with_their_line(tmp_path: Path) -> None:
    rows = ["1,2,3", "1,2", "", "4,,7", "8,9,10"]
    interactions = read_text(
        write_text(tmp_path / "a_pairs.csv", "\n".join([*rows[:1], *rows[2:]]))
    )
    assert "the first is line 3 with '4', '', '7'" in interactions.remarks[0]
    lists = ["1\t2 3", "4 5 6", "7\t", "8\t9"]
    interactions = read_text(write_text(tmp_path / "b_pairs.tsv", "\n".join(lists)))
    assert runs(interactions) == {"1": ["2", "3"], "8": ["9"]}
    assert "2 of 4 rows could not be read" in interactions.remarks[0]
    assert "line 2, '4 5 6'" in interactions.remarks[0]


def test_read_text_many_malformed_lines_raise(tmp_path: Path) -> None:
    good = [f"{user},7,{user}" for user in range(1000)]
    # 1 % of 1,010 rows
    bad = ["?"] * 10
    interactions = read_text(write_text(tmp_path / "x_pairs.csv", "\n".join(good + bad)))
    assert interactions.counts["dropped_rows"] == 10
    path = write_text(tmp_path / "y_pairs.csv", "\n".join(good + bad + ["?"]))
    with pytest.raises(ValueError, match=r"11 of 1,011 rows could not .* line 1,001, '\?'"):
        read_text(path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x_pairs.tsv", "1\t2 3\n1\t4 5\n", "user '1' has several lists"),
        ("x_pairs.tsv", "a b\t2 3\n a b \t4 5\n", "user 'a b' has several lists"),
        (
            "x_pairs.csv",
            "user,item,timestamp\n1,2,yesterday\n",
            "line 2 with '1', '2', 'yester",
        ),
        ("x_pairs.csv", "viewer,clip,when\n5,7,1000\n5,8,1001\n", "'viewer,clip,when', were not"),
        ("x_pairs.tsv", "viewer\tclips\n5\t7 8\n6\t8 9\n", r"'viewer\\tclips', were not"),
        ("x_pairs.csv", "1,2,3,4\n1,3,4,5\n", "Name them in a header line"),
        ("x_pairs.csv", "1,2,x\n", "'1,2,x', were not recognized"),
        ("x_pairs.csv", "", "it is empty"),
        ("x_pairs.csv", "user,item\n", "has no interactions"),
        ("x_pairs.csv", "1,2,2020-01-01\n1,3,1600000000\n", "some times are numbers, others dates"),
    ],
)
def test_read_text_malformed_file_is_one_sentence(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    write_text(tmp_path / name, text)
    raw = open_raw(str(tmp_path))
    with pytest.raises(ValueError, match=words):
        raw.read_pairs(raw.pairs)


def test_read_text_not_utf8_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x_pairs.tsv"
    # 0xff begins no character
    path.write_bytes(b"1\t2 3\n2\t2 \xff\n")
    with pytest.raises(ValueError, match=r"x_pairs.tsv is not UTF-8 text"):
        read_text(str(path))
    # and behind the lines by which the layout is recognized
    monkeypatch.setattr("shards_tools.raw.pairs.text_layout.HEAD_CHARACTERS", 4)
    path.write_bytes(b"1\t2 3\n" * 3000 + b"2\t2 \xff\n")
    with pytest.raises(ValueError, match=r"x_pairs.tsv is not UTF-8 text"):
        read_text(str(path))


def test_read_text_unreadable_times_are_named_with_the_forms_that_are_read(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x_pairs.csv", "user,item,timestamp\n1,2,06/06/2020\n")
    with pytest.raises(ValueError, match=r"'06/06/2020', whose time is none of seconds.*2020-06-3"):
        read_text(path)
