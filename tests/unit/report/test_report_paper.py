"""The paper's tables: their figures, their configurations, and our runs in their rows."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import make_run

from mlrec import config as configuration
from mlrec.cli.main import run_command
from mlrec.config import ItemConfig, RecommenderConfig, load
from mlrec.data.format import npy_bytes
from mlrec.evaluation.metrics import user_metrics
from mlrec.models.encoders import ENCODERS
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.report.paper import PAPER_TABLES, PaperTable, inputs_of
from mlrec.report.published import BASELINES, COUNTS, METRICS, TUNINGS, VIDEO_ENCODERS, Baseline
from mlrec.report.runs import Run, read_run
from mlrec.report.wording import number

EXPERIMENTS = Path(__file__).parents[3] / "configs" / "experiment"


def place_run(
    path: Path,
    recommender: str,
    item: ItemConfig,
    counts: dict[str, int] = COUNTS,
    name: str = "MicroLens-100k",
) -> Run:
    """A finished run of HR@10 .3 in 1,000 users, with the ranks behind it."""
    make_run(path, 3.0)
    configuration.save(
        configuration.Config(name=path.name, item=item, recommender=RecommenderConfig(recommender)),
        path / "config.yaml",
    )
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(
        json.dumps({**info, "dataset": {**info["dataset"], "counts": counts, "name": name}})
    )
    results = json.loads((path / "results.json").read_text())
    better = np.where(np.arange(1000) < 300, 5, 250)
    means = {
        metric: values.mean() for metric, values in user_metrics(better, better * 0, 300).items()
    }
    metrics = {**results["metrics"], "all": {"users": 1000, **means}}
    (path / "results.json").write_text(
        json.dumps({**results, "catalogue_size": 300, "metrics": metrics})
    )
    (path / "ranks.npy").write_bytes(npy_bytes(np.stack([better, np.zeros_like(better)], axis=1)))
    return read_run(path)


def lines(table: PaperTable, name: str) -> list[tuple[str, ...]]:
    return [row.cells for row in table.table.rows if row.name == name]


@pytest.mark.parametrize("row", BASELINES, ids=lambda row: row.name)
def test_paper_row_has_a_configuration_with_the_same_figures(row: Baseline) -> None:
    file = EXPERIMENTS / f"{row.config}.yaml"
    config, text = load([file]), file.read_text()
    assert config.name == row.config
    assert config.recommender.name == row.recommender
    assert set(config.item.encoders) <= set(ENCODERS) and row.recommender in RECOMMENDERS
    (published,) = re.findall(r"^# Published \(Ni et al\., 2023\): (.+)\.$", text, re.MULTILINE)
    assert published == ", ".join(
        f"{name.upper()} {value:.4f}".replace(" 0.", " .")
        for name, value in zip(METRICS, row.figures, strict=True)
    )
    assert re.search(rf"^# Reproduces: .* {re.escape(row.name)},", text)
    assert re.search(
        rf"^# Command: .* configs/experiment/{row.config}\.yaml data\.url=URL$", text, re.MULTILINE
    )
    assert re.search(r"^# Ours", text, re.MULTILINE)
    assert ("mlrec extract" in text) == ("features/vectors" in config.item.encoders)
    run = Run(row.config, asdict(config), {}, {}, [], ())
    assert inputs_of(run) == row.inputs


def test_paper_rows_are_distinct_and_in_published_order() -> None:
    assert len({(row.recommender, row.inputs) for row in BASELINES}) == len(BASELINES) == 18
    assert all(
        row.figures[0] < row.figures[2] and row.figures[1] < row.figures[3] for row in BASELINES
    )
    accuracies = [row.accuracy for row in VIDEO_ENCODERS]
    assert accuracies == sorted(accuracies) and len(accuracies) == 15
    assert {row.encoder for row in VIDEO_ENCODERS} <= set(ENCODERS)


def test_paper_baselines_run_is_placed_with_its_standard_error(tmp_path: Path) -> None:
    frozen = {"video/videomae": {"tuning": "frozen"}}
    runs = [
        place_run(tmp_path / "a", "sasrec", ItemConfig()),
        place_run(tmp_path / "b", "sasrec", ItemConfig(("id/embedding", "features/vectors"))),
        place_run(tmp_path / "c", "grcn", ItemConfig(("video/videomae", "id/embedding"), frozen)),
        place_run(tmp_path / "d", "gru4rec", ItemConfig(("video/slow_r50",), tuning="top")),
    ]
    table = PAPER_TABLES["baselines"](runs)
    error = np.sqrt(0.3 * 0.7 / 999)
    placed = {"SASRec": "a", "SASRec_ID+V": "b", "GRCN_ID+V": "c", "GRU4Rec_V": "d"}
    for row in BASELINES:
        (cells,) = lines(table, row.name)
        ours = f".3000 ± {number(error)}" if row.name in placed else "–"
        assert cells[1] == f"{number(row.figures[0])} / {ours}"
        assert cells[5:] == (placed.get(row.name, "–"), "MicroLens-100K")
    assert len(table.notes) == 1


def test_paper_tables_other_data_set_gets_a_row_without_published_figures(tmp_path: Path) -> None:
    counts = {"users": 50_000, "items": 19_220}
    runs = [
        place_run(tmp_path / "half", "sasrec", ItemConfig(), counts, "MicroLens-50k"),
        place_run(
            tmp_path / "video", "sasrec", ItemConfig(("video/x3d_m",)), counts, "MicroLens-50k"
        ),
    ]
    table = PAPER_TABLES["baselines"](runs)
    paper, half = lines(table, "SASRec")
    assert (paper[1], paper[5:]) == (".0909 / –", ("–", "MicroLens-100K"))
    assert half[1].startswith("– / .3000 ± ")
    assert half[5:] == ("half", "MicroLens-50k, 50,000 users, 19,220 items")
    assert "not to be compared with the paper's figures: half, video." in table.notes[1]
    encoder = PAPER_TABLES["encoders"](runs)
    assert [cells[-1] for cells in lines(encoder, "X3D-m")] == ["MicroLens-100K", half[6]]
    assert "In no row of this table: half." in encoder.notes


def test_paper_encoders_are_ordered_by_accuracy_with_tunings_side_by_side(tmp_path: Path) -> None:
    runs = [
        place_run(
            tmp_path / name, "sasrec", ItemConfig(("video/slow_r50",), tuning=name.split("-")[0])
        )
        for name in ("frozen", "full", "full-again")
    ]
    table = PAPER_TABLES["encoders"](runs)
    assert [row.name for row in table.table.rows][:3] == ["R3D-r18", "X3D-xs", "C2D-r50"]
    first, second = lines(table, "Slow-r50")
    assert first[0] == "91.63"
    assert [".3000" in cell for cell in first[1:-1:2]] == [True, False, True], TUNINGS
    assert [".3000" in cell for cell in second[1:-1:2]] == [False, False, True], (
        "two runs in one place have two lines"
    )
    assert "Not filled in are the paper's HR@10 and NDCG@10 of R3D-r18," in table.notes[-1]


@pytest.mark.parametrize(
    ("recommender", "item"),
    [
        ("hstu", ItemConfig()),
        ("sasrec", ItemConfig(("video/tiny",))),
        (
            "sasrec",
            ItemConfig(("video/videomae",), {"video/videomae": {"config": {"hidden_size": 64}}}),
        ),
        ("sasrec", ItemConfig(("text/bert_small",))),
        ("lightgcn", ItemConfig(("id/embedding", "features/vectors"))),
    ],
)
@pytest.mark.parametrize("kind", PAPER_TABLES)
def test_paper_tables_unpublished_model_is_in_no_row(
    kind: str, recommender: str, item: ItemConfig, tmp_path: Path
) -> None:
    table = PAPER_TABLES[kind]([place_run(tmp_path / "other", recommender, item)])
    assert "In no row of this table: other." in table.notes
    assert not any(row.is_run for row in table.table.rows)


def test_paper_tables_split_by_time_is_not_compared_with_the_paper(tmp_path: Path) -> None:
    place_run(tmp_path / "run", "sasrec", ItemConfig())
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    info["dataset"]["split"] = "time"
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    table = PAPER_TABLES["baselines"]([read_run(tmp_path / "run")])
    paper, own = lines(table, "SASRec")
    assert paper[1] == ".0909 / –"
    assert own[1].startswith("– / .3000")
    assert own[-1] == "MicroLens-100k, 100,000 users, 19,738 items, split by time"


def test_paper_tables_validation_results_are_left_out(tmp_path: Path) -> None:
    run = place_run(tmp_path / "run", "sasrec", ItemConfig())
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (tmp_path / "run" / "results.json").write_text(json.dumps({**results, "split": "validation"}))
    table = PAPER_TABLES["baselines"]([read_run(tmp_path / "run")])
    assert lines(table, "SASRec")[0][1] == ".0909 / –"
    assert "Without results of the test split: run; mlrec evaluate RUN writes them." in table.notes
    (tmp_path / "run" / "ranks.npy").unlink()
    assert run.error("hr@10") and read_run(tmp_path / "run").error("hr@10") is None
    (tmp_path / "run" / "ranks.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"ranks\.npy is damaged.*mlrec evaluate"):
        read_run(tmp_path / "run")


def test_paper_command_prints_and_writes_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(arguments: Sequence[Any]) -> str:
        run_command(["report", *map(str, arguments)])
        return capsys.readouterr().out

    assert "| SASRec_V | VideoRec | .0948 / – |" in printed(["--table", "baselines"])
    place_run(tmp_path / "run", "sasrec", ItemConfig())
    assert "| SASRec | IDRec (SR) | .0909 / .3000 ± " in printed(
        ["--table", "baselines", tmp_path / "run"]
    )
    for name in ("report.md", "report.html"):
        text = (tmp_path / "run" / name).read_text()
        assert "Beside the paper&#39;s table 2" in text or "## Beside the paper's table 2" in text
        assert "arXiv:2309.15379" in text
    with pytest.raises(ValueError, match="there is no RUN to report"):
        run_command(["report"])
