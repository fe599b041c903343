"""mlrec plan: what a run takes on GPUs that are not here."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import NUM_ITEMS, NUM_USERS, tiny_overrides

from mlrec.cli.main import run_command
from mlrec.config import Config, load
from mlrec.runtime.devices import DEVICES
from mlrec.train import large_tables, model_cost
from mlrec.train.dry_run import predict
from mlrec.train.forecast_words import (
    floating_point,
    in_hours,
    memory_lines,
    on_ranks,
    seconds,
    time_lines,
)
from mlrec.train.machine import parse_memory
from mlrec.train.run_plan import RunPlan, plan_run

IDS = ["item.encoders=[id/embedding]"]
VIDEO = ["item.encoders=[video/x3d_xs]", "item.chunk=16"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse all connections."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def planned(settings: list[str], gpus: int = 8, **options: Any) -> RunPlan:
    arguments = {"nodes": None, "memory": None, "gpu": "h100", **options}
    return plan_run(load([], settings), gpus, **arguments)


def test_plan_without_a_data_set_assumes_microlens_50k(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["plan", *VIDEO, "--gpus", "8", "--gpu", "h100"])
    output = capsys.readouterr().out
    assert "50,000 users, 19,220 items, 359,708 interactions; data.url is not set" in output
    assert "gpus     8 x NVIDIA H100 SXM, bf16, ZeRO-2" in output
    assert re.search(r"a step   about 2,0\d\d distinct items", output), output
    assert "fits NVIDIA H100 SXM" in output
    assert re.search(
        r"price    (\d+\.\d GPU hours, about|\d+ GPU minutes, (about|less than)) \$\d+", output
    )


def test_plan_json_has_units_in_its_keys(
    dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"data.url={dataset_dir}", "train.global_batch=18"]
    run_command(["plan", *settings, "--gpus", "2", "--memory", "24GB", "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["users"] == NUM_USERS
    assert plan["items"] == NUM_ITEMS
    assert plan["assumption"] == ""
    assert plan["time"] is None
    assert plan["memory"]["device_bytes"] == 24e9
    assert plan["memory"]["fits"] is True
    assert plan["remedies"] == []
    assert plan["steps"] == 20 * plan["steps_per_epoch"]
    assert plan["most_items_per_rank"] <= NUM_ITEMS
    for key in ("media_bytes", "node_bytes"):
        assert plan["host"][key] >= 0


def test_plan_of_a_run_that_does_not_fit_names_settings_with_which_it_does() -> None:
    settings = [*VIDEO, "item.checkpoint=never"]
    needed = planned(settings, gpu=None, memory="80GB").forecast.memory.needed_bytes
    plan = planned(settings, gpu=None, memory=f"{0.6 * needed / 1e9:.3f}GB")
    assert not plan.forecast.memory.fits
    lines = plan.describe()
    verdict = "         does not fit GPUs of "
    assert any(line.startswith(verdict) and "GB: it takes" in line for line in lines)
    kept, top = plan.remedies
    assert kept.settings == ("item.checkpoint=auto",)
    assert top.settings == ("item.tuning=top",)
    assert sum(line.startswith("         with item.") for line in lines) == 2
    again = planned([*VIDEO, *kept.settings], gpu=None, memory="80GB")
    assert kept.needed_bytes <= again.forecast.memory.needed_bytes


def test_plan_of_a_large_table_names_stages_and_gpus() -> None:
    settings = ["item.encoders=[text/bert_large]", "item.chunk=1", "item.checkpoint=always"]
    plan = planned(settings, gpus=2, gpu=None, memory="4GB")
    (remedy,) = plan.remedies[:1]
    assert remedy.settings[0] == "zero.stage=3"
    assert remedy.fits


def test_plan_at_zero_stage_3_counts_parameters_that_stay_gathered() -> None:
    model = ["item.encoders=[text/bert_base]", "item.checkpoint=always", "item.chunk=1"]
    settings = [*model, "zero.stage=3"]
    forecast = planned(settings, gpus=8).forecast
    assert forecast.memory.state.gathered == 2 * forecast.cost.total
    assert any("gathered parameters" in line for line in memory_lines(forecast, []))
    limits = [
        f"zero.options.{option}=10000000"
        for option in ("stage3_max_reuse_distance", "stage3_prefetch_bucket_size")
    ]
    limited = planned([*settings, *limits], gpus=8).forecast
    assert 2 * 10**7 < limited.memory.state.gathered < forecast.memory.state.gathered
    assert planned([*model, "zero.stage=2"], gpus=8).forecast.memory.state.gathered == 0
    assert planned(settings, gpus=1).forecast.memory.state.gathered == 0

    needed = limited.memory.needed_bytes
    plan = planned(settings, gpus=8, gpu=None, memory=f"{1.005 * needed / 1e9:.3f}GB")
    assert plan.remedies[0].settings == tuple(limits)


def test_plan_counts_the_scores_of_a_validation_and_names_a_lower_user_chunk() -> None:
    settings = [*IDS, "evaluate.user_chunk=16384"]
    memory = planned(settings, gpus=1, gpu=None, memory="80GB").forecast.memory
    assert memory.largest_part == "validation"
    assert memory.ranking.scores == 4 * 16_384 * 19_220
    assert memory.as_json()["largest_part"] == "validation"
    assert planned(IDS, gpus=1).forecast.memory.ranking.scores == 4 * 256 * 19_220

    plan = planned(settings, gpus=1, gpu=None, memory="1.8GB")
    assert not plan.forecast.memory.fits
    (remedy,) = plan.remedies
    assert remedy.settings == ("evaluate.user_chunk=8192",)
    lines = plan.describe()
    assert any(line.endswith("of 1.80 GB, in a validation") for line in lines)
    assert any("scores 1.26 GB of at most 16,384 users at a time" in line for line in lines)
    assert any(line.startswith("         with evaluate.user_chunk=8192 it takes") for line in lines)


def test_plan_of_a_sharded_table_has_no_gradient_of_all_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = [*IDS, "recommender.width=256"]
    sharded = planned(settings).forecast
    monkeypatch.setattr(large_tables, "MIN_SHARDED_WEIGHTS", 1 << 30)
    whole = planned(settings).forecast
    table = 19_221 * 256
    assert sharded.cost.in_tables == table
    assert whole.memory.step.chunk > 2 * table
    assert sharded.memory.step.chunk < 0.5 * table
    # The rows of the step's items in bf16, and their gradient in fp32.
    assert sharded.memory.step.rows == 6 * 256 * sharded.workload.most_items
    assert whole.memory.step.rows == 0


def test_plan_with_decode_on_device_says_what_it_assumes() -> None:
    assert not any(line.startswith("note") for line in planned(VIDEO).describe())
    assert planned([*VIDEO, "data.decode_on=device"]).describe()[-1] == (
        "note     host memory is that of data.decode_on=host; --dry-run on a machine with a GPU "
        "knows the sizes of the JPEGs"
    )


def test_plan_later_epochs_run_the_trained_part_alone() -> None:
    settings = ["item.encoders=[video/x3d_xs]", "item.tuning=top"]
    cached = planned(settings).forecast
    plain = planned([*settings, "item.prefix_cache_bytes=0"]).forecast
    assert cached.time is not None
    assert plain.time is not None
    assert cached.cached_share > 0
    assert plain.cached_share == 0
    assert cached.first_epoch == plain.later_epochs
    assert cached.later_epochs.tower_flops < cached.first_epoch.tower_flops
    first_line, later_line = time_lines(cached)[:2]
    assert re.match(r"time     first epoch: [\d.]+ ms a step: .*FLOP, [\d,]+ kernels", first_line)
    later = r" +later epochs, in which 100% of the items have cached activations: [\d.]+ ms a step"
    assert re.match(later, later_line)
    one_epoch = planned([*settings, "train.duration=1 epoch"]).forecast
    assert one_epoch.cached_share == 0
    assert cached.time.later_epochs.encode < cached.time.first_epoch.encode
    assert cached.time.first_epoch.encode == plain.time.later_epochs.encode
    full = planned(["item.encoders=[video/x3d_xs]"]).forecast
    assert full.time is not None
    assert full.cached_share == 0


def test_plan_with_recomputed_chunks_adds_their_forward_passes() -> None:
    held = planned([*VIDEO, "item.checkpoint=never"]).forecast
    recomputed = planned([*VIDEO, "item.checkpoint=always"]).forecast
    assert recomputed.memory.needed_bytes < held.memory.needed_bytes
    # A forward pass has a third of the operations of a step.
    held_flops = held.later_epochs.tower_flops
    assert recomputed.later_epochs.tower_flops == pytest.approx(4 / 3 * held_flops, rel=0.05)


@pytest.mark.parametrize("gpu", ["h100", "t4"])
@pytest.mark.parametrize(
    "settings",
    [
        [*IDS, "recommender.width=256"],
        ["item.encoders=[video/x3d_xs]"],
        ["item.encoders=[video/x3d_xs]", "item.tuning=top"],
    ],
)
def test_plan_implies_a_rate_below_the_peak_of_the_gpu(settings: list[str], gpu: str) -> None:
    forecast = planned(settings, gpu=gpu).forecast
    precision = forecast.config.train.precision
    assert precision != "auto"
    assert forecast.time is not None
    peak = 8 * DEVICES[gpu].flops_per_s(precision)
    for work, parts in (
        (forecast.first_epoch, forecast.time.first_epoch),
        (forecast.later_epochs, forecast.time.later_epochs),
    ):
        assert work.flops is not None
        assert 0 < work.flops / parts.step < peak


def test_plan_of_a_graph_model_has_an_unknown_recommender(
    dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"data.url={dataset_dir}", "recommender.name=lightgcn", *IDS]
    plan = planned(settings, gpus=1)
    content = plan.as_json()
    assert content["flops_per_step"] is None
    assert content["recommender_flops_per_step"] is None
    assert content["kernels_per_step"] is None
    assert content["time"]["parts_s"]["recommend"] is None
    assert content["time"]["lacks_recommender"] is True
    words = "\n".join(plan.describe())
    assert re.search(r"time     at least .* ms a step: .* recommender unknown, exchange", words)
    assert "GFLOP without the recommender's\n" in words
    assert "less than a minute in all, without the recommender's time" in words
    assert f"a step   all {NUM_ITEMS} items; at most {NUM_ITEMS} on one rank" in words


def test_plan_of_a_recommender_with_a_fault_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(model_cost, "simulate_recommender", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        planned(IDS)


def test_plan_words_have_readable_figures() -> None:
    assert floating_point(2697.5e12) == "2.70 PFLOP"
    assert floating_point(999.9e9) == "1.00 TFLOP"
    assert floating_point(32.45e9) == "32.5 GFLOP"
    assert in_hours(5400) == "1.5 hours"
    assert in_hours(90.0, "GPU ") == "2 GPU minutes"
    assert in_hours(60) == "1 minute"
    assert in_hours(1) == "less than a minute"
    assert seconds(0.000688) == "0.69 ms"
    assert seconds(0.9131) == "913 ms"
    assert on_ranks(1) == "on one rank"
    assert on_ranks(1024) == "on one of 1,024 ranks"


def test_plan_names_the_gpus_in_any_case() -> None:
    assert planned(IDS, gpu="H100").describe()[2].startswith("gpus     8 x NVIDIA H100 SXM")
    memory_alone = planned(IDS, gpus=1, gpu=None, memory="80GB").describe()
    assert memory_alone[2] == "gpus     1 GPU of 80 GB, bf16, ZeRO-2"
    words = "\n".join(planned([*IDS, "train.duration=1 epoch"], gpus=1).describe())
    assert "less than $1 at $7.00 per GPU and hour" in words
    assert "for each of 2 validations, less than a minute in all" in words


def test_plan_with_frames_decoded_on_the_gpu_has_no_loader_time() -> None:
    plan = planned([*VIDEO, "data.decode_on=device"])
    assert plan.forecast.time is not None
    assert plan.forecast.time.later_epochs.load == 0
    assert "         frames are decoded on the GPU, which this does not include" in plan.describe()


def test_plan_of_a_slow_loader_says_so() -> None:
    settings = ["item.encoders=[video/x3d_xs]", "data.num_workers=1", "item.tuning=frozen"]
    lines = planned([*settings, "item.prefix_cache_bytes=0"]).describe()
    assert any("the loader is the limit: 1 worker per rank" in line for line in lines)


def test_plan_precision_follows_the_gpu() -> None:
    assert planned(VIDEO, gpu="t4").forecast.config.train.precision == "fp32"
    assert planned(VIDEO, gpu="l4").forecast.config.train.precision == "bf16"


def test_plan_of_bf16_on_a_gpu_without_it_has_the_time_of_fp32() -> None:
    emulated = planned([*IDS, "train.precision=bf16"], gpu="t4")
    notice = (
        "train.precision is bf16, which NVIDIA T4 does not support: torch emulates it, slower than "
        "fp32. Set train.precision=fp32"
    )
    assert emulated.notices == emulated.as_json()["notices"] == [notice]
    assert emulated.describe()[-1] == f"note     {notice}"
    in_fp32 = planned(IDS, gpu="t4")
    assert in_fp32.notices == []
    assert emulated.forecast.machine.rates == in_fp32.forecast.machine.rates


def test_plan_of_fp32_on_a_gpu_with_bf16_says_that_it_is_slow() -> None:
    (notice,) = planned([*IDS, "train.precision=fp32"]).notices
    assert notice.startswith("train.precision is fp32 on NVIDIA H100 SXM, where steps")
    assert "about 10 times as long as in bf16" in notice


def test_plan_of_more_gpus_than_users_names_the_users(dataset_dir: Path) -> None:
    settings = [f"data.url={dataset_dir}", "train.global_batch=18", *IDS]
    message = f"has {NUM_USERS} users, fewer than the 1,024 GPUs. Take at most {NUM_USERS} GPUs$"
    with pytest.raises(ValueError, match=message):
        planned(settings, gpus=1024)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ("users", "dataset.json is invalid: 0 users with"),
        ("interactions", f"dataset.json is invalid: {NUM_USERS} users with 0 interactions"),
        ("train", f"has 0 training interactions of {NUM_USERS} users. No user has two"),
    ],
)
def test_plan_of_an_empty_data_set_is_refused(
    count: str, message: str, dataset_dir: Path, tmp_path: Path
) -> None:
    content = json.loads((dataset_dir / "dataset.json").read_text())
    content["counts"][count] = 0
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        planned([f"data.url={tmp_path}", *IDS], gpus=1)


def test_plan_reads_about_the_bytes_of_a_dry_run(dataset_dir: Path, tmp_path: Path) -> None:
    for encoder in ("video/tiny", "id/embedding"):
        settings = [*tiny_overrides(dataset_dir, tmp_path), f"item.encoders=[{encoder}]"]
        config = load([], settings)
        plan = plan_run(config, 1, None, "80GB", None)
        expected = predict(config, 1).step_sizes.mean_bytes
        assert plan.forecast.workload.bytes_per_step == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpu", "h10"], r"unknown gpu 'h10'; did you mean 'h100'\? see: mlrec list gpus"),
        (["--memory", "80"], r"--memory is '80'. Give the memory of one GPU with its unit"),
        (["--memory", "0GB"], r"--memory is '0GB'"),
        (["--memory", "80TB"], r"--memory is '80TB'"),
        ([], r"mlrec plan needs the memory of a GPU. Give --memory 80GB, or --gpu h100"),
        (["--gpu", "h100", "--gpus", "0"], r"argument --gpus: the value is 0"),
        (["--gpu", "h100", "--gpus", "2", "--nodes", "3"], r"--nodes is 3, more than the 2 GPUs"),
        (["--gpu", "h100", "--gpus", "600"], r"steps of 510 users, fewer than the 600 ranks"),
        (["--gpu", "t4", "train.precision=tf32"], r"train.precision is tf32, which NVIDIA T4"),
        (["--gpu", "h100", "data.url=/nowhere"], r"/nowhere is missing"),
        (["--gpu", "h100", "recommender.name=sasrek"], r"did you mean 'sasrec'"),
    ],
)
def test_plan_of_bad_values_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_command(["plan", "train.duration=1 epoch", *words])


def test_plan_of_an_unknown_checkpoint_asks_for_its_folder() -> None:
    options = "item.options={text/huggingface: {checkpoint: intfloat/e5-base}}"
    with pytest.raises(ValueError, match=r"text/huggingface.checkpoint is 'intfloat/e5-base'"):
        planned(["item.encoders=[text/huggingface]", options])


def test_plan_of_media_that_the_data_set_lacks_is_refused(dataset_dir: Path) -> None:
    settings = [f"data.url={dataset_dir}", "train.global_batch=18", "item.encoders=[audio/ast]"]
    with pytest.raises(ValueError, match="holds no audio of its items"):
        planned(settings, gpus=1)


@pytest.mark.parametrize("recommender", ["lightgcn", "popularity", "gru4rec"])
def test_plan_covers_recommenders_of_every_class(
    recommender: str, dataset_dir: Path, tiny_config: Config
) -> None:
    config = replace(tiny_config, recommender=replace(tiny_config.recommender, name=recommender))
    config = replace(config, recommender=replace(config.recommender, options={}))
    plan = plan_run(config, 1, None, None, "l4")
    assert plan.forecast.memory.fits
    assert plan.describe()


def test_parse_memory_takes_decimal_and_binary_units() -> None:
    assert parse_memory("80GB") == 80 * 10**9
    assert parse_memory("79GiB") == 79 << 30
    assert parse_memory("0.5 gb") == 5 * 10**8
