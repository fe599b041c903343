"""Which runs of a report lead, by a paired test over users, and what its tables say of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run, rank_users

from mlrec.cli.main import run_command
from mlrec.config.run_files import CONFIG_FILE
from mlrec.report.metric_tables import popularity_table, results_table
from mlrec.report.report import short_table, write_report
from mlrec.report.runs import read_runs
from mlrec.report.tables import Row

USER_B = np.arange(200)
WEAK_B = USER_B < 40
STRONG_B = USER_B < 80
OTHER_STRONG_B = (USER_B >= 2) & (USER_B < 81)
"""Hits of 79 users, almost the same ones as in STRONG_B."""


def write_runs(
    folder: Path, hits: dict[str, np.ndarray], popularity_B: np.ndarray | None = None
) -> list[Path]:
    """Write one run per name, with a hit for each user who is true."""
    paths = []
    for name, is_hit_B in hits.items():
        paths.append(rank_users(make_run(folder / name), is_hit_B, popularity_B))
    return paths


def rows_of(paths: list[Path]) -> dict[str, Row]:
    return {row.name: row for row in results_table(read_runs(paths)).rows}


def test_results_table_marks_the_significantly_best_run_alone(tmp_path: Path) -> None:
    rows = rows_of(write_runs(tmp_path, {"weak": WEAK_B, "strong": STRONG_B}))
    assert 0 in rows["strong"].best
    assert not rows["weak"].best and not rows["weak"].tied and not rows["strong"].tied


def test_results_table_marks_runs_that_do_not_differ_significantly(tmp_path: Path) -> None:
    hits = {"weak": WEAK_B, "strong": STRONG_B, "other": OTHER_STRONG_B}
    paths = write_runs(tmp_path, hits)
    rows = rows_of(paths)
    assert 0 in rows["strong"].tied and 0 in rows["other"].tied
    assert not any(row.best for row in rows.values())
    assert not rows["weak"].tied
    out = write_report(paths, tmp_path / "report.html")
    text = out.with_suffix(".md").read_text()
    assert "≈ .4000 ± .0347 |" in text and "≈ .3950 ± .0347 |" in text
    assert "**" not in text.partition("## Results")[2].partition("## ")[0]
    note = (
        "≈: the highest value and those not significantly different from it. "
        "Paired test over users, p &lt; 0.05, not corrected for several comparisons."
    )
    assert note in text and note in out.read_text()
    assert '<td><span class="tied">≈</span> .4000 <span class="error">± .0347</span></td>' in (
        out.read_text()
    )


def test_results_table_does_not_mark_runs_that_cannot_be_tested(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, {"weak": WEAK_B, "strong": STRONG_B})
    rows = rows_of([*paths, make_run(tmp_path / "earlier", 1.0)])
    assert not any(row.best or row.tied for row in rows.values())


def test_popularity_table_greys_small_groups_and_never_marks_them(tmp_path: Path) -> None:
    # 49 users with cold targets, 50 with rare ones, and 101 others
    popularity_B = np.where(USER_B < 49, 0, np.where(USER_B < 99, 3, 30))
    every_B = USER_B < 200
    paths = write_runs(tmp_path, {"none": ~every_B, "all": every_B}, popularity_B)
    table = popularity_table(read_runs(paths))
    assert table.header == ("cold", "1-5", "21-100")
    assert table.small == {0}
    assert {row.name: row.best for row in table.rows}["all"] == {1, 2}
    assert "Fewer than 50 users, too few to test: cold." in table.note
    page = write_report(paths, tmp_path / "report.html").read_text()
    assert '<td class="small">1.0000 <span class="error">± .0000</span></td>' in page


def test_results_table_tests_the_mean_over_seeds_against_other_runs(tmp_path: Path) -> None:
    hits = {"a_seed0": STRONG_B, "a_seed1": OTHER_STRONG_B, "weak": WEAK_B}
    paths = write_runs(tmp_path, hits)
    config = (paths[1] / CONFIG_FILE).read_text().replace("seed: 0", "seed: 1")
    (paths[1] / CONFIG_FILE).write_text(config)
    rows = rows_of(paths)
    assert list(rows)[:4] == ["a, mean of 2 seeds", "a_seed0", "a_seed1", "weak"]
    # the seeds' .4000 and .3950: their standard deviation is .005 / sqrt(2)
    assert rows["a, mean of 2 seeds"].cells[0] == ".3975 ± .0035"
    assert 0 in rows["a, mean of 2 seeds"].best
    assert rows["a_seed0"].is_seed and not rows["a_seed0"].tied


def test_short_table_marks_the_best_run_with_a_star(tmp_path: Path) -> None:
    table = short_table(write_runs(tmp_path, {"weak": WEAK_B, "strong": STRONG_B}))
    assert re.search(r"^strong .* \* \.4000 ± \.0347 ", table, re.MULTILINE)
    assert "*: significantly better than every other run." in table


def test_report_chooses_the_best_run_on_validation(tmp_path: Path) -> None:
    # by validation "first" is better (factor 3), by test "second" is
    first = rank_users(make_run(tmp_path / "first", 3.0), WEAK_B)
    second = rank_users(make_run(tmp_path / "second", 2.0), STRONG_B)
    out = write_report([second, first], tmp_path / "report.html")
    text = out.with_suffix(".md").read_text()
    assert "Best of 2 runs on validation (HR@10 .3000): first reaches HR@10 .2000 ± .0284" in text
    assert "| first (best on validation) | .2000 ± .0284 |" in text
    assert "| second | **.4000 ± .0347** |" in text
    third = make_run(tmp_path / "third")
    (third / "metrics.jsonl").unlink()
    text = write_report([second, first, third], out).with_suffix(".md").read_text()
    assert "2 runs on validation (HR@10 .3000; 1 other without a validation result): f" in text
    for path in (first, second):
        (path / "metrics.jsonl").unlink()
    text = write_report([second, first], tmp_path / "report.html").with_suffix(".md").read_text()
    assert "Best of 2 runs on the test split, as none logged a validation: second reaches" in text


def test_report_flags_runs_below_popularity(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "low", 0.9), make_run(tmp_path / "high", 1.1)]
    out = write_report(runs, tmp_path / "report.html")
    text = out.with_suffix(".md").read_text()
    assert "Below popularity on HR@10: low." in text
    assert "| low (below popularity) | .0900 | 0.90 × |" in text
    assert '<span class="tag">below popularity</span>' in out.read_text()


def test_report_page_links_to_every_section(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", fingerprint="e" * 64)]
    page = write_report(runs, tmp_path / "report.html").read_text()
    links = re.findall(r'<a href="#([^"]+)">', page)
    sections = re.findall(r'<section id="([^"]+)">', page)
    assert links == sections and len(set(links)) == len(links) == page.count("<section")
    assert links[:2] == ["overview", "results-synthetic-ffffffffffff-test-split"]


def test_overview_of_one_run_is_one_line_with_epochs_and_hardware(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(
        log + '{"step": 200, "time": 1.0, "train/loss": 1.0, "train/epoch": 4.0}\n'
    )
    text = write_report([run], tmp_path / "report.html").with_suffix(".md").read_text()
    # the ranked checkpoint is that of step 100
    assert (
        "| run | video/tiny | full | sasrec | 1.235 M | 123.5 k | 4 (best 2) | 7.5 min "
        "| 2 CPU cores, 2 processes | synthetic, 1,000 users, 300 items |" in text
    )
    assert "| reported step | 100 (epoch 2) |" in text


def test_speed_table_counts_what_the_encoders_read(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / "video"), make_run(tmp_path / "ids", encoder="id/embedding")]
    for path in paths:
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 110, "time": 1.0, "speed/users_per_s": 9.0, ')
            file.write('"speed/videos_per_s": 7.0, "speed/dedup": 2.0}\n')
    alone = write_report(paths[1:], tmp_path / "report.html").with_suffix(".md").read_text()
    assert "| users/s | items/s | slots/item |" in alone and "| ids | 9 | 7 | 2.0 |" in alone
    both = write_report(paths, tmp_path / "report.html").with_suffix(".md").read_text()
    assert "| ids | 9 | 7 items/s |" in both and "| video | 9 | 7 videos/s |" in both


def test_report_of_many_equal_runs_states_their_facts_once(tmp_path: Path) -> None:
    out = write_report([make_run(tmp_path / f"run{i}") for i in range(5)], tmp_path / "report.html")
    for text in (out.read_text(), out.with_suffix(".md").read_text()):
        assert text.count("All runs: commit 0123abc; started 2026-01-02 03:04; processes 2;") == 1


def make_seeds(folder: Path) -> list[Path]:
    """Write three runs that differ in their seed and reach HR@10 0.1, 0.2 and 0.3."""
    runs = []
    for seed in range(3):
        run = make_run(folder / f"base_seed{seed}", factor=seed + 1.0)
        config = (run / "config.yaml").read_text().replace("seed: 0", f"seed: {seed}")
        (run / "config.yaml").write_text(config)
        runs.append(run)
    return runs


def test_report_of_runs_that_differ_in_their_seed_has_mean_and_deviation(tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", encoder="id/embedding")
    runs = [*make_seeds(tmp_path), other]
    text = write_report(runs, tmp_path / "report.html").with_suffix(".md").read_text()
    assert "| base_seed1 | .2000 | 2.00 × | 50 % |" in text
    assert "| base, mean of 3 seeds | .2000 ± .1000 | 2.00 × | 50 % | .3000 ± .1500 |" in text
    assert text.count("mean of") >= 2  # of all users, and by popularity
    assert "| other (best on validation) | .3000 |" in text
    assert "base, mean of 3 seeds" in short_table(runs)
    assert "mean of" not in short_table([runs[0], other])


def test_report_json_has_mean_and_deviation_of_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(["report", *map(str, make_seeds(tmp_path)), "--json"])
    (seeds,) = json.loads(capsys.readouterr().out)["seeds"]
    assert seeds["name"] == "base"
    assert len(seeds["runs"]) == 3
    assert seeds["metrics"]["cold"]["hr@10"] == pytest.approx({"mean": 0.2, "deviation": 0.1})


def test_report_metrics_have_standard_errors_over_users(tmp_path: Path) -> None:
    # 30 hits in 100 users, half of them in each of two groups
    is_hit_B = np.arange(100) % 10 < 3
    popularity_B = np.where(np.arange(100) < 50, 0, 30)
    run = rank_users(make_run(tmp_path / "run"), is_hit_B, popularity_B)
    text = write_report([run], tmp_path / "report.html").with_suffix(".md").read_text()
    # sqrt(.3 * .7 / 99) and sqrt(.3 * .7 / 49)
    assert "| run | .3000 ± .0461 | 3.00 × | 75 % |" in text
    assert "| run | .3000 ± .0655 | .3000 ± .0655 |" in text
    assert "no results by user" not in text


@pytest.mark.parametrize("has_ranks", [True, False])
def test_report_of_earlier_results_names_the_missing_errors(
    tmp_path: Path, has_ranks: bool
) -> None:
    run = make_run(tmp_path / "run")
    if has_ranks:
        rank_users(run, np.arange(100) < 30)
    text = write_report([run], tmp_path / "report.html").with_suffix(".md").read_text()
    if has_ranks:
        assert "run has no popularity by user in ranks.npy" in text
        assert "| run | .3000 ± .0461 | 3.00 × |" in text
        assert "| run | .3000 |" in text
    else:
        assert "run has no results by user (ranks.npy)" in text
        assert "±" not in text.split("| run |", 1)[1]


def test_report_json_has_standard_errors_by_popularity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    popularity_B = np.where(np.arange(100) < 50, 0, 30)
    run = rank_users(make_run(tmp_path / "run"), np.arange(100) % 10 < 3, popularity_B)
    run_command(["report", str(run), "--json"])
    (described,) = json.loads(capsys.readouterr().out)["runs"]
    errors = described["standard_errors"]
    assert errors["all"]["hr@10"] == pytest.approx(0.0461, abs=1e-4)
    assert errors["cold"]["hr@10"] == pytest.approx(0.0655, abs=1e-4)
    assert set(errors) == {"all", "cold", "21-100"}
