"""The small files of a run's folder: cut files are repaired, damaged ones refused with a remedy."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlrec import config as configuration
from mlrec.evaluation.results import read_results
from mlrec.runs import failures, wandb_run
from mlrec.runs.failures import Failure, read_failures
from mlrec.runs.metrics_file import read_metrics
from mlrec.runs.recommendations import read_recommended
from mlrec.runs.record import read_record
from mlrec.train.sweep import final_metrics

FAILURE = {"item": 3, "reason": "crc32", "step": 7}
METRICS = {"step": 7, "time": 1.5, "train/loss": 2.5, "validation/hr@10": None}
RESULTS = {
    "split": "test",
    "step": 3,
    "selected_by": "",
    "metrics": {"all": {"users": 2}},
    "baselines": {},
}

EXAMPLE = {"user": 1, "history": [1], "target": 2, "rank": 1, "items": [2]}
RECOMMENDED = {
    "split": "test",
    "users": 2,
    "popularity": {"recommended": {}, "targets": {}, "catalogue": {}},
    "examples": [EXAMPLE],
    "titles": {"1": "title"},
}


def lines(*values: object) -> bytes:
    """Return each value as a line of JSON."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", 0), (lines(FAILURE), 1), (lines(FAILURE) + b'{"item": 4, "rea', 1), (b'{"it', 0)],
)
def test_failures_file_that_was_cut_off_is_repaired(
    tmp_path: Path, content: bytes, expected: int
) -> None:
    (tmp_path / "failures.jsonl").write_bytes(content)
    assert failures.repair(tmp_path) == [Failure(3, "crc32", 7)] * expected
    failures.append(tmp_path, [Failure(9, "new", 8)])
    assert read_failures(tmp_path) == [*[Failure(3, "crc32", 7)] * expected, Failure(9, "new", 8)]


@pytest.mark.parametrize(
    "content", [b"", lines(METRICS), lines(METRICS) + b'{"step": 8, "ti', b"\xff\xfe"]
)
def test_read_metrics_of_a_cut_off_file_keeps_whole_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert read_metrics(tmp_path) == [METRICS] * content.count(b"\n")
    assert final_metrics(tmp_path) is None


READERS: dict[str, tuple[Callable[[Path], Any], list[bytes]]] = {
    "failures.jsonl": (
        read_failures,
        [
            lines(FAILURE)[5:] + lines(FAILURE),
            lines({**FAILURE, "item": "3"}),
            lines({**FAILURE, "item": 0}),
            lines({**FAILURE, "extra": 1}),
            b"\n",
            b"\x00\xff\n",
            b"[" * 100_000 + b"\n",
        ],
    ),
    "metrics.jsonl": (
        read_metrics,
        [
            b'{"step": 7,\n' + lines(METRICS),
            lines({"time": 1.5}),
            lines({**METRICS, "step": -1}),
            lines({**METRICS, "step": 1.5}),
            lines({**METRICS, "step": "7"}),
            lines({**METRICS, "train/loss": [1]}),
            b'{"step": 7, "train/loss": NaN}\n',
            lines([1]),
        ],
    ),
    "run.json": (
        read_record,
        [
            b"",
            b"{",
            b'{"hours": NaN}',
            b'{"hours": "2"}',
            b'{"started": 3}',
            b'{"dataset": 1}',
            b'{"dataset": {"counts": 1}}',
        ],
    ),
    "results.json": (
        read_results,
        [
            b"",
            b"{}",
            b"null",
            *(
                json.dumps(RESULTS | change).encode()
                for change in [
                    {"split": "train"},
                    {"step": -1},
                    {"metrics": {}},
                    {"metrics": {"all": {"users": -1}}},
                    {"metrics": {"all": {"users": 1e30}}},
                    {"metrics": {"all": {"hr@10": "much"}}},
                    {"catalogue_size": 10**12},
                    {"bad_items": {"one": "reason"}},
                    {"fingerprint": 3},
                ]
            ),
        ],
    ),
    "recommended.json": (
        read_recommended,
        [
            b"",
            b"[" * 100_000,
            *(
                json.dumps(RECOMMENDED | change).encode()
                for change in [
                    {"users": "2"},
                    {"popularity": {}},
                    {
                        "popularity": {
                            "recommended": {},
                            "targets": {"cold": 1},
                            "catalogue": {"cold": 1},
                        }
                    },
                    {"titles": {"x": "title"}},
                    {"examples": [{**EXAMPLE, "items": [0]}]},
                    {"examples": [{**EXAMPLE, "target": 1 << 40}]},
                    {"examples": [EXAMPLE] * 2000},
                ]
            ),
        ],
    ),
    "wandb_id.txt": (
        wandb_run._run_id,
        [b"", b"\x00\x01", b"a b", b"../../x", b"x" * 65, b"x" * 10_000],
    ),
}
CASES = [(name, content) for name, (_, contents) in READERS.items() for content in contents]


@pytest.mark.parametrize(
    ("name", "content"), CASES, ids=[f"{name}-{content[:24]!r}" for name, content in CASES]
)
def test_run_file_that_is_damaged_is_refused_with_a_remedy(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}.*\. (Remove|mlrec evaluate).*\.$"):
        READERS[name][0](tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", READERS)
def test_run_file_that_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    for make in (os.mkfifo, os.mkdir):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / name)
        with pytest.raises(ValueError, match=f"{folder / name} is not a regular file"):
            READERS[name][0](folder)


def test_read_recommended_of_a_whole_file_returns_its_content(tmp_path: Path) -> None:
    (tmp_path / "recommended.json").write_text(json.dumps(RECOMMENDED))
    recommended = read_recommended(tmp_path)
    assert recommended is not None
    assert recommended.examples[0].items == (2,)
    assert recommended.titles == {1: "title"}


def test_read_record_with_unknown_keys_keeps_them(tmp_path: Path) -> None:
    record = {"hours": 1, "started": "2026", "something_new": {"a": [1]}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_record(tmp_path) == record


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_load_saved_of_a_cut_off_configuration_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "config.yaml"
    configuration.save(configuration.Config(), path)
    lines = path.read_text().splitlines(keepends=True)
    assert configuration.load_saved(path) == configuration.Config()
    path.write_text("".join(lines[: int(share * len(lines))]))
    words = (
        r"(: optim.betas has no value"
        r"| is truncated: it has no \w+. Restore it, or run the training command)"
    )
    with pytest.raises(ValueError, match=rf"{path}{words}"):
        configuration.load_saved(path)


def test_too_many_failures_name_the_most_frequent_reason(tmp_path: Path) -> None:
    error = failures.too_many(
        ["torn", "not a JPEG", "not a JPEG"], 1, "s3://b/data", tmp_path / "failures.jsonl"
    )
    assert (
        "3 items could not be read, data.max_bad_items is 1. "
        "The most frequent reason, of 2: not a JPEG." in str(error)
    )
    assert str(tmp_path / "failures.jsonl") in str(error)
