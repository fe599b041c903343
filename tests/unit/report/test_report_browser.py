"""The report's page in a real browser: on a desk and on a phone, with two runs and with many."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, DESKTOP, PHONE, VIEWS, look_at
from made_runs import make_run
from PIL import Image

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.config.run_files import METRICS_FILE
from mlrec.data.stream import Data
from mlrec.evaluation.evaluate import evaluate
from mlrec.evaluation.examples import RECOMMENDED_ITEMS, SHOWN_HISTORY_ITEMS
from mlrec.models.building import build_model
from mlrec.report.examples import RUNS_SHOWN, USERS_SHOWN
from mlrec.report.html import NUM_OPEN_USERS
from mlrec.report.published import TUNINGS, VIDEO_ENCODERS
from mlrec.report.report import write_report
from mlrec.runs.recommendations import read_recommended, write_recommended
from mlrec.runtime.distributed import World

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)


@pytest.fixture
def run(video_config: Config, data: Data, tmp_path: Path) -> Path:
    """A run on the tiny data set whose recommendations are an untrained model's."""
    path = make_run(tmp_path / "runs" / "video_run", fingerprint=data.info.fingerprint)
    configuration.save(video_config, path / "config.yaml")
    with (path / METRICS_FILE).open("a") as file:
        speed = {
            "speed/users_per_s": 100.0,
            "speed/data_wait": 0.25,
            "data/remote_bytes": 5e6,
            "memory/peak_bytes": 2e9,
        }
        file.write(json.dumps({"step": 110, "time": 110.0, **speed}) + "\n")
    world = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))
    evaluation = evaluate(
        build_model(video_config, data, 0), data, video_config, world, "test", recommend=True
    )
    assert evaluation.recommended is not None
    write_recommended(path, evaluation.recommended)
    return path


def test_recommendations_are_counted_and_read_back(run: Path, data: Data) -> None:
    recommended = read_recommended(run)
    assert recommended is not None
    assert (
        sum(recommended.popularity["recommended"].values()) == recommended.users * RECOMMENDED_ITEMS
    )
    assert sum(recommended.popularity["catalogue"].values()) == data.catalogue.ok_N1.sum()
    for entry in recommended.examples:
        assert (entry.rank <= RECOMMENDED_ITEMS) == (entry.target in entry.items)
        assert len(set(entry.items)) == RECOMMENDED_ITEMS and not set(entry.items) & (
            set(entry.history) - {entry.target}
        )
        assert len(entry.history) <= SHOWN_HISTORY_ITEMS and {entry.target, *entry.items} <= set(
            recommended.titles
        )
    (run / "recommended.json").write_text('{"split": "test"}')
    with pytest.raises(
        ValueError,
        match=r"recommended\.json is invalid: .*mlrec evaluate .*video_run writes it again",
    ):
        read_recommended(run)


@needs_chromium
def test_report_page_with_frames_fits_desktop_and_phone(run: Path, tmp_path: Path) -> None:
    out = write_report([run], tmp_path / "report.html")
    for width, scheme in VIEWS:
        seen = look_at(out, width, tmp_path / "shot.png", scheme)
        assert (seen["width"], seen["overflow_px"], seen["sticking_out"]) == (width, 0, [])
        assert seen["violations"] == []
        assert (
            seen["images"] >= USERS_SHOWN * (RECOMMENDED_ITEMS + 2) and seen["broken_images"] == 0
        )
        assert len(seen["figures"]) == 5  # loss, validation, two by popularity, waiting
        assert all(200 < figure < width for figure in seen["figures"])
        assert {
            "hovered": "video_run\nstep 10: 4.7000",
            "stepped": "video_run\nstep 20: 4.4000",
            "isHidden": True,
        } in seen["values"]
        for words in (
            "recommends; the item watched next has rank",
            "Cold items",
            "users/s",
            "25 %",
            "5 MB",
        ):
            assert words in seen["text"]
        with Image.open(tmp_path / "shot.png") as image:
            assert (
                image.width == width
                and len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50
            )


@needs_chromium
def test_report_page_of_45_runs_stays_readable(run: Path, tmp_path: Path) -> None:
    paths = []
    for number, (row, tuning) in enumerate(
        (row, tuning) for row in VIDEO_ENCODERS for tuning in TUNINGS
    ):
        path = make_run(
            tmp_path / f"video_encoders_{row.encoder.split('/')[1]}_{tuning}",
            1 + number / 45,
            row.encoder,
        )
        item = configuration.ItemConfig(encoders=(row.encoder,), tuning=tuning)  # type: ignore[arg-type]
        data = configuration.DataConfig(url=str(tmp_path / "gone"))
        configuration.save(Config(name=path.name, item=item, data=data), path / "config.yaml")
        shutil.copy(run / "recommended.json", path)
        paths.append(path)
    (paths[0] / "results.json").unlink()
    out = write_report(paths, tmp_path / "report.html")
    for width in (DESKTOP, PHONE):
        seen = look_at(out, width, tmp_path / "shot.png")
        assert seen["violations"] == []
        assert (seen["width"], seen["overflow_px"], seen["sticking_out"]) == (width, 0, [])
        assert seen["title"] == "45 runs" and seen["height"] < 15_000
        assert "38 others" in seen["text"] and "best 7 of 45 runs" in seen["text"]
        assert "Video encoders, by their ACC@5" in seen["text"]
        assert (
            f"Titles only: cannot read the data set from here ({tmp_path}/gone is missing"
            in seen["text"]
        )
        assert seen["images"] == 0
        assert seen["text"].count("recommends; the item watched") == NUM_OPEN_USERS * RUNS_SHOWN
        assert f"{USERS_SHOWN - NUM_OPEN_USERS} more users" in seen["text"]


@needs_chromium
def test_report_page_with_long_names_keeps_values_in_sight(tmp_path: Path) -> None:
    names = ["a_run_with_a_long_name_" * 5 + "1", "x" * 110, "words of a name " * 6 + "end"]
    paths = [make_run(tmp_path / name) for name in names]
    out = write_report(paths, tmp_path / "report.html")
    for width in (DESKTOP, PHONE):
        seen = look_at(out, width, tmp_path / "shot.png")
        assert (seen["overflow_px"], seen["sticking_out"], seen["broken_words"]) == (0, [], [])
        assert seen["violations"] == []
        if width == DESKTOP:
            assert seen["cut_off"] == []
        else:
            # the column of names stays in place while the figures next to it scroll
            assert max(seen["names"]) < 0.55 * PHONE


def test_report_other_data_set_at_the_url_is_not_shown(run: Path, tmp_path: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    info["dataset"]["fingerprint"] = "0" * 64
    (run / "run.json").write_text(json.dumps(info))
    page = write_report([run], tmp_path / "report.html")
    text = page.read_text().replace("<wbr>", "")
    assert (
        "now holds another data set than the one that video_run was trained on" in text
        and "<img" not in text
    )
