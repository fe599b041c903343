"""Encodings of tables that are not UTF-8."""

from pathlib import Path

import pytest

from shards_tools.raw.tables import open_text

CHINESE = [
    "第一个视频 搞笑反转",
    "老婆一天刷二十万 老公停卡没想到",
    "三百岁的老人都不放过 #动漫",
    "一分钟学会做蛋糕 今天给大家分享一道家常菜",
    "如何用手机拍出好看的照片",
    "猫咪的日常生活",
]
TAIWANESE = ["第一個影片 搞笑反轉 結局意想不到", "老婆一天刷二十萬 老公停卡沒想到"]
JAPANESE = ["面白い動画まとめ", "猫のかわいい瞬間", "ラーメンの作り方", "今日の東京の天気です"]
KOREAN = [
    "재미있는 영상 모음과 고양이의 하루",
    "라면 끓이는 법을 알려 드립니다",
    "오늘의 날씨와 여행 일기",
    "게임 방송에서 부른 노래",
    "초보자를 위한 요리 교실",
    "기차를 타고 떠나는 바다 여행",
    "주말에 보기 좋은 만화 추천",
    "새해 복 많이 받으세요 여러분",
    "강아지와 함께 걷는 공원 산책",
    "집에서 따라 하는 운동 십분",
    "한국의 아름다운 사계절 풍경",
    "직장인의 점심 도시락 만들기",
]
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


@pytest.mark.parametrize(
    ("titles", "encoding", "guess", "command"),
    [
        (["视频"], "gb18030", "GB18030 (Chinese), BIG5 (traditional Chinese), ", "GB18030"),
        (TAIWANESE, "big5", "GB18030 (Chinese) or BIG5 (traditional Chinese)", "GB18030"),
        (JAPANESE, "shift_jis", "GB18030 (Chinese) or SHIFT_JIS (Japanese)", "GB18030"),
        (KOREAN, "cp949", "CP949 (Korean), GB18030 (Chinese) or EUC-JP (Japanese)", "CP949"),
    ],
)
def test_open_text_of_an_unclear_encoding_names_all_that_fit(
    tmp_path: Path, titles: list[str], encoding: str, guess: str, command: str
) -> None:
    path = tmp_path / "titles.csv"
    rows = [f"{item},{titles[item % len(titles)]}\n" for item in range(500)]
    path.write_bytes("".join(["item,title\n", *rows]).encode(encoding))
    with pytest.raises(ValueError, match="It may be ") as error:
        read(path)
    assert f"It may be {guess}" in str(error.value)
    assert f"convert it: iconv -f {command} -t UTF-8 titles.csv > NEW_FILE" in str(error.value)


def test_open_text_of_few_chinese_characters_prefers_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    for text in ("用户,视频,1600000000\n", "u1,搞笑,1\nu2,旅行,2\nu3,美食,3\n", "u1,狗\n"):
        path.write_bytes(text.encode("gb18030"))
        with pytest.raises(ValueError, match=r"It (may be|looks like) GB18030.* iconv -f GB18030"):
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
    with pytest.raises(ValueError, match=r"not UTF-8 text: line 1 has a zero byte. Remove its"):
        read(path)


def test_open_text_of_a_zero_byte_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"user,item\n1,2\n1,x\0y\n" + b"1,3\n" * 1000)
    with pytest.raises(ValueError, match=r"line 3 has a zero byte. Remove its zero bytes, or save"):
        read(path)
