"""What became of the raw data: every row, user and item is packed, or left out with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.data.format import read_catalogue, read_dataset_info
from shards_tools.cli import main
from shards_tools.show.accounts import Account, accounts, percentage

HEADER = "user,item,timestamp\n"


def account_of(raw: Path, out: Path, *options: str) -> dict[str, Account]:
    """Pack a raw folder and return its accounts by name."""
    command = ["make", str(raw), str(out), "--size", "32", "--workers", "1", *options]
    assert main(command) == 0
    info = read_dataset_info(str(out))
    return {account.name: account for account in accounts(info, read_catalogue(str(out), info))}


def counts_of(account: Account) -> dict[str, int]:
    """Return the counts of an account by line."""
    return {line.name: line.count for line in account.lines}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a raw folder with 100 rows of which some are equal, unreadable, repeated or few."""
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = []
    for user in range(18):
        rows += [f"u{user},i{(user + place) % 9},{place}" for place in range(5)]
    # i1 a second time, for a user who has it already
    rows.append("u0,i1,7")
    rows += ["u20,i1,1", "u20,i2,2", "u21,rare,1"]
    rows += ["u0,i0,0", "u1,i1,0"]
    rows += ["x", "y", "z", "u3,i3,noon"]
    assert len(rows) == 100
    (raw / "log_pairs.csv").write_text(HEADER + "\n".join(rows) + "\n")
    return raw


def test_accounts_of_interactions_add_up_to_the_rows_of_the_log(log: Path, tmp_path: Path) -> None:
    kept = account_of(log, tmp_path / "kept")
    assert counts_of(kept["Interactions"]) == {
        "packed": 91,
        "too few interactions": 3,
        "equal rows": 2,
        "unreadable rows": 4,
    }
    assert kept["Interactions"].total == 100
    assert counts_of(kept["Users"]) == {"packed": 18, "too few interactions": 2}
    merged = account_of(log, tmp_path / "merged", "--repeats", "first")
    assert counts_of(merged["Interactions"])["merged repeats"] == 1
    assert counts_of(merged["Interactions"])["packed"] == 90
    assert merged["Interactions"].total == 100


def test_accounts_of_media_add_up_to_the_packed_items(raw_copy: Path, tmp_path: Path) -> None:
    (raw_copy / "videos" / "7.mp4").unlink()
    (raw_copy / "videos" / "8.mp4").write_bytes(b"no video")
    (raw_copy / "covers" / "9.jpg").write_bytes(b"no image")
    (raw_copy / "covers" / "10.jpg").unlink()
    groups = account_of(raw_copy, tmp_path / "out")
    assert counts_of(groups["Items"]) == {"packed": 58, "failed": 2}
    assert counts_of(groups["Covers"]) == {"packed": 56, "no file": 1, "failed": 1}
    assert counts_of(groups["Titles"]) == {"packed": 58}
    assert groups["Interactions"].lines[1].name == "failed items"
    assert all(line.reason for line in groups["Interactions"].lines[1:])


def test_percentage_rounds_neither_to_all_nor_to_none() -> None:
    assert percentage(0, 10) == "0 %"
    assert percentage(1, 1_000_000) == "< 0.1 %"
    assert percentage(1, 3) == "33.3 %"
    assert percentage(999_999, 1_000_000) == "> 99.9 %"
    assert percentage(10, 10) == "100 %"
