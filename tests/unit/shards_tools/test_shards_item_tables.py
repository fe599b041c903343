"""Tables of items: titles, likes and views."""

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from mlrec import storage
from mlrec.data.raw_ids import IdMatcher
from shards_tools.raw.items.columns import SHOWN_NAMES, TITLE, num_known_names
from shards_tools.raw.items.tables import ItemCounts, Titles, read_likes_and_views, read_titles

ITEMS = [str(item) for item in range(1, 10)]
TITLES = {item: f"title {item}" for item in ITEMS}


def write(path: Path, text: str) -> str:
    """Write a file, and return its URL."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def titles_of(tmp_path: Path, text: str, items: list[str] = ITEMS, name: str = "x.csv") -> Titles:
    """Return the titles of a table with the content `text`."""
    return read_titles(write(tmp_path / name, text), IdMatcher(items))


def counts_of(tmp_path: Path, text: str, items: list[str] = ITEMS) -> ItemCounts:
    """Return likes and views of a table with the content `text`."""
    return read_likes_and_views(write(tmp_path / "x_likes.txt", text), IdMatcher(items))


def rows(template: str) -> str:
    """Return a row for each item, whose index starts at 0."""
    return "".join(template.format(item=item, index=int(item) - 1) for item in ITEMS)


@pytest.mark.parametrize(
    "text",
    [
        # the published ones of MicroLens-50K and 100K
        "item,title\n" + rows('{item},"title {item}"\n'),
        rows("{item},title {item}\n"),
        # pandas' index
        ",item,title\n" + rows("{index},{item},title {item}\n"),
        "Unnamed: 0,item,title\n" + rows("{index},{item},title {item}\n"),
        # a third column, before, between and after
        "item,title,tag\n" + rows("{item},title {item},{index}\n"),
        "tag,Video ID,Title\n" + rows("food,{item},title {item}\n"),
        "item_id\tlikes\ttitle_en\n" + rows("{item}\t{index}\ttitle {item}\n"),
        # swapped
        "title,item\n" + rows("title {item},{item}\n"),
        rows("title {item},{item}\n"),
        # separators
        "item\ttitle\n" + rows("{item}\ttitle {item}\n"),
        rows("{item}\ttitle {item}\n"),
        "item;title\n" + rows("{item};title {item}\n"),
        rows("{item}|title {item}\n"),
        "item title\n" + rows("{item} title {item}\n"),
        # RecBole
        "item_id:token\tmovie_title:token_seq\tgenre:token_seq\n"
        + rows("{item}\ttitle {item}\ta b\n"),
        # names that are not known
        "item,headline\n" + rows("{item},title {item}\n"),
        "sku,title,price\n" + rows("{item},title {item},0.5\n"),
        rows("{item},title {item}\r"),
        "asin,title\r\n" + rows("{item}.0,title {item}\r\n"),
        "\ufeffitem,title\n" + rows("{item},title {item}\n"),
        "\n\nitem,title\n\n" + rows("{item}, title {item} \n \n"),
    ],
)
def test_read_titles_of_any_layout_returns_the_titles_of_items(tmp_path: Path, text: str) -> None:
    assert titles_of(tmp_path, text).titles == TITLES


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # an index without a name: either column may be the items
        (rows("{index},{item},title {item}\n"), r"several columns hold ids of items. .*\[0 \| 1"),
        ("id,item,title\n" + rows("{index},{item},title {item}\n"), "several columns hold ids"),
        (rows("{index},{item},title, {item}\n") + "9,9,title\n", "several columns hold ids"),
        (
            rows("{item},title {item},food\n"),
            "not clear which columns .* Put a header",
        ),
        (
            rows("x{index},{item},title,{item} s\n") + "x,9,title\n",
            "it is not clear which columns",
        ),
        (rows("{item}\n"), "it is not clear which columns"),
        (
            "sku;headline;lang\n" + rows("{item};title {item};en\n"),
            r"If \[sku \| headline \| lang\] is the header, rename .* item and title\. Names",
        ),
        (
            rows("a{item},title {item}\n"),
            r"no item of .* as 1, 2, 3\. .*\[a1 \| title 1\]",
        ),
        ("item,title\n" + rows("a{item},title {item}\n"), r"no item of the interactions.*\[a1"),
        (
            "item,tag,price\n" + rows("{item},a,b\n"),
            r"no column of title: .*\[item \| tag \| price\]",
        ),
    ],
)
def test_read_titles_of_unclear_columns_raises(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"x.csv:? .*{reason}"):
        titles_of(tmp_path, text)


def test_shown_names_are_recognized() -> None:
    assert num_known_names(SHOWN_NAMES, [TITLE]) == len(SHOWN_NAMES)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_read_titles_from_any_storage(tmp_path: Path, suffix: str) -> None:
    table = pa.table({"item": ITEMS, "title": list(TITLES.values())})
    local = tmp_path / f"titles.{suffix}"
    writers = {"csv": pa_csv.write_csv, "parquet": pq.write_table}
    writers[suffix](table, local)
    url = f"memory://{tmp_path.name}/titles.{suffix}"
    storage.write_bytes(url, local.read_bytes())
    assert read_titles(url, IdMatcher(ITEMS)) == Titles(TITLES, [])


def test_read_titles_of_empty_tables_reports_items_without_title(tmp_path: Path) -> None:
    for text in ("", "item,title\n"):
        titles = titles_of(tmp_path, text)
        assert titles == Titles({}, ["9 of 9 items have no title in x.csv"])


@pytest.mark.parametrize("header", ["", "item,title\n"])
def test_read_titles_with_bare_commas_keeps_them(tmp_path: Path, header: str) -> None:
    text = '1,"Hello, ""you"" 🎉 #fun"\n2,bare, comma,s\n'
    titles = titles_of(tmp_path, header + text, ["1", "2"])
    assert titles.titles == {"1": 'Hello, "you" 🎉 #fun', "2": "bare, comma,s"}
    swapped = "a, b | c,1\nd,2\n"
    assert titles_of(tmp_path, swapped, ["1", "2"]).titles == {"1": "a, b | c", "2": "d"}


def test_read_titles_reports_what_it_did(tmp_path: Path) -> None:
    text = "item,title,tag\n17.0,a\n00018,b,x\n19,c, d,x\n20,old,x\n20,new,x\n21,,x\n99,other,x\n"
    titles = titles_of(tmp_path, text, ["17", "18", "19", "20", "21", "22"])
    assert titles.titles == {"17": "a", "18": "b", "19": "c, d", "20": "new", "21": ""}
    assert titles.remarks == [
        "2 of 6 items have no title in x.csv",
        "x.csv: left out 1 row of items without interactions",
        "x.csv: matched 2 ids with another spelling, such as '17.0' for 17",
        "x.csv: used the last of several different rows for 1 item, such as 20",
        "x.csv: read surplus cells of 1 row as part of the title",
    ]


def test_read_titles_with_long_title_raises(tmp_path: Path) -> None:
    for line in ("5," + "a" * 140_000, '5,"' + "a" * 140_000 + '"', "5," + "a, b" * 40_000):
        with pytest.raises(ValueError, match=r"x.csv, (line|row) 2: .* 1[346]\d,\d+ characters"):
            titles_of(tmp_path, f"item,title\n{line}\n")
    with pytest.raises(ValueError, match=r"x.csv, line 2: it has more than 1,048,576 characters"):
        titles_of(tmp_path, "item,title\n5," + "a," * 600_000)


def test_read_titles_quoted_title_may_have_line_breaks(tmp_path: Path) -> None:
    text = '1,"two\r\nlines, 9 words"\r\n2,"of 2\n7,no item"\n3,"5"" tall\n'
    assert titles_of(tmp_path, text, ["1", "2", "3"]).titles == {
        "1": "two\r\nlines, 9 words",
        "2": "of 2\n7,no item",
        "3": '5" tall',
    }


@pytest.mark.parametrize(
    "text",
    [
        'item,title\n4,"of no user"\n5,"stray\n6,taken\n',
        'item,title\n4,"of no user"\n5,"stray\n\n"6","taken"\n',
        'item,title\n4,"of no user"\n5,"stray\n4,of no user\n 6 , taken in"\n7,"whole"\n',
        'title,item\n"of no user",4\n"stray,5\ntaken, in,6\n"whole",7\n',
    ],
)
def test_read_titles_unclosed_quote_before_other_items_raises(tmp_path: Path, text: str) -> None:
    reason = r'x.csv, line 3: .*not closed .*item "?6"? would be part of its title'
    with pytest.raises(ValueError, match=reason):
        titles_of(tmp_path, text, ["5", "6", "7"])


def test_read_titles_unclosed_quote_before_many_rows_raises(tmp_path: Path) -> None:
    # the items within the quote are no known ones, so that only its length tells
    text = '1,first\n2,"stray\n' + "100,of no user\n" * 20_000
    with pytest.raises(
        ValueError, match=r"x.csv, line 2: .* not closed \(field larger than field limit"
    ):
        titles_of(tmp_path, text, ["1", "2"])


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_read_titles_of_parquet_uses_named_columns(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table(
        {
            "txt_emb_BERT": [[0.5, 0.25]] * 10,
            "item_id": pa.array([int(item) for item in ITEMS] + [None], pa.int64()).cast(kind),
            "likes_level": [5] * 10,
            "views_level": [6] * 10,
            "item_title": pa.array([*TITLES.values(), None]).dictionary_encode(),
        }
    )
    path = tmp_path / "item_feature.parquet"
    pq.write_table(table, path)
    titles = read_titles(str(path), IdMatcher(ITEMS))
    assert titles.titles == TITLES
    assert titles.remarks == [
        "item_feature.parquet: left out 1 row of items without interactions",
        "item_feature.parquet: did not use likes_level and views_level, "
        "which are ranges and not counts",
    ]


def test_read_titles_of_parquet_that_expands_raises(tmp_path: Path) -> None:
    # 1 MB in the file
    titles = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["a" * 1_000_000])
    path = tmp_path / "x.parquet"
    # without arrow's schema, the column is one of plain texts
    pq.write_table(pa.table({"item": range(1000), "title": titles}), path, store_schema=False)
    with pytest.raises(ValueError, match=r"x.parquet: 1,000 rows of title have 1,000,000,000 byt"):
        read_titles(str(path), IdMatcher(ITEMS))


def test_read_titles_of_malformed_parquet_raises(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(ValueError, match=r"x.parquet is not a Parquet table: "):
        read_titles(str(path), IdMatcher(ITEMS))
    pq.write_table(pa.table({"a": [1], "b": ["x"], "c": [2]}), path)
    with pytest.raises(ValueError, match=r"x.parquet has no column of title: .*\[a \| b \| c\]"):
        read_titles(str(path), IdMatcher(ITEMS))


@pytest.mark.parametrize(
    "text",
    [
        "1\t12000\t414000\n2\t0\t5\n",
        "1 12000  414000\n2 0 5\n",
        "1,12000,414000\n2,0,5\n",
        "video_id,views,likes\n1.0,414000.0,1.2e4\n2.0,5.0,0.0\n",
        ",item,likes,views\n0,1,12000,414000\n1,2,,5\n",
    ],
)
def test_read_likes_and_views_of_any_layout(tmp_path: Path, text: str) -> None:
    assert counts_of(tmp_path, text, ["1", "2"]).counts == {"1": (12000, 414000), "2": (0, 5)}


def test_read_likes_and_views_reports_what_it_did(tmp_path: Path) -> None:
    text = "1\t\t5\n2\tNaN\t5.0\n3.0\t1\t1\n3\t1\t2\n9\t1\t1\n"
    counts = counts_of(tmp_path, text, ["1", "2", "3", "4"])
    assert counts.counts == {"1": (0, 5), "2": (0, 5), "3": (1, 2)}
    assert counts.remarks == [
        "1 of 4 items have no likes and views in x_likes.txt",
        "x_likes.txt: read 2 missing likes or views as 0",
        "x_likes.txt: left out 1 row of items without interactions",
        "x_likes.txt: used the rows with the exact id for 1 item, not those with another "
        "spelling, such as '3.0' for 3",
    ]


@pytest.mark.parametrize(
    "row", ["1\t12k\t5", "1\t-1\t5", "1\t1.5\t5", f"1\t{2**63}\t5", "1\t1e999\t5", "1\t1_000\t5"]
)
def test_read_likes_and_views_malformed_count_raises(tmp_path: Path, row: str) -> None:
    with pytest.raises(ValueError, match=r"x_likes.txt, line 2: expected .*2\^63 - 1.* item 1"):
        counts_of(tmp_path, f"2\t1\t1\n{row}\n")


def test_read_likes_and_views_malformed_row_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2: expected 3 columns, found 4: \[2 \| 1 \| 1"):
        counts_of(tmp_path, "1\t1\t1\n2\t1\t1\t1\n")
    with pytest.raises(ValueError, match=r"no column of views: .*\[item \| likes\]"):
        counts_of(tmp_path, "item,likes\n1,2\n")
    with pytest.raises(ValueError, match=r"no item of the interactions"):
        counts_of(tmp_path, "a\t1\t1\n")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_read_titles_exact_id_wins_over_other_spellings(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    # 01 may be another item, whose interactions are not in the data
    rows = ["1,ONE", "01,ZERO", "1.0,FLOAT"]
    text = "".join(f"{row}\n" for row in ["item,title", *[rows[place] for place in order], "2,TWO"])
    titles = titles_of(tmp_path, text, ["1", "2"])
    assert titles.titles == {"1": "ONE", "2": "TWO"}
    remark = "x.csv: used the rows with the exact id for 1 item, not those with another spelling"
    assert titles.remarks[0].startswith(remark)
    assert len(titles.remarks) == 1


def test_read_titles_other_spellings_alone_are_used(tmp_path: Path) -> None:
    titles = titles_of(tmp_path, "item,title\n01,A\n001,B\n2,TWO\n", ["1", "2"])
    assert titles.titles == {"1": "B", "2": "TWO"}
    assert titles.remarks == [
        "x.csv: matched 1 id with another spelling, such as '01' for 1",
        "x.csv: used the last of several different rows for 1 item, such as 1",
    ]
