"""The files of a raw folder with titles, and with likes and views."""

from pathlib import Path

import pytest
from packed import open_packed

from mlrec.data.format import read_dataset_info
from shards_tools.cli import main
from shards_tools.raw.items.files import find_likes_and_views, find_titles


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (["MicroLens-50k_titles.csv"], "MicroLens-50k_titles.csv"),
        (["MicroLens-100k_title_en.csv"], "MicroLens-100k_title_en.csv"),
        (["X_Titles.TXT", "x_pairs.tsv"], "X_Titles.TXT"),
        (["titles.tsv"], "titles.tsv"),
        (["x.inter", "x.item"], "x.item"),
        (["train.parquet", "item_feature.parquet"], "item_feature.parquet"),
        (["x_title_cn.csv"], "x_title_cn.csv"),
        (["._x_titles.csv", "x_tags.csv"], None),
    ],
)
def test_find_titles_returns_the_file_with_titles(names: list[str], used: str | None) -> None:
    url = None if used is None else f"raw/{used}"
    assert find_titles("raw", names) == (url, [])


@pytest.mark.parametrize(
    "names",
    [
        ["x_titles.csv", "x_title_en.csv", "x.item", "x_title_cn.csv"],
        ["x_title_en.csv", "x_title_cn.csv"],
        ["x.item", "x_title_zh.csv"],
    ],
)
def test_find_titles_of_several_prefers_english(names: list[str]) -> None:
    best, *others = names
    remark = f"{best}: its titles are used, those of {', '.join(others)} are not"
    assert find_titles("raw", reversed(names)) == (f"raw/{best}", [remark])


def test_find_titles_of_equal_files_raises() -> None:
    with pytest.raises(
        ValueError, match=r"several files with titles: a_titles.csv, b_titles.txt. .*--titles FILE"
    ):
        find_titles("raw", ["b_titles.txt", "a_titles.csv", "x_title_en.csv"])


def test_find_titles_names_unread_tables() -> None:
    titles = find_titles("raw", ["x_titles.xlsx", "x_title_features.npy"])
    assert titles.url is None
    assert titles.remarks == [
        "x_titles.xlsx: did not read titles from it; save it as CSV in UTF-8, "
        "and pass it with --titles"
    ]


def test_find_likes_and_views_in_any_case() -> None:
    for name in ("x_likes_and_views.txt", "X_LIKES_AND_VIEWS.CSV"):
        assert find_likes_and_views("raw", ["x_pairs.tsv", name]) == f"raw/{name}"
    assert find_likes_and_views("raw", ["x_pairs.tsv"]) is None
    with pytest.raises(ValueError, match="several files with likes and views: a_likes_and_views"):
        find_likes_and_views("raw", ["b_likes_and_views.csv", "a_likes_and_views.txt"])


def write_raw(folder: Path) -> None:
    """Write a raw folder of interactions with the items 1 to 9."""
    folder.mkdir()
    rows = [
        f"{user},{(user + time) % 9 + 1},{1_700_000_000 + time}\n"
        for user in range(9)
        for time in range(8)
    ]
    (folder / "x_pairs.csv").write_text("user,item,timestamp\n" + "".join(rows))


def write_titles(path: Path, word: str) -> None:
    """Write a table of titles that begin with `word`."""
    rows = [f"{item},{word} {item}\n" for item in range(1, 10)]
    path.write_text("item,title\n" + "".join(rows), encoding="utf-8")


def packed_titles(out: Path) -> set[str]:
    """Return the first words of the packed titles."""
    return {title.split()[0] for title in read_titles_of(out)}


def read_titles_of(out: Path) -> list[str]:
    """Return the titles of a data set."""
    return open_packed(out)[1].table["title"].to_pylist()


def test_make_with_titles_uses_that_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    write_raw(raw)
    write_titles(raw / "x_title_en.csv", "english")
    write_titles(raw / "x_title_cn.csv", "chinese")
    write_titles(tmp_path / "mine.txt", "own")
    monkeypatch.chdir(tmp_path)
    assert main(["make", "raw", "out"]) == 0
    remark = "x_title_en.csv: its titles are used, those of x_title_cn.csv are not"
    assert remark in capsys.readouterr().out
    assert read_dataset_info("out").remarks == (remark,)
    assert packed_titles(tmp_path / "out") == {"english"}

    assert main(["make", "raw", "own", "--titles", "mine.txt"]) == 0
    assert packed_titles(tmp_path / "own") == {"own"}
    assert read_dataset_info("own").remarks == ()
    # its content counts: the same command with other titles is another data set
    assert main(["make", "raw", "own", "--titles", "mine.txt"]) == 0
    write_titles(tmp_path / "mine.txt", "other")
    assert main(["make", "raw", "own", "--titles", "mine.txt"]) == 2
    assert main(["make", "raw", "new", "--titles", "absent.txt"]) == 2
    assert "--titles absent.txt does not exist" in capsys.readouterr().err
    assert main(["make", "raw", "new", "--titles", "mine.txt", "--without", "titles"]) == 2
    assert "--titles mine.txt contradicts --without titles" in capsys.readouterr().err


def test_make_without_titles_looks_for_none(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_raw(raw)
    write_titles(raw / "x_titles.csv", "one")
    write_titles(raw / "x_titles.txt", "other")
    assert main(["make", str(raw), str(tmp_path / "out"), "--without", "titles"]) == 0
    assert set(read_titles_of(tmp_path / "out")) == {""}


def test_repair_with_titles_uses_that_file(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_raw(raw)
    write_titles(tmp_path / "mine.txt", "own")
    out = tmp_path / "out"
    titles = ["--titles", str(tmp_path / "mine.txt")]
    assert main(["make", str(raw), str(out), *titles]) == 0
    intact = (out / "catalogue.parquet").read_bytes()
    (out / "catalogue.parquet").write_bytes(intact[:-1] + b"x")
    assert main(["repair", str(raw), str(out), *titles]) == 0
    assert (out / "catalogue.parquet").read_bytes() == intact


def test_make_with_a_table_of_items_without_titles_says_so(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_raw(raw)
    (raw / "x.item").write_text("item_id:token\tgenre:token_seq\tyear:token\n1\tComedy\t1995\n")
    assert main(["make", str(raw), str(tmp_path / "out")]) == 0
    (remark,) = read_dataset_info(str(tmp_path / "out")).remarks
    assert remark.startswith("no titles: x.item has no column of title: its columns are [item_id")


def test_make_names_a_spreadsheet_with_titles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    write_raw(raw)
    (raw / "x_titles.xlsx").write_bytes(b"PK")
    assert main(["make", str(raw), str(tmp_path / "out"), "--dry-run"]) == 0
    assert "x_titles.xlsx: did not read titles from it; save it" in capsys.readouterr().out
