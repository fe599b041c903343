"""mlrec report: numbers, missing parts, and a page that needs no network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_runs import make_recommending, make_run

from mlrec.cli.main import run_command
from mlrec.report.report import short_table, write_report


class Page(HTMLParser):
    """Collects what a page refers to and whether its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]
        if tag not in ("meta", "link", "br", "wbr", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_results_are_compared_with_baselines(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "video", 3.0), make_run(tmp_path / "id", 2.0, "id/embedding")]
    out = write_report(runs, tmp_path / "out" / "report.html")
    text = out.with_suffix(".md").read_text()
    assert (
        "Best of 2 runs on validation (HR@10 .3000): video reaches HR@10 .3000 on the test split, "
        "which is 3.00 × popularity and 75 % of the oracle" in text
    )
    rows = {}
    for line in text.splitlines():
        if line.startswith("|"):
            rows.setdefault(line.split("|")[1].strip(), line)
    assert "| video (best on validation) | .3000 | 3.00 × | 75 % |" in text
    assert "| id | .2000 | 2.00 × | 50 % |" in text
    assert "| chance | .0200 | 0.20 × | 5 % |" in text
    assert "| training interactions of the target | cold | 1-5 | 6-20 | 21-100 | &gt;100 |" in text
    assert r"| item.encoders | \['video/tiny'\] | \['id/embedding'\] |" in text
    assert "| 1.235 M | 123.5 k | – | 7.5 min |" in rows["video"]
    assert "data set synthetic, 1,000 users, 300 items" in text


def test_report_of_runs_with_different_cutoffs_names_the_missing_ones(tmp_path: Path) -> None:
    usual = make_run(tmp_path / "usual")
    other = make_run(tmp_path / "other")
    results = json.loads((other / "results.json").read_text())
    for metrics in results["metrics"].values():
        metrics["hr@5"] = metrics.pop("hr@20")
        metrics["ndcg@5"] = metrics.pop("ndcg@20")
    (other / "results.json").write_text(json.dumps(results))
    text = write_report([usual, other], tmp_path / "report.html").with_suffix(".md").read_text()
    assert "| HR@10 | × popularity | % of oracle | HR@5 | HR@20 | NDCG@5 |" in text
    assert "| 75 % | – | .4500 |" in text
    for run, cutoff in ((usual, 5), (other, 20)):
        assert (
            f"{run.name} was ranked without the metrics at {cutoff}; to add them, run "
            f"`mlrec evaluate {run} --split test 'evaluate.cutoffs=[5,10,20]'`\n" in text
        )
    assert (
        write_report([usual], tmp_path / "one.html")
        .with_suffix(".md")
        .read_text()
        .count("was ranked without")
        == 0
    )


def test_report_page_is_self_contained_without_credentials(tmp_path: Path) -> None:
    out = write_report(
        [make_run(tmp_path / "video"), make_run(tmp_path / "id", 2.0)], tmp_path / "report.html"
    )
    text = out.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"@import|url\((?!#)", text)
    assert text.count('role="img"') == 3  # loss, validation, popularity groups
    assert "hunter2" not in text + out.with_suffix(".md").read_text()


def test_report_next_item_is_marked_only_where_recommended(tmp_path: Path) -> None:
    first = make_recommending(tmp_path / "first", {7: (4, 3), 8: (4, 5), 9: (4, 5)})
    second = make_recommending(tmp_path / "second", {7: (5, 6), 8: (5, 3), 9: (5, 6)})
    for runs, kinds in (
        ([first], ["next hit", "next", "next"]),
        ([first, second], ["next hit", "next hit", "next"]),
    ):
        text = write_report(runs, tmp_path / "report.html").read_text()
        assert re.findall(r'<figure class="(next[^"]*)">', text) == kinds
        assert text.count('<figure class="hit">') == kinds.count("next hit")


def test_report_of_the_same_runs_is_byte_identical(tmp_path: Path) -> None:
    run = make_run(tmp_path / "video")
    first = write_report([run], tmp_path / "report.html").read_bytes()
    assert write_report([run], tmp_path / "report.html").read_bytes() == first


def test_report_unfinished_run_names_missing_parts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "video")
    for name in ("results.json", "run.json", "metrics.jsonl"):
        (run / name).unlink()
    out = write_report([run], tmp_path / "report.html")
    for text in (out.read_text(), out.with_suffix(".md").read_text()):
        assert "no results yet" in text
        assert "logged nothing yet" in text
    assert "video" in short_table([run])


