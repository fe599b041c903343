"""The page of a data set: what it holds, items with frames, distributions, failures."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, VIEWS, look_at

from mlrec.data.format import FAILURES_FILE, read_catalogue, read_dataset_info
from mlrec.data.pictures import Strip
from mlrec.report.svg import histogram
from shards_tools.cli import main
from shards_tools.show.facts import quantiles
from shards_tools.show.measures import binned
from shards_tools.show.page import MAX_ITEMS, MAX_RAW_IDS, alt_text


@pytest.fixture
def failing_dir(dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the tiny data set with more failures than a page shows."""
    # the sequence table goes to the node's cache folder
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "data"
    shutil.copytree(dataset_dir, folder)
    lines = []
    for number in range(1, 301):
        # raw ids that are markup, and reasons that would widen the page
        reason = "no frames: " + "x" * 90
        failure = {"item": number, "raw_id": f"raw<{number}>", "kind": "video", "reason": reason}
        lines.append(json.dumps(failure) + "\n")
    (folder / FAILURES_FILE).write_text("".join(lines))
    return folder


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_write_page_in_a_browser_fits_and_shows_everything(
    failing_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.html"
    assert main(["show", str(failing_dir), "--html", str(out)]) == 0
    for width, scheme in VIEWS:
        seen = look_at(out, width, tmp_path / f"{width}.png", scheme)
        assert seen["violations"] == []
        # nothing is cut off, on a phone either
        assert (seen["width"], seen["overflow_px"], seen["sticking_out"]) == (width, 0, [])
        assert (seen["images"], seen["broken_images"], seen["without_alt"]) == (MAX_ITEMS, 0, 0)
        assert seen["broken_words"] == []
        assert len(seen["figures"]) == 4 and all(200 < figure < width for figure in seen["figures"])
        assert "5 JPEG frames of 32 x 32" in seen["text"] and "raw<1>" in seen["text"]
        # a reason with the first of its raw ids
        assert "300 files: no frames: xxx" in seen["text"]
        assert f"raw<{MAX_RAW_IDS}> and {300 - MAX_RAW_IDS} more" in seen["text"]
        assert f"raw<{MAX_RAW_IDS + 1}>" not in seen["text"]


def test_write_page_every_link_has_a_section_and_every_picture_names_its_item(
    failing_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.html"
    assert main(["show", str(failing_dir), "--html", str(out)]) == 0
    page = out.read_text()
    links = re.findall(r'<a href="#(\w+)">', page)
    assert len(links) == 7
    assert all(page.count(f'id="{link}"') == 1 for link in links)
    texts = re.findall(r'<img alt="([^"]*)"', page)
    assert len(texts) == MAX_ITEMS
    catalogue = read_catalogue(str(failing_dir), read_dataset_info(str(failing_dir)))
    titles = {}
    for item in range(1, catalogue.size + 1):
        titles[str(catalogue.table["raw_id"][item - 1])] = catalogue.title(item)
    for text in map(html.unescape, texts):
        shown = re.fullmatch(r"Item (\S+), (.+): frames 1, 2, 3, 4, 5 of 5", text)
        assert shown and titles[shown[1]] == shown[2]


def test_write_page_splits_and_percentiles_are_those_of_the_data(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "sheet.html"
    assert main(["show", str(dataset_dir), "--html", str(out)]) == 0
    page = out.read_text()
    url = str(dataset_dir)
    info = read_dataset_info(url)
    catalogue = read_catalogue(url, info)
    counts = info.counts
    split = page[page.index('id="splits"') : page.index('id="distributions"')]
    cells = re.findall(r"<td>(.*?)</td>", split)
    parts = [counts["train"], counts["validation"], counts["test"]]
    parts.append(counts["interactions"] - sum(parts))
    assert cells[::2] == [f"{part:,}" for part in parts if part]
    shares = [float(share.removesuffix(" %")) for share in cells[1::2]]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    popularity = np.sort(catalogue.popularity_N1[catalogue.ok_N1])
    (row,) = re.findall(r"item popularity.*</tr>", page)
    percentiles = [int(cell.replace(",", "")) for cell in re.findall(r"<td>(.*?)</td>", row)]
    assert (percentiles[0], percentiles[-1]) == (popularity[0], popularity[-1])
    places = np.round(np.array([0.05, 0.25, 0.5, 0.75, 0.95]) * (len(popularity) - 1)).astype(int)
    assert percentiles[1:-1] == popularity[places].tolist()


def test_quantiles_are_values_that_occur() -> None:
    values = np.array([7, 0, 0, 1, 100])
    assert list(quantiles(values).values()) == [0, 0, 0, 1, 7, 100, 100]
    assert quantiles(values[:0]) == {}


def test_alt_text_names_item_title_and_frames() -> None:
    strip = Strip(b"", (100, 300), 400)
    assert alt_text("17", "A boat", strip) == "Item 17, A boat: frames 100, 300 of 400"
    assert alt_text("17", "", Strip(b"", (1,), 1)) == "Item 17, without a title: frame 1 of 1"
    assert alt_text("17", "A boat", Strip(b"", (), 0)) == "Item 17, A boat: cover"


def test_write_page_other_ending_is_bad_input(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(dataset_dir), "--html", str(tmp_path / "sheet.pdf")]) == 2
    assert "sheet.pdf must end in .html" in capsys.readouterr().err


def test_binned_covers_every_value_once() -> None:
    assert binned(np.array([], dtype=int)) == ([], [])
    # a small range has one bin per value, empty ones included
    assert binned(np.array([5, 5, 7])) == (["5", "6", "7"], [2, 0, 1])
    # a large range has bins that grow
    labels, counts = binned(np.array([0, 1, 3, 9, 1000, 2500]))
    assert labels == [
        "0",
        "1",
        "2-4",
        "5-9",
        "10-19",
        "20-49",
        "50-99",
        "100-199",
        "200-499",
        "500-999",
        "1k-2k",
        "2k-5k",
    ]
    assert counts == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]


def test_histogram_counts_have_whole_ticks_with_thousands() -> None:
    drawn = str(histogram(["0-9", "10-19"], [1, 2], "Items by size", "kB").svg)
    assert set(re.findall(r">([\d.,]+)</text>", drawn)) == {"0", "1", "2"}
    drawn = str(histogram(["0-9", "10-19"], [1, 20_000], "Items by size", "kB").svg)
    assert ">20,000</text>" in drawn and ">20000</text>" not in drawn


def test_show_writes_the_page_before_a_reader_leaves(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("shards_tools.commands.show.print_json", leave)
    out = tmp_path / "sheet.html"
    assert main(["show", str(dataset_dir), "--html", str(out), "--json"]) != 0
    assert out.exists()
