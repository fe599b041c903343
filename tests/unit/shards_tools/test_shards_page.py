"""The page of a data set: what it holds, items with frames, distributions, failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, DESKTOP, PHONE, look_at

from mlrec.data.format import FAILURES_FILE
from shards_tools.cli import main
from shards_tools.show.page import MAX_FAILURES, MAX_ITEMS, binned


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
    for width in (DESKTOP, PHONE):
        seen = look_at(out, width, tmp_path / f"{width}.png")
        # nothing is cut off, on a phone either
        assert (seen["width"], seen["overflow_px"], seen["sticking_out"]) == (width, 0, [])
        assert (seen["images"], seen["broken_images"]) == (MAX_ITEMS, 0)
        assert len(seen["figures"]) == 4 and all(200 < figure < width for figure in seen["figures"])
        assert "5 JPEG frames of 32 x 32" in seen["text"] and "raw<1>" in seen["text"]
        # grouped, then one by one
        assert "no frames: xxx" in seen["text"] and "raw<1>, raw<2>, raw<3>, ..." in seen["text"]
        assert (
            f"300 raw files could not be packed. These are the first {MAX_FAILURES}" in seen["text"]
        )


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
