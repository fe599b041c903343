"""Training runs that diverge, and how they resume."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from tiny import tiny_overrides

from mlrec.config import Config, load
from mlrec.config.run_files import CONFIG_FILE, METRICS_FILE
from mlrec.data.schema import Batch
from mlrec.evaluation.results import read_results
from mlrec.models import precision
from mlrec.models.precision import Support
from mlrec.runs import checkpoint
from mlrec.runs.record import read_record
from mlrec.runs.run import best_checkpoint, load_run
from mlrec.runtime.distributed import stop_world
from mlrec.train.dry_run import predict
from mlrec.train.loop import train
from mlrec.train.sweep import check_unchanged, final_metrics
from mlrec.train.validations import choice_in_words

# an id run needs none of them, and each takes from 0.1 to several seconds to import
HEAVY_LIBRARIES = (
    "torch._dynamo",
    "torch._inductor",
    "torchvision",
    "transformers",
    "peft",
    "wandb",
    "setuptools",
)
TRAIN_AND_PRINT_HEAVY_IMPORTS = """
import sys
from mlrec.cli import main
main.run_command(["train", *sys.argv[2:]])
print([name for name in sys.argv[1].split(",") if name in sys.modules])
"""
Precision = Literal["auto", "fp32", "bf16"]
DIVERGING = ["optim.lr=1e30", "optim.encoder_lr=1e30"]


def run(config: Config) -> None:
    try:
        train(config)
    finally:
        stop_world()


def losses(path: Path) -> list[float | None]:
    lines = map(json.loads, (path / METRICS_FILE).read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in checkpoint.folder_of(path).iterdir())


@pytest.mark.parametrize("stage", [0, 2])
def test_diverged_run_starts_again_with_a_lower_learning_rate(
    dataset_dir: Path, tmp_path: Path, stage: int
) -> None:
    usual = [
        *tiny_overrides(dataset_dir, tmp_path),
        f"zero.stage={stage}",
        "train.max_skipped_steps=3",
        "train.save_every=1 steps",
    ]
    with pytest.raises(
        RuntimeError,
        match=r"3 steps in a row, up to step 4, .* lower optim.lr .*: "
        r"it starts from the first step",
    ):
        run(load([], [*usual, *DIVERGING]))
    path = tmp_path / "run"
    assert names(path) == ["step-000001.diverged"]
    logged = [json.loads(line) for line in (path / METRICS_FILE).read_text().splitlines()]
    assert [line["train/skipped_steps"] for line in logged if "train/skipped_steps" in line] == [
        0,
        1,
        1,
        1,
    ]
    assert losses(path)[1:] == [None, None, None]
    run(load([], usual))
    assert names(path) == ["step-000001.diverged", "step-000011", "step-000012"]
    assert all(loss is not None for loss in losses(path))


def test_diverged_run_continues_from_the_checkpoint_before(
    dataset_dir: Path, tmp_path: Path
) -> None:
    usual = [
        *tiny_overrides(dataset_dir, tmp_path),
        "train.max_skipped_steps=3",
        "train.evaluate_every=12 steps",
    ]
    run(load([], [*usual, "name=whole"]))
    run(load([], [*usual, "train.duration=6 steps"]))
    path = tmp_path / "run"
    with pytest.raises(
        RuntimeError,
        match=rf"and resume.force=true: it continues from {path}/checkpoints/step-000006\.",
    ):
        run(load([], [*usual, *DIVERGING, "resume.force=true", "train.save_every=1 steps"]))
    assert names(path) == ["step-000006", "step-000007.diverged"]
    with pytest.raises(ValueError, match=r"other settings \(optim.lr is 0.001, was 1e\+30"):
        run(load([], usual))
    run(load([], [*usual, "resume.force=true"]))
    assert losses(path) == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    weights = dict(checkpoint.read_tensors(checkpoint.newest(path), checkpoint.WEIGHT))
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_run_that_ends_with_validation_leaves_the_test_split_unread(
    dataset_dir: Path, tmp_path: Path
) -> None:
    overrides = ["evaluate.final_split=validation", "evaluate.users=5", "evaluate.cutoffs=[3,10]"]
    run(load([], [*tiny_overrides(dataset_dir, tmp_path), *overrides]))
    path = tmp_path / "run"
    lines = [json.loads(line) for line in (path / METRICS_FILE).read_text().splitlines()]
    validated = [line for line in lines if "validation/hr@3" in line]
    assert {line["validation/users"] for line in validated} == {5}
    assert not any(name.startswith("test/") for line in lines for name in line)
    cpu_s = [line["speed/cpu_s"] for line in lines if "speed/cpu_s" in line]
    assert min(cpu_s) > 0
    record = read_record(path)
    assert record is not None
    assert record["users_per_epoch"] == record["dataset"]["counts"]["users"]
    results = read_results(path)
    assert results is not None
    assert results.split == "validation"
    assert results.selected_by == "validation hr@10 on a sample of 5 users"
    assert results.metrics["all"]["users"] > 5
    assert final_metrics(path) is None
    final = final_metrics(path, "validation")
    assert final is not None
    assert final["ndcg@3"] == results.metrics["all"]["ndcg@3"]


def test_ema_of_a_resumed_run_is_the_average_of_its_weights(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlrec.train.engine import Engine

    take = Engine.train_step
    name = "sequence_model.positions.weight"
    weights: list[torch.Tensor] = []

    def recorded(engine: Engine, batch: object) -> object:
        step = take(engine, batch)  # type: ignore[arg-type]
        weights.append(engine.state.trained[name].detach().clone())
        return step

    monkeypatch.setattr(Engine, "train_step", recorded)
    usual = [*tiny_overrides(dataset_dir, tmp_path), "train.ema=0.4"]
    run(load([], [*usual, "train.duration=7 steps"]))
    run(load([], usual))
    average = weights[0]
    for updates, weight in enumerate(weights, start=1):
        decay = min(0.4, (1 + updates) / (10 + updates))
        # The initial weights are not recorded; here their share is that of the first ones.
        average = decay * average + (1 - decay) * weight
    newest = checkpoint.newest(tmp_path / "run")
    assert newest is not None
    averages = dict(checkpoint.read_tensors(newest, checkpoint.WEIGHT))
    raw_weights = dict(checkpoint.read_tensors(newest, checkpoint.RAW_WEIGHT))
    torch.testing.assert_close(averages[name], average, atol=1e-6, rtol=0)
    assert torch.equal(raw_weights[name], weights[-1])
    # The model that commands load is the one that validation ranked.
    run(load([], [*usual, "evaluate.final_split=validation"]))
    ranked = read_results(tmp_path / "run")
    best = checkpoint.read_state(best_checkpoint(load_run(tmp_path / "run")))
    assert ranked is not None
    assert ranked.metrics["all"]["hr@10"] == best.metrics["hr@10"]


@pytest.mark.parametrize("option", ["train.ema=0.9", "train.patience=2"])
def test_option_of_training_without_trained_weights_is_refused(
    dataset_dir: Path, tmp_path: Path, option: str
) -> None:
    overrides = tiny_overrides(dataset_dir, tmp_path)
    overrides.remove("recommender.options={dropout: 0.0}")
    counted = ["recommender.name=popularity", "train.duration=0 steps", option]
    words = option.replace("=", " is ")
    with pytest.raises(ValueError, match=f"{words} and has no effect, because nothing is trained"):
        run(load([], [*overrides, *counted]))
    assert not (tmp_path / "run").exists()


def test_patience_stops_whole_and_resumed_run_at_the_same_step(
    dataset_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mlrec.train.engine import Engine

    # Nothing is learned, so that only the first validation is a new best.
    usual = [
        *tiny_overrides(dataset_dir, tmp_path),
        "optim.lr=0",
        "optim.encoder_lr=0",
        "train.evaluate_every=2 steps",
        "train.save_every=5 steps",
        "train.patience=3",
    ]
    run(load([], [*usual, "name=whole"]))
    assert names(tmp_path / "whole") == ["step-000002", "step-000005", "step-000008"]
    assert (
        "stopped early after step 8 of 12: 3 validations without a new best hr@10, and "
        "train.patience is 3. With a larger one the same command continues"
    ) in capsys.readouterr().out
    # A run that is killed counts the validations since its checkpoint of step 5 again.
    take = Engine.train_step

    def killed(engine: Engine, batch: Batch) -> object:
        if batch.step == 7:
            raise RuntimeError("killed")
        return take(engine, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "train_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(load([], usual))
    run(load([], usual))
    assert names(tmp_path / "run") == names(tmp_path / "whole")

    # The same command, and one with a longer run, rank the best weights again and train no more.
    assert predict(load([], [*usual, "name=whole"]), 1).last_step == 8
    run(load([], [*usual, "name=whole", "train.duration=20 steps"]))
    assert len(losses(tmp_path / "whole")) == 8
    results = read_results(tmp_path / "whole")
    assert results is not None
    assert results.step == 2
    # More patience continues it.
    run(load([], [*usual, "name=whole", "train.patience=4"]))
    assert len(losses(tmp_path / "whole")) == 10


def test_save_of_non_finite_weights_is_refused(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlrec.train.engine import Engine

    take = Engine.train_step

    def overflow(engine: Engine, batch: object) -> object:
        step = take(engine, batch)  # type: ignore[arg-type]
        with torch.no_grad():
            engine.state.zero_optimizer.single_partition_of_fp32_groups[0].fill_(torch.inf)
        return step

    monkeypatch.setattr(Engine, "train_step", overflow)
    with pytest.raises(
        RuntimeError, match=r"is not finite at step 1, so no .* it starts from the first step"
    ):
        usual = tiny_overrides(dataset_dir, tmp_path)
        run(load([], [*usual, "train.save_every=1 steps", "zero.stage=2"]))
    assert names(tmp_path / "run") == []


def test_resume_without_the_saved_configuration_is_refused(
    dataset_dir: Path, tmp_path: Path
) -> None:
    usual = [*tiny_overrides(dataset_dir, tmp_path), "train.duration=2 steps"]
    run(load([], usual))
    (tmp_path / "run" / CONFIG_FILE).unlink()
    with pytest.raises(
        ValueError, match=r"has checkpoints but no config.yaml, .* set resume.force=true"
    ):
        run(load([], [*usual, "train.duration=4 steps"]))
    run(load([], [*usual, "train.duration=4 steps", "resume.force=true"]))
    assert (tmp_path / "run" / CONFIG_FILE).exists()


def test_edited_configuration_of_another_model_is_refused(
    dataset_dir: Path, tmp_path: Path
) -> None:
    run(load([], [*tiny_overrides(dataset_dir, tmp_path), "train.duration=2 steps"]))
    path = tmp_path / "run" / CONFIG_FILE
    saved = path.read_text()
    for before, after, words in (
        ("cosine: false", "cosine: true", "recommender.cosine is True, was False"),
        ("width: 16", "width: 8192", "recommender.width is 8192, was 16"),  # shall not be built
        ("fusion: sum", "fusion: concat", "item.fusion is 'concat', was 'sum'"),
    ):
        assert before in saved
        path.write_text(saved.replace(before, after))
        with pytest.raises(
            ValueError,
            match=rf"{path} does not describe the model of .*step-000002: {words}\. Restore",
        ):
            best_checkpoint(load_run(tmp_path / "run"))


@pytest.mark.parametrize("stage", [0, 2])
def test_id_run_imports_no_heavy_library(dataset_dir: Path, tmp_path: Path, stage: int) -> None:
    # in a process of its own, because this one has imported them
    overrides = [
        *tiny_overrides(dataset_dir, tmp_path),
        "train.duration=2 steps",
        "tracking.wandb=disabled",
        f"zero.stage={stage}",
    ]
    command = [sys.executable, "-c", TRAIN_AND_PRINT_HEAVY_IMPORTS, ",".join(HEAVY_LIBRARIES)]
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "untested optimizer" not in done.stdout + done.stderr


def test_run_in_auto_saves_its_precision_and_resumes_on_such_devices_alone(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config_with(choice: Precision, duration: str) -> Config:
        settings = replace(tiny_config.train, precision=choice, duration=duration)
        return replace(tiny_config, train=settings)

    with monkeypatch.context() as patch:
        with_bf16 = Support("NVIDIA H100 80GB HBM3", bf16=True, tf32=True)
        patch.setattr(precision, "support_of", lambda device: with_bf16)
        run(config_with("auto", "6 steps"))
    assert load_run(tiny_config.run_path).train.precision == "bf16"

    longer = config_with("auto", "7 steps")
    with pytest.raises(
        ValueError,
        match=r"train\.precision is 'fp32', was 'bf16'.*train\.precision=auto depends on the "
        r"device: set train\.precision=bf16 to continue as before$",
    ):
        run(longer)
    # A sweep's own process does not know the device of its runs, and leaves this to them.
    check_unchanged(replace(longer, train=replace(longer.train, duration="6 steps")))
    with pytest.raises(ValueError, match=r"train\.precision is 'fp32', was 'bf16'"):
        check_unchanged(config_with("fp32", "6 steps"))
    run(config_with("bf16", "7 steps"))
    assert len(losses(tiny_config.run_path)) == 7


def test_run_in_fp32_on_a_gpu_with_bf16_says_so_once(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_bf16 = Support("NVIDIA H100 80GB HBM3", bf16=True, tf32=True)
    monkeypatch.setattr(precision, "support_of", lambda device: with_bf16)
    words = "expected to take about 10 times as long as in bf16"
    assert [words in notice for notice in predict(tiny_config, 1).notices] == [True]
    run(tiny_config)
    output = capsys.readouterr()
    # a terminal's lines may break anywhere
    assert " ".join((output.out + output.err).split()).count(words) == 1


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([4, 1200, 1600, 1200], "step 1,200, the best of 3 validations by hr@10"),
        ([1200], "step 1,200, the only one that was validated"),
        ([], "step 1,200, the last checkpoint"),
    ],
)
def test_choice_in_words_says_why_a_step_is_ranked(
    steps: list[int], words: str, tmp_path: Path
) -> None:
    config = load([], [f"run_dir={tmp_path}", "data.url=/x"])
    lines = [{"step": 8, "time": 0.0, "train/loss": 1.0}]
    lines += [{"step": step, "time": 0.0, "validation/hr@10": 0.1} for step in steps]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (config.run_path / METRICS_FILE).write_text(text)
    assert choice_in_words(config, 1200) == words
