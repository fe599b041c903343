"""Two runs compared user by user."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlrec.cli.main import run_command
from mlrec.config.run_files import run_names
from mlrec.data.format import Split
from mlrec.evaluation.compare import compare
from mlrec.evaluation.results import Results, TargetRanks, read_ranks, read_results, write_results
from mlrec.storage.npy import npy_bytes

GENERATOR = np.random.default_rng(0)


def write_run(
    folder: Path,
    better: np.ndarray,
    split: Split = "test",
    fingerprint: str = "abc",
    trained_on: str = "abc",
) -> Path:
    folder.mkdir()
    results = Results(
        split, 1, "validation hr@10", {"all": {"users": len(better)}}, {}, {}, 100, fingerprint
    )
    write_results(folder, results, TargetRanks(better, np.zeros_like(better)))
    (folder / "run.json").write_text(
        json.dumps({"dataset": {"fingerprint": trained_on, "name": "small", "url": "s3://data"}})
    )
    return folder


def test_compare_two_runs_gives_means_errors_and_a_paired_test(tmp_path: Path) -> None:
    first = GENERATOR.integers(0, 90, 400)
    second = np.maximum(0, first - GENERATOR.integers(0, 8, 400))
    rows = compare(write_run(tmp_path / "one", first), write_run(tmp_path / "two", second))
    (row,) = (row for row in rows if row.metric == "hr@10")
    first_hits = (first < 10).astype(float)
    second_hits = (second < 10).astype(float)
    assert (row.first, row.second) == pytest.approx((first_hits.mean(), second_hits.mean()))
    assert row.first_error == pytest.approx(np.sqrt(row.first * (1 - row.first) / 399))
    paired = second_hits - first_hits
    assert row.difference == pytest.approx(paired.mean())
    assert row.difference_error == pytest.approx(paired.std(ddof=1) / 20)
    assert row.difference_error < row.first_error, "pairing removes what the users have in common"
    assert 0 < row.p < 0.01


def test_compare_runs_with_different_cutoffs_uses_those_of_both(tmp_path: Path) -> None:
    ranks = GENERATOR.integers(0, 90, 50)
    runs = [write_run(tmp_path / name, ranks) for name in ("one", "two")]
    results = read_results(runs[1])
    assert results is not None
    metrics = {"all": {"users": 50, "hr@50": float((ranks < 50).mean()), "hr@5": 0.0}}
    metrics["all"]["hr@5"] = float((ranks < 5).mean())
    write_results(runs[1], replace(results, metrics=metrics), read_ranks(runs[1], results))
    hit_rates = [row.metric for row in compare(*runs) if row.metric.startswith("hr@")]
    assert hit_rates == ["hr@5", "hr@10", "hr@20", "hr@50"]


def test_compare_equal_runs_shows_no_difference(tmp_path: Path) -> None:
    ranks = GENERATOR.integers(0, 90, 50)
    rows = compare(write_run(tmp_path / "one", ranks), write_run(tmp_path / "two", ranks))
    assert all((row.difference, row.p) == (0.0, 1.0) for row in rows)


def test_compare_random_runs_seldom_shows_a_difference(tmp_path: Path) -> None:
    p_values = []
    for trial in range(60):
        runs = (
            write_run(tmp_path / f"{trial}-{name}", GENERATOR.integers(0, 90, 300))
            for name in ("one", "two")
        )
        p_values.append(next(row.p for row in compare(*runs) if row.metric == "ndcg@10"))
    assert 0.0 < np.mean(np.array(p_values) < 0.1) < 0.25


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"split": "validation"},
            r"one ranked the test split, .* Rank one of them again: "
            r"mlrec evaluate \S+two --split test$",
        ),
        (
            {"fingerprint": "xyz" * 9},
            r"one ranked the data set abc \(small at s3://data\), "
            r"\S+two ranked the data set xyzxyzxyzxyz\. Runs",
        ),
        (
            {"fingerprint": "", "trained_on": "xyz"},
            r"the data set abc \(small .* the data set xyz \(small at s3://data\)\. Runs",
        ),
    ],
)
def test_compare_incomparable_runs_is_refused(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    ranks = GENERATOR.integers(0, 90, 50)
    with pytest.raises(ValueError, match=words):
        compare(write_run(tmp_path / "one", ranks), write_run(tmp_path / "two", ranks, **changes))
    with pytest.raises(
        ValueError, match=r"nowhere is missing\. Name a folder that mlrec train wrote"
    ):
        compare(tmp_path / "one", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["ranks.npy", "results.json"])
def test_compare_with_a_damaged_or_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    ranks = GENERATOR.integers(0, 90, 50)
    one, two = (write_run(tmp_path / folder, ranks) for folder in ("one", "two"))
    content = (two / name).read_bytes()
    for damaged in (b"", content[: len(content) // 2]):
        (two / name).write_bytes(damaged)
        words = (
            rf"^{two}/{name} is (damaged|invalid): .*\. "
            rf"mlrec evaluate {two} writes results.json and ranks.npy again\.$"
        )
        with pytest.raises(ValueError, match=words):
            compare(one, two)
    (two / name).unlink()
    with pytest.raises(ValueError, match=f"^{two} has no {name}; mlrec evaluate {two} writes it$"):
        compare(one, two)


@pytest.mark.parametrize(
    ("columns_BC", "words"),
    [
        (np.zeros((49, 2), dtype=np.int64), r"has shape \[49, 2\], but results.json has 50 users"),
        (np.zeros((50, 4), dtype=np.int64), r"has shape \[50, 4\]"),
        (np.tile([0, 0, -1], (50, 1)), "has a negative popularity"),
        (np.tile([0, 0, 7], (50, 1)), "has 50 users in group '6-20', but results.json has 3"),
        (np.zeros((50, 2), dtype=np.int32), "an .npy file of int32"),
        (np.zeros(100, dtype=np.int64), "expected 2 dimension"),
        (np.full((50, 2), 60), "has more better and tied items than the catalogue's 100"),
        (np.full((50, 2), 100), "has ranks outside the catalogue of 100 items"),
        (np.full((50, 2), -1), "has ranks outside the catalogue"),
        (np.zeros((5000, 2), dtype=np.int64), "is 80,128 bytes long, at most"),
    ],
)
def test_compare_ranks_that_do_not_fit_the_results_are_refused(
    tmp_path: Path, columns_BC: np.ndarray, words: str
) -> None:
    one = write_run(tmp_path / "one", GENERATOR.integers(0, 90, 50))
    results = json.loads((one / "results.json").read_text())
    results["metrics"]["6-20"] = {"users": 3}
    (one / "results.json").write_text(json.dumps(results))
    (one / "ranks.npy").write_bytes(npy_bytes(columns_BC))
    with pytest.raises(ValueError, match=rf"ranks.npy .*{words}.* mlrec evaluate {one} writes"):
        compare(one, one)


def test_compare_ranks_of_other_metrics_are_refused(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", np.arange(50))
    results = read_results(one)
    assert results is not None
    write_results(
        one,
        replace(results, metrics={"all": {"users": 50, "hr@10": 0.25}}),
        read_ranks(one, results),
    )
    with pytest.raises(
        ValueError,
        match=r"ranks.npy gives hr@10 0.200000, but results.json has 0.250000. mlrec evaluate",
    ):
        compare(one, one)


def test_compare_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = GENERATOR.integers(0, 90, 50)
    run_command(
        [
            "compare",
            str(write_run(tmp_path / "one", ranks)),
            str(write_run(tmp_path / "two", ranks)),
        ]
    )
    printed = capsys.readouterr().out
    assert "hr@10" in printed
    assert "+0.0000 ± 0.0000" in printed


def test_compare_command_runs_of_one_name_get_distinct_headings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = GENERATOR.integers(0, 90, 50)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run_command(
        [
            "compare",
            str(write_run(tmp_path / "a" / "v1", ranks)),
            str(write_run(tmp_path / "b" / "v1", ranks)),
        ]
    )
    printed = capsys.readouterr().out
    assert "difference: b/v1 minus a/v1; p: paired test over the users" in printed


def test_compare_missing_ranks_of_a_run_with_spaces_name_a_command_that_runs(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "a run", GENERATOR.integers(0, 90, 50))
    (run / "ranks.npy").unlink()
    with pytest.raises(ValueError, match=r"mlrec evaluate '.*/a run'"):
        compare(run, run)


def test_run_names_are_the_shortest_distinct_endings() -> None:
    paths = [Path(path) for path in ("/v1", "/x/v1", "/x/y/v1", "/z/y/v1", "/z/w", "/z/w")]
    assert run_names(paths) == ["/v1", "x/v1", "x/y/v1", "z/y/v1", "w", "w"]
