"""mlrec bench loader and scale, mlrec-shards bench: keys and arithmetic of their figures."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from packed import pack

from mlrec.bench.loader import measure_loader
from mlrec.bench.result import aligned
from mlrec.bench.scale import RANKS, Rates, scale
from mlrec.bench.worker_parts import PARTS, WARM_UP
from mlrec.cli.main import run_command
from mlrec.config import DataConfig
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, open_data
from shards_tools import cli
from shards_tools.pack.settings import Settings


def test_measure_loader_three_workers_measures_0_to_3(data: Data) -> None:
    bench = measure_loader(data, global_batch=40, most_workers=3, steps_per_worker=1)
    assert list(bench.workers) == ["0", "1", "2", "3"]
    assert set(bench.step_seconds) == set(PARTS)
    assert bench.modality == "video"
    assert bench.frames == 5
    assert bench.size == 32
    plan = Plan(data.sequences, 0, 40, Owners((1,)))
    items = [len(plan.step(step).items_U) for step in range(3 * (WARM_UP + 1))]
    assert bench.videos_per_step == np.mean(items)
    for speeds in bench.workers.values():
        # rel=0.2, because the items of a run are not all items
        mb_per_s = speeds.videos_per_s * bench.bytes_per_video / 1e6
        assert speeds.mb_per_s == pytest.approx(mb_per_s, rel=0.2)
        of_limit = speeds.videos_per_s / speeds.limit_videos_per_s
        assert speeds.of_limit == pytest.approx(of_limit)
        assert speeds.jpeg_videos_per_s is not None and speeds.jpeg_videos_per_s > 0
    assert bench.host_bytes_per_video == 5 * 32 * 32 * 3
    names = [f"{frame}.jpg" for frame in range(5)]
    largest = data.catalogue.largest_member(names)
    assert bench.jpeg_host_bytes_per_video == 5 * (4 + largest)


def test_bench_loader_says_when_to_decode_on_the_device(
    dataset_dir: Path, raw_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--workers", "1", "--steps", "1", "--global-batch", "20"]
    run_command(["bench", "loader", str(dataset_dir), *options])
    advice = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"Set data\.decode_on=device \(needs a GPU and mlrec\[nvjpeg\]\) where mlrec bench step "
        r"reports more than [\d,]+ videos/s per rank and no more cores are free\. The loader then "
        r"delivers [\d,]+ videos/s as JPEGs, in \d+ instead of 15 kB of host memory each",
        advice,
    )
    settings = Settings(media="clip", policy="uniform", size=32)
    pack(raw_dir, tmp_path / "clips", settings)
    run_command(["bench", "loader", str(tmp_path / "clips"), *options])
    advice = capsys.readouterr().out.splitlines()[-1]
    assert advice == "data.decode_on=device decodes JPEG frames and covers, and no clips"


def test_scale_items_per_rank_sum_to_distinct_items(data: Data) -> None:
    rates = Rates(width=8, videos_per_s=10.0, gb_per_s=1.0)
    rows = scale(data, [(ranks, 40) for ranks in RANKS], rates)
    assert [row.ranks for row in rows] == [1, 4, 16], "40 users are fewer than 64 ranks"
    items = Plan(data.sequences, 0, 40, Owners((1,))).step(0)
    stored = sum(file.size for file in data.info.shards("items")) / data.catalogue.size
    for row in rows:
        fewest, most = row.items_per_rank
        assert row.distinct_items == len(items.items_U) and row.slots == (items.slots_GT >= 0).sum()
        remainder = row.distinct_items - row.ranks * fewest
        assert most - fewest == (remainder > 0) and remainder < row.ranks
        assert row.read_bytes_per_rank == pytest.approx(most * stored)
        assert row.exchange_bytes_per_rank == 2 * (row.distinct_items - most) * 8 * 4
        assert row.step_s == pytest.approx(most / 10 + row.exchange_bytes_per_rank / 1e9)


def test_bench_scale_with_rates_prints_and_draws(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "scale.svg"
    options = [
        str(dataset_dir),
        f"data.cache_dir={tmp_path}/cache",
        "--users-per-rank",
        "10",
        "--global-batch",
        "60",
        "--gb-per-s",
        "1",
    ]
    run_command(
        ["bench", "scale", *options, "--videos-per-s", "100", "--out", str(picture), "--json"]
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["bench"] == "scale" and printed["device"].endswith("1 rank")
    assert [row["users"] for row in printed["rows"]["users_per_rank"]] == [10, 40, 120, 120]
    assert {row["users"] for row in printed["rows"]["global_batch"]} == {60}
    assert "users per second" in picture.read_text()

    run_command(["bench", "scale", *options, "--videos-per-s", "100"])
    assert "10 users a rank: ranks" in capsys.readouterr().out


def test_bench_scale_without_rates_measures_the_tower(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower = [
        "item.encoders=[video/tiny]",
        "item.options={video/tiny: {size: 32, width: 16}}",
        "item.chunk=4",
    ]
    run_command(
        ["bench", "scale", str(dataset_dir), *tower, f"data.cache_dir={tmp_path}/cache", "--json"]
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["videos_per_s"] > 0 and printed["gb_per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scale", "nowhere"], "Give --videos-per-s"),
        (["scale", "nowhere", "--videos-per-s", "0"], "--videos-per-s is 0"),
        (["scale", "nowhere", "--videos-per-s", "1", "--out", "x.png"], "must end in .svg"),
        (["loader", "nowhere", "--steps", "0"], "--steps is 0"),
    ],
)
def test_bench_bad_option_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run_command(["bench", *arguments])


def test_measure_loader_without_media_is_refused(raw_dir: Path, tmp_path: Path) -> None:
    from rich.console import Console

    from shards_tools.make import make
    from shards_tools.pack.settings import Settings

    bare = tmp_path / "raw"
    bare.mkdir()
    for table in raw_dir.glob("*.tsv"):
        (bare / table.name).write_bytes(table.read_bytes())
    make(bare, str(tmp_path / "data"), Settings(), 1, None, Console(file=io.StringIO()))
    titles_only = open_data(
        DataConfig(url=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    )
    with pytest.raises(ValueError, match="neither videos nor covers"):
        measure_loader(titles_only, global_batch=40, most_workers=1, steps_per_worker=1)


def test_shards_bench_four_items_counts_videos_and_bytes(
    raw_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", str(raw_dir), "--items", "4", "--workers", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["bench"], printed["videos"], printed["failed"], printed["workers"]) == (
        "pack",
        4,
        0,
        1,
    )
    assert printed["float32_bytes_per_item"] == 5 * 224 * 224 * 3 * 4
    assert printed["times_smaller"] == pytest.approx(
        printed["float32_bytes_per_item"] / printed["bytes_per_item"]
    )
    assert printed["of_limit"] == pytest.approx(
        printed["videos_per_s"] / printed["limit_videos_per_s"]
    )
    assert cli.main(["bench", str(raw_dir), "--items", "0"]) == 2


def test_aligned_pads_names_and_figures() -> None:
    assert aligned([("", "a"), ("name", "12")]) == "       a\nname  12"
