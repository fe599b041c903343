"""Tables of items: titles, likes and views."""

from pathlib import Path

import pytest

from shards_tools.raw.item_tables import read_likes_and_views, read_titles


def write(path: Path, text: str) -> str:
    """Write a file, and return its URL."""
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("header", ["", "item,title\n"])
def test_read_titles_with_or_without_header(tmp_path: Path, header: str) -> None:
    path = write(
        tmp_path / "x_titles.csv",
        header + '1,"Hello, ""you"" 🎉 #fun"\n2,bare, comma\n3,of no user\n',
    )
    assert read_titles(path, {"1", "2"}) == {"1": 'Hello, "you" 🎉 #fun', "2": "bare, comma"}


def test_read_titles_quoted_title_may_have_line_breaks(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x_titles.csv", '1,"two\r\nlines, 9 words"\r\n2,"of 2\n7,no item"\n3,"5"" tall\n'
    )
    assert read_titles(path, {"1", "2", "3"}) == {
        "1": "two\r\nlines, 9 words",
        "2": "of 2\n7,no item",
        "3": '5" tall',
    }


@pytest.mark.parametrize(
    "rows",
    [
        '4,"of no user"\n5,"stray\n6,taken\n',
        '4,"of no user"\n5,"stray\n\n"6","taken"\n',
        '4,"of no user"\n5,"stray\n4,of no user\n 6 , taken in"\n7,"whole"\n',
    ],
)
def test_read_titles_unclosed_quote_before_other_items_raises(tmp_path: Path, rows: str) -> None:
    path = write(tmp_path / "x_titles.csv", "item,title\n" + rows)
    with pytest.raises(
        ValueError,
        match=r"x_titles.csv, line 3: .*not closed .*item \"?6\"? would be part of its title",
    ):
        read_titles(path, {"5", "6", "7"})


def test_read_titles_unclosed_quote_before_many_rows_raises(tmp_path: Path) -> None:
    # the items within the quote are no known ones, so that only its length tells
    path = write(tmp_path / "x_titles.csv", '1,first\n2,"stray\n' + "100,of no user\n" * 20_000)
    with pytest.raises(
        ValueError, match=r"x_titles.csv, line 2: .* not closed \(field larger than field limit"
    ):
        read_titles(path, {"1", "2"})


def test_read_likes_and_views_malformed_line_raises(tmp_path: Path) -> None:
    assert read_likes_and_views(write(tmp_path / "a.txt", "1\t12000\t414000\n")) == {
        "1": (12000, 414000)
    }
    with pytest.raises(ValueError, match=r"b.txt, line 1: expected item<TAB>likes<TAB>views"):
        read_likes_and_views(write(tmp_path / "b.txt", "1\t12k\t414k\n"))
