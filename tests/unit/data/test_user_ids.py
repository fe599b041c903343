"""Users keep the ids of the raw data, whatever these look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from packed import SETTINGS, pack, samples

from mlrec.config import DataConfig
from mlrec.data.stream import open_data


def write_pairs(folder: Path, users: list[str]) -> None:
    folder.mkdir()
    lines = [
        f"{user}\t{' '.join(str(place + step) for step in range(6))}\n"
        for place, user in enumerate(users)
    ]
    (folder / "x_pairs.tsv").write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    "users", [["alice", "bob smith", "Ünal 🎬"], ["007", "8", "10"], ["5.5", "6.5"], ["1", "01"]]
)
def test_raw_user_ids_that_are_no_numbers_are_stored_and_found(
    users: list[str], tmp_path: Path
) -> None:
    write_pairs(tmp_path / "raw", users)
    pack(tmp_path / "raw", tmp_path / "out", SETTINGS)
    table = open_data(
        DataConfig(url=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    ).sequences
    assert [table.raw_user(number) for number in range(len(users))] == users
    for spelling in ("{}", " {} "):
        numbers = [table.number_of(spelling.format(user)) for user in users]
        assert numbers == list(range(len(users)))
    with pytest.raises(ValueError, match=r"has no user 'nobody'; its first ones are"):
        table.number_of("nobody")


def test_raw_user_ids_with_commas_are_named_in_quotes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rows = []
    for user in ("B", '"I,1"'):
        for item in range(6):
            rows.append(f"{user},{item},{item}\n")
    (tmp_path / "raw/x_pairs.csv").write_text("user,item,timestamp\n" + "".join(rows))
    pack(tmp_path / "raw", tmp_path / "out", SETTINGS)
    config = DataConfig(url=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r'has no user .x.; its first ones are B, "I,1"$'):
        open_data(config).sequences.number_of("x")


def test_raw_user_ids_that_are_numbers_need_no_members_of_their_own(tmp_path: Path) -> None:
    write_pairs(tmp_path / "raw", ["30", "4"])
    pack(tmp_path / "raw", tmp_path / "out", SETTINGS)
    (sample,) = samples(tmp_path / "out", "sequences")
    assert {name for name in sample if not name.startswith("__")} == {
        "users.npy",
        "offsets.npy",
        "items.npy",
    }
    table = open_data(
        DataConfig(url=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    ).sequences
    assert (table.number_of("4"), table.raw_user(0)) == (1, "30")
    for unknown in ("04", "4.0", "٤", "-4", "1" * 40):
        with pytest.raises(ValueError, match="has no user"):
            table.number_of(unknown)


def test_raw_user_ids_of_spreadsheets_lose_their_fraction(tmp_path: Path) -> None:
    write_pairs(tmp_path / "raw", ["5.0", "6.0"])
    pack(tmp_path / "raw", tmp_path / "out", SETTINGS)
    table = open_data(
        DataConfig(url=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    ).sequences
    assert [table.number_of("5"), table.number_of("6")] == [0, 1]
