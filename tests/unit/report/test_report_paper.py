"""The paper's tables: their figures, their configurations, and our runs in their rows."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import place_run

from mlrec.config import ItemConfig, load
from mlrec.models.encoders import ENCODERS
from mlrec.models.pass_cost import TowerCost
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.models.simulation import tower_cost
from mlrec.models.skeleton import skeletons
from mlrec.models.tower import ItemTower
from mlrec.report.paper import PAPER_TABLES, inputs_of
from mlrec.report.paper_table import PaperTable
from mlrec.report.published import (
    BASELINES,
    METRICS,
    TUNINGS,
    VIDEO_ENCODERS,
    Baseline,
    Figure,
)
from mlrec.report.runs import Run, read_run
from mlrec.report.wording import number

EXPERIMENTS = Path(__file__).parents[3] / "configs" / "experiment"


def lines(table: PaperTable, name: str) -> list[dict[str, str]]:
    return [
        dict(zip(table.table.header, row.cells, strict=True))
        for row in table.table.rows
        if row.name == name
    ]


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
        assert cells["HR@10, published"] == number(row.figures[0])
        ours = f".3000 ± {number(error)}" if row.name in placed else "–"
        assert cells["HR@10, ours"] == ours
        assert (cells["runs"], cells["data set"]) == (placed.get(row.name, "–"), "MicroLens-100K")
    assert len(table.notes) == 2
    assert {line.name for line in table.shown} == placed.keys()
    assert len(table.folded) == len(BASELINES) - len(placed)


def test_paper_tables_seeds_have_one_line_with_their_deviation(tmp_path: Path) -> None:
    runs = []
    for seed, hits in enumerate((100, 200, 300)):
        path = tmp_path / f"run_seed{seed}"
        place_run(path, "sasrec", ItemConfig(("video/slow_r50",), tuning="top"))
        config = (path / "config.yaml").read_text().replace("seed: 0", f"seed: {seed}")
        (path / "config.yaml").write_text(config)
        results = json.loads((path / "results.json").read_text())
        results["metrics"]["all"]["hr@10"] = hits / 1000
        (path / "results.json").write_text(json.dumps(results))
        (path / "ranks.npy").unlink()
        runs.append(read_run(path))
    for kind, name, column in (
        ("encoders", "Slow-r50", "top, ours"),
        ("baselines", "SASRec_V", "HR@10, ours"),
    ):
        (cells,) = lines(PAPER_TABLES[kind](runs), name)
        assert cells[column] == ".2000 ± .1000"
        assert cells["runs"] == "run, mean of 3 seeds"


def test_paper_tables_other_data_set_gets_a_row_without_published_figures(tmp_path: Path) -> None:
    counts = {"users": 50_000, "items": 19_220}
    runs = [
        place_run(tmp_path / "half", "sasrec", ItemConfig(), counts, "MicroLens-50k"),
        place_run(
            tmp_path / "video", "sasrec", ItemConfig(("video/x3d_m",)), counts, "MicroLens-50k"
        ),
    ]
    table = PAPER_TABLES["baselines"](runs)
    half, paper = lines(table, "SASRec")
    assert (paper["HR@10, published"], paper["HR@10, ours"], paper["runs"]) == (".0909", "–", "–")
    assert half["HR@10, published"] == "–"
    assert half["HR@10, ours"].startswith(".3000 ± ")
    assert half["runs"] == "half"
    assert half["data set"] == "MicroLens-50k, 50,000 users, 19,220 items"
    assert "not to be compared with the published figures: half, video." in table.notes[2]
    encoder = PAPER_TABLES["encoders"](runs)
    own, published = lines(encoder, "X3D-m")
    assert (own["data set"], published["data set"]) == (half["data set"], "MicroLens-100K")
    assert own["top, published"] == "–"
    assert "In no row of this table: half." in encoder.notes
    assert all(not point.run for point in encoder.points)


def test_paper_encoders_are_ordered_by_accuracy_with_tunings_side_by_side(tmp_path: Path) -> None:
    runs = [
        place_run(
            tmp_path / name, "sasrec", ItemConfig(("video/slow_r50",), tuning=name.split("-")[0])
        )
        for name in ("frozen", "full", "full-again")
    ]
    table = PAPER_TABLES["encoders"](runs)
    # own runs come first, and the order of the others is that of the accuracy
    names = [row.name for row in table.table.rows]
    assert names[:5] == ["Slow-r50", "Slow-r50", "R3D-r18", "X3D-xs", "C2D-r50"]
    assert len(table.folded) == 14
    first, second = lines(table, "Slow-r50")
    assert first["ACC@5"] == "91.63"
    own = [f"{tuning}, ours" for tuning in TUNINGS]
    assert [".3000" in first[column] for column in own] == [True, False, True]
    assert [".3000" in second[column] for column in own] == [False, False, True], (
        "two runs in one place have two lines"
    )


def test_paper_encoders_have_45_published_figures_with_their_uncertainty() -> None:
    figures = {
        (encoder.name, tuning): figure
        for encoder in VIDEO_ENCODERS
        for tuning, figure in zip(TUNINGS, encoder.figures, strict=True)
    }
    assert len(figures) == 45
    assert figures["SlowFast-r50", "frozen"] == Figure(0.0415, 0.0001)
    assert figures["MViT-B-32x3", "top"] == Figure(0.0960, 0.0003)
    assert figures["X3D-l", "full"] == Figure(0.0745, 0.0001)
    # stated in the paper's text
    assert figures["VideoMAE", "frozen"] == Figure(0.0496)
    assert sum(figure.error == 0.0003 for figure in figures.values()) == 4
    table = PAPER_TABLES["encoders"]([])
    (cells,) = lines(table, "R3D-r18")
    assert cells["frozen, published"] == ".0458 ± .0001"
    assert cells["top, published"] == ".0850 ± .0003"
    assert "read off the bars" in table.notes[-1]
    assert len(table.points) == 45


@pytest.mark.parametrize("name", ["X3D-xs", "MViT-B-16x4"])
def test_paper_encoder_costs_are_counted_from_the_shapes(name: str) -> None:
    (row,) = [encoder for encoder in VIDEO_ENCODERS if encoder.name == name]
    for tuning, gflops in zip(TUNINGS, row.gflops, strict=True):
        options = {row.encoder: {"checkpoint": ""}}
        with skeletons():
            tower = ItemTower(ItemConfig((row.encoder,), options, tuning=tuning), 512, 50)  # type: ignore[arg-type]
        cost: TowerCost = tower_cost(tower, torch.bfloat16)
        assert (cost.forward_flops(1) + cost.backward_flops(1)) / 1e9 == pytest.approx(
            gflops, abs=0.06
        )


def test_paper_tables_show_later_results_next_to_what_they_compare_with() -> None:
    later = PAPER_TABLES["baselines"]([]).later
    rows = [(row.name, dict(zip(later.header, row.cells, strict=True))) for row in later.rows]
    hit_rates = [(name, cells["HR@10"], cells["compare with HR@10 of"]) for name, cells in rows]
    assert hit_rates == [
        ("CVA with SASRec", ".1001", "SASRec_V .0948"),
        ("CVA with SASRec", ".1016", "SASRec_V .0948"),
        ("CVA with GRU4Rec", ".0947", "GRU4Rec_V .0954"),
        ("CVA with NextItNet", ".0905", "NextItNet_V .0862"),
        ("SlowFast-r50 with SASRec", ".0918", "SlowFast-r50, top .0949, full .0883"),
        ("VideoMAE with SASRec", ".0837", "VideoMAE, top .0892, full .0820"),
    ]
    encoders = PAPER_TABLES["encoders"]([])
    assert {row.name.partition(" with ")[2] for row in encoders.later.rows} == {"SASRec"}
    assert "arXiv:2605.08810" in encoders.later_note


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
    own, paper = lines(table, "SASRec")
    assert (paper["HR@10, published"], paper["HR@10, ours"]) == (".0909", "–")
    assert own["HR@10, published"] == "–"
    assert own["HR@10, ours"].startswith(".3000")
    assert own["data set"] == "MicroLens-100k, 100,000 users, 19,738 items, split by time"


def test_paper_tables_validation_results_are_left_out(tmp_path: Path) -> None:
    run = place_run(tmp_path / "run", "sasrec", ItemConfig())
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (tmp_path / "run" / "results.json").write_text(json.dumps({**results, "split": "validation"}))
    table = PAPER_TABLES["baselines"]([read_run(tmp_path / "run")])
    (cells,) = lines(table, "SASRec")
    assert (cells["HR@10, published"], cells["HR@10, ours"]) == (".0909", "–")
    assert "Without results of the test split: run; mlrec evaluate RUN writes them." in table.notes
    (tmp_path / "run" / "ranks.npy").unlink()
    assert run.error("hr@10") and read_run(tmp_path / "run").error("hr@10") is None
    (tmp_path / "run" / "ranks.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"ranks\.npy is damaged.*mlrec evaluate"):
        read_run(tmp_path / "run")
