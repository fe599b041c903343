"""The command and the page of the paper's tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, PHONE, VIEWS, look_at
from made_runs import place_run

from mlrec.cli.main import run_command
from mlrec.config import ItemConfig
from mlrec.report.paper import PAPER_TABLES
from mlrec.report.published import (
    TUNINGS,
    VIDEO_ENCODERS,
)
from mlrec.report.report import write_report
from mlrec.report.runs import read_run


def printed(arguments: Sequence[Any], capsys: pytest.CaptureFixture[str]) -> str:
    run_command(["report", *map(str, arguments)])
    return capsys.readouterr().out


def test_paper_command_prints_and_writes_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "| SASRec_V | VideoRec | .0948 | – |" in printed(["--table", "baselines"], capsys)
    place_run(tmp_path / "run", "sasrec", ItemConfig())
    assert "| SASRec | IDRec (SR) | .0909 | .3000 ± " in printed(
        ["--table", "baselines", tmp_path / "run"], capsys
    )
    for name in ("report.md", "report.html"):
        text = (tmp_path / "run" / name).read_text()
        assert "Table 2 of the MicroLens paper" in text
        assert "arXiv:2309.15379" in text
    with pytest.raises(ValueError, match="there is no RUN to report"):
        run_command(["report"])
    with pytest.raises(ValueError, match="there is no RUN to report"):
        run_command(["report", "--out", str(tmp_path / "report.html")])


@pytest.mark.parametrize("kind", PAPER_TABLES)
def test_paper_command_without_runs_writes_and_replaces_the_page(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "paper.html"
    for _ in range(2):
        assert f"report: {out} and" in printed(["--table", kind, "--out", out], capsys)
    title = PAPER_TABLES[kind]([]).title
    assert f"<h1>{title}</h1>" in out.read_text()
    assert "2605.08810" in out.with_suffix(".md").read_text()
    assert ">ours<" not in out.read_text(), "without runs there is no column for them"
    document = json.loads(printed(["--table", kind, "--out", out, "--json"], capsys))
    assert document["report"] == str(out)
    assert document["runs"] == []
    assert len(document["paper"]["rows"]) == {"baselines": 18, "encoders": 15}[kind]
    assert document["paper"]["published_later"][0]["HR@10"] == ".1001"


def test_paper_command_writes_the_page_before_a_reader_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("mlrec.cli.report.say", leave)
    out = tmp_path / "paper.html"
    with pytest.raises(BrokenPipeError):
        run_command(["report", "--table", "encoders", "--out", str(out)])
    assert out.exists()


def test_paper_page_folds_rows_without_runs_and_groups_its_columns(tmp_path: Path) -> None:
    run = tmp_path / "run"
    place_run(run, "sasrec", ItemConfig(("video/slow_r50",), tuning="top"))
    out = tmp_path / "report.html"
    run_command(["report", "--table", "encoders", str(run), "--out", str(out)])
    shown, _, folded = out.read_text().partition('<details class="folded">')
    assert '<th scope="row">Slow-r50<small>run</small></th>' in shown
    assert '<th scope="row">X3D-m</th>' not in shown
    assert folded.count('<th scope="row">X3D-m</th>') == 1
    assert "14 published rows without runs of ours" in folded
    for tuning in TUNINGS:
        assert f'<th colspan="2" scope="colgroup" class="first">{tuning}</th>' in shown


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.slow
def test_paper_tables_in_a_browser_fit_and_are_accessible(tmp_path: Path) -> None:
    paths = []
    for row in VIDEO_ENCODERS[:3]:
        for tuning in TUNINGS:
            path = tmp_path / f"video_encoders_{row.encoder.split('/')[1]}_{tuning}"
            paths.append(place_run(path, "sasrec", ItemConfig((row.encoder,), tuning=tuning)).path)  # type: ignore[arg-type]
    for kind, make_table in PAPER_TABLES.items():
        for name, folders in {"own": paths, "alone": []}.items():
            runs = [read_run(folder) for folder in folders]
            out = write_report(folders, tmp_path / f"{kind}_{name}.html", make_table(runs))
            # all views of one page, and of the others one on a desk and one on a phone
            is_first = (kind, name) == ("encoders", "own")
            for width, scheme in VIEWS if is_first else [VIEWS[0], VIEWS[-1]]:
                seen = look_at(out, width, tmp_path / "shot.png", scheme)
                assert (seen["overflow_px"], seen["sticking_out"]) == (0, [])
                assert seen["violations"] == []
                assert width == PHONE or not any("grouped" in cut for cut in seen["cut_off"])
                assert "CVA with SASRec" in seen["text"]
