from pathlib import Path

import numpy as np
import pytest

from shards_tools.raw.folder import fingerprint, open_raw
from shards_tools.raw.interactions import Interactions, number_items
from shards_tools.raw.item_tables import read_likes_and_views, read_titles
from shards_tools.raw.listing import media_files
from shards_tools.raw.pairs_csv import read_pairs_csv
from shards_tools.raw.pairs_tsv import read_pairs_tsv


def runs(interactions: Interactions) -> dict[int, list[str]]:
    sequences = interactions.sequences
    parts = np.split(sequences.items, sequences.offsets[1:-1])
    return {
        int(user): [interactions.raw_ids[at] for at in part]
        for user, part in zip(sequences.users, parts, strict=True)
    }


def write(path: Path, text: str) -> str:
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
    rows = [f" {user} , i{user % 7}\t,{user}" for user in range(50, 20, -1) for _ in range(2)]
    path = write(tmp_path / "x_pairs.csv", "\n".join(rows))
    for size in (64, 1 << 20):
        monkeypatch.setattr("shards_tools.raw.pairs_csv.CSV_BLOCK_BYTES", size)
        interactions = read_pairs_csv(path)
        assert runs(interactions) == {user: [f"i{user % 7}"] * 2 for user in range(50, 20, -1)}
        assert interactions.sequences.users.tolist() == list(range(50, 20, -1))
        assert len(interactions.raw_ids) == 7


def test_read_pairs_tsv_users_without_distinct_numbers_are_numbered(tmp_path: Path) -> None:
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
            r"x_pairs.csv: 2 rows have no item; give every row one",
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
    path.write_bytes(b"1\t2 \xff\n")
    with pytest.raises(ValueError, match=r"x_pairs.tsv is not UTF-8 text"):
        read_pairs_tsv(str(path))


def test_number_items_sorts_by_number_or_else_by_name(tmp_path: Path) -> None:
    numbers = number_items(read_pairs_tsv(write(tmp_path / "a_pairs.tsv", "1\t10 9 100 9\n")))
    assert (numbers.raw_ids, numbers.sequences.items.tolist()) == (["9", "10", "100"], [1, 0, 2, 0])
    names = number_items(read_pairs_tsv(write(tmp_path / "b_pairs.tsv", "1\t10 9 x\n")))
    assert (names.raw_ids, names.sequences.items.tolist()) == (["10", "9", "x"], [0, 1, 2])


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


def test_open_raw_finds_parts_by_name(tmp_path: Path) -> None:
    for folder in ("MicroLens-9_videos", "MicroLens-9_covers"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "MicroLens-9_pairs.tsv", "1\t2\n")
    write(tmp_path / "MicroLens-9_title_en.csv", "2,x\n")
    (tmp_path / "MicroLens-9_videos" / "2.mp4").touch()
    (tmp_path / "MicroLens-9_videos" / ".DS_Store").touch()
    (tmp_path / "MicroLens-9_videos" / "3.mp4").symlink_to(tmp_path / "absent")
    raw = open_raw(str(tmp_path))
    assert (raw.name, raw.audio, raw.likes_and_views) == ("MicroLens-9", None, None)
    assert {name: file.url for name, file in media_files(raw.videos).items()} == {
        "2": f"{tmp_path}/MicroLens-9_videos/2.mp4"
    }
    assert media_files(raw.covers) == media_files(raw.audio) == {}


def test_open_raw_prefers_csv_with_times(tmp_path: Path) -> None:
    write(tmp_path / "x_pairs.tsv", "1\t2\n")
    write(tmp_path / "x_pairs.csv", "1,2,3\n")
    assert open_raw(str(tmp_path)).pairs == f"{tmp_path}/x_pairs.csv"


def test_open_raw_missing_or_repeated_part_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no interactions"):
        open_raw(str(tmp_path))
    with pytest.raises(ValueError, match="is not a folder"):
        open_raw(str(tmp_path / "absent"))
    write(tmp_path / "a_pairs.tsv", "1\t2\n")
    write(tmp_path / "b_pairs.tsv", "1\t2\n")
    with pytest.raises(ValueError, match=r"a_pairs.tsv, b_pairs.tsv; leave one"):
        open_raw(str(tmp_path))


def test_fingerprint_changes_with_tables_and_media(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write(tmp_path / "x_pairs.tsv", "1\t2\n")
    seen = {fingerprint(open_raw(str(tmp_path)))}
    write(tmp_path / "x_pairs.tsv", "1\t3\n")
    seen.add(fingerprint(open_raw(str(tmp_path))))
    write(tmp_path / "videos" / "3.mp4", "a")
    seen.add(fingerprint(open_raw(str(tmp_path))))
    assert len(seen) == 3
    assert fingerprint(open_raw(str(tmp_path))) in seen


def test_open_table_shows_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlrec.runtime.progress.FIRST_LINE_S", 0.0)
    path = write(tmp_path / "x_pairs.tsv", "".join(f"{user}\t1 2 3\n" for user in range(100_000)))
    assert len(read_pairs_tsv(path).sequences.users) == 100_000
    said = capsys.readouterr().err
    assert (
        "reading x_pairs.tsv  0.0 MB/1.2 MB  0:00:00 left" in said
        and "1.2 MB/1.2 MB  took 0:00:" in said
    )


def test_media_files_storage_without_sizes_lists_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [{"name": "http://host/videos/1.mp4", "type": "file", "size": None}]
    monkeypatch.setattr("mlrec.storage.list_folder", lambda url: found)
    assert media_files("http://host/videos")["1"].size is None