def test_short_table_two_data_sets_get_a_table_each(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", fingerprint="e" * 64)]
    assert short_table(runs).count("popularity\n") + short_table(runs).count("\npopularity ") == 2
    for name in ("synthetic ffffffffffff, test split", "synthetic eeeeeeeeeeee, test split"):
        assert f"{name}\n" in short_table(runs), (
            "data sets of one name are told apart by their fingerprint"
        )


def test_short_table_data_set_split_by_time_is_named_so(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a")]
    runs.append(make_run(tmp_path / "b", fingerprint="e" * 64, dataset_split="time"))
    table = short_table(runs)
    assert "synthetic, test split\n" in table
    assert "synthetic, split by time, test split\n" in table


def test_report_splits_get_a_table_each_with_their_own_baselines(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", 3.0),
        make_run(tmp_path / "b", 2.0),
        make_run(tmp_path / "c", 4.0, split="validation"),
    ]
    runs.append(make_run(tmp_path / "d", 1.0, split="validation"))
    out = write_report(runs, tmp_path / "report.html")
    text = out.with_suffix(".md").read_text()
    test, validation = text.split("## Results: synthetic, validation split")
    assert (
        "## Results: synthetic, test split" in test
        and "## HR@10 by popularity of the target: synthetic, test split" in test
    )
    assert (
        "| a (best on validation) | .3000 | 3.00 × |" in test
        and "| b | .2000 |" in test
        and "| c | ." not in test
    )
    assert (
        "| c (best on validation) | .2000 | 4.00 × |" in validation
        and "| popularity | .0500 | 1.00 × |" in validation
    )
    assert "c reaches HR@10 .2000 on the validation split, which is 4.00 × popularity" in validation
    for split in ("test", "validation"):
        assert f"<h2>Results: synthetic, {split} split</h2>" in out.read_text()
        assert f"<h2>Cold and popular items: synthetic, {split} split</h2>" in out.read_text()
    assert "<h2>Results</h2>" in write_report(runs[:2], tmp_path / "report.html").read_text(), (
        "one group needs no name"
    )


def test_report_equal_names_are_distinguished_and_repeated_runs_merged(tmp_path: Path) -> None:
    first, second, third = (
        make_run(tmp_path / folder, factor)
        for folder, factor in (("a/v1", 3.0), ("b/v1", 2.0), ("c", 1.0))
    )
    out = write_report(
        [first, second, third, tmp_path / "b" / ".." / "a" / "v1"], tmp_path / "report.html"
    )
    rows = [
        line.split("|")[1].strip()
        for line in out.with_suffix(".md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert rows[2:5] == ["a/v1", "b/v1", "c"]
    legends = re.findall(r'<p class="legend">.*?</p>', out.read_text())
    assert [legend.count("<span>") for legend in legends] == [
        3,
        3,
        3,
    ]  # loss, validation, popularity groups
    run_command(["report", str(first), str(tmp_path / "b" / ".." / "a" / "v1")])
    assert "# v1\n" in (first / "report.md").read_text(), (
        "one run, and so in its own folder and under its own name"
    )


def test_short_table_run_without_results_joins_its_data_set(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", split="validation"),
        make_run(tmp_path / "b"),
        make_run(tmp_path / "c", fingerprint="e" * 64),
    ]
    for run in (runs[1], runs[2]):
        (run / "results.json").unlink()
    assert short_table(runs[:2]).count("HR@10") == 1 and short_table(runs).count("HR@10") == 2


def test_short_table_is_aligned(tmp_path: Path) -> None:
    lines = short_table(
        [make_run(tmp_path / "video"), make_run(tmp_path / "a_long_name")]
    ).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines[1:]] == [
        "video",
        "a_long_name",
        "popularity",
        "chance",
        "oracle",
    ]


def test_report_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a run: it has no config\.yaml"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(ValueError, match=r"must end in \.html"):
        write_report([make_run(tmp_path / "video")], tmp_path / "report.pdf")
    (tmp_path / "video" / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results\.json is invalid"):
        write_report([tmp_path / "video"], tmp_path / "report.html")


def test_report_command_writes_next_to_the_runs_and_prints_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run(tmp_path / name) for name in ("video", "id")]
    run_command(["report", *map(str, runs)])
    run_command(["report", str(runs[0])])
    assert (tmp_path / "report.html").exists() and (runs[0] / "report.md").exists()
    assert f"report: {tmp_path}/report.html and {tmp_path}/report.md" in capsys.readouterr().out
