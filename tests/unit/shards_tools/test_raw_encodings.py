"""Encodings of tables that are not UTF-8."""

from pathlib import Path

import pytest

from shards_tools.raw.tables import open_text

CHINESE = ["第一个视频 搞笑反转", "老婆一天刷二十万 老公停卡没想到", "三百岁的老人都不放过 #动漫"]
TAIWANESE = ["第一個影片 搞笑反轉 結局意想不到", "老婆一天刷二十萬 老公停卡沒想到"]
JAPANESE = ["面白い動画まとめ", "猫のかわいい瞬間", "ラーメンの作り方", "今日の東京の天気です"]
RUSSIAN = ["Привет мир, смешное видео", "Как приготовить борщ", "Котики играют"]
FRENCH = ["Une journée à la plage", "C'est déjà l'été", "Recette de grand-mère", "Très drôle"]


def read(path: Path) -> None:
    """Read all of a text file."""
    with open_text(str(path)) as file:
        file.read()


@pytest.mark.parametrize(
    ("titles", "encoding", "name"),
    [
        (CHINESE, "gb18030", "GB18030"),
        (TAIWANESE, "big5", "BIG5"),
        (JAPANESE, "shift_jis", "SHIFT_JIS"),
        (RUSSIAN, "cp1251", "WINDOWS-1251"),
        (FRENCH, "cp1252", "WINDOWS-1252"),
        (FRENCH, "utf-16", "UTF-16"),
        # without a byte order mark, most of the bytes are valid UTF-8
        (FRENCH, "utf-16-le", "UTF-16LE"),
    ],
)
def test_open_text_of_another_encoding_names_it(
    tmp_path: Path, titles: list[str], encoding: str, name: str
) -> None:
    path = tmp_path / "my titles.csv"
    rows = [f"{item},{titles[item % len(titles)]}\n" for item in range(2000)]
    path.write_bytes("".join(["item,title\n", *rows]).encode(encoding))
    command = f"iconv -f {name} -t UTF-8 'my titles.csv' > NEW_FILE"
    with pytest.raises(ValueError, match=f"not UTF-8 text.* like {name}. Convert it: {command}"):
        read(path)


def test_open_text_of_late_bytes_names_their_encoding(tmp_path: Path) -> None:
    path = tmp_path / "titles.csv"
    rows = [f"{item},title {item}\n" for item in range(100_000)]
    path.write_bytes("".join(rows).encode() + b"100000,caf\xe9 cr\xe8me\n")
    with pytest.raises(ValueError, match=r"titles.csv is not UTF-8 text .* like WINDOWS-1252"):
        read(path)


def test_open_text_of_a_binary_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "titles.csv"
    path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 100)
    with pytest.raises(ValueError, match=r"not UTF-8 text: it has zero bytes. Save it as UTF-8"):
        read(path)
