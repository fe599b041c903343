"""A run continues only with the settings that it started with."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tiny import tiny_overrides

from mlrec import config as configuration
from mlrec.config import Config, load
from mlrec.config.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.data.stream import Data
from mlrec.runs.checkpoint import TrainingState, folder_of
from mlrec.runs.compatibility import check_model_settings, differences
from mlrec.runs.run import best_checkpoint, find_state, load_run


def start_run(data: Data, dataset_dir: Path, folder: Path) -> Config:
    """Write a run that has a checkpoint and return its configuration."""
    config = load([], tiny_overrides(dataset_dir, folder))
    state = TrainingState(6, config.seed, data.info.fingerprint, config.train.global_batch)
    written = folder_of(config.run_path) / "step-000006" / "state.json"
    written.parent.mkdir(parents=True)
    written.write_text(json.dumps(asdict(state)))
    configuration.save(config, config.run_path / CONFIG_FILE)
    return config


def test_find_state_with_other_settings_is_refused(
    data: Data, dataset_dir: Path, tmp_path: Path
) -> None:
    start_run(data, dataset_dir, tmp_path)

    def resumed_step(*changes: str) -> int:
        config = load([], [*tiny_overrides(dataset_dir, tmp_path), *changes])
        _, state = find_state(config, data)
        return state.step

    assert resumed_step() == 6
    assert (
        resumed_step(
            "train.duration=9 epochs",
            "zero.stage=3",
            "item.chunk=3",
            "data.num_workers=1",
            "train.log_every=7 steps",
            "evaluate.cutoffs=[5,10]",
        )
        == 6
    )
    for change, words in {
        "optim.encoder_lr=0.25": r"optim\.encoder_lr is 0\.25, was",
        "loss.name=bpr": r"loss\.name is 'bpr', was 'in_batch_softmax'",
        "item.tuning=frozen": r"item\.tuning is 'frozen', was",
        "recommender.width=32": r"recommender\.width is 32, was 16",
        "evaluate.users=5": r"evaluate\.users is 5, was 0",
    }.items():
        with pytest.raises(
            ValueError,
            match=f"holds a run with other settings .*{words}.* Restore the old values, or give "
            "the new run another name or run_dir",
        ):
            resumed_step(change)
        assert resumed_step(change, "resume.force=true") == 6


def test_load_run_in_auto_precision_is_refused(
    data: Data, dataset_dir: Path, tmp_path: Path
) -> None:
    run = start_run(data, dataset_dir, tmp_path).run_path
    assert load_run(run).train.precision == "fp32"
    with pytest.raises(ValueError, match=r"train\.precision is 'auto', which does not say how"):
        load_run(run, ["train.precision=auto"])


def test_differences_of_options_name_each_changed_entry(dataset_dir: Path, tmp_path: Path) -> None:
    def config_with(options: str) -> Config:
        overrides = [
            "item.encoders=[text/bert_tiny]",
            f"item.options={{text/bert_tiny: {{length: 12, {options}}}}}",
        ]
        return load([], [*tiny_overrides(dataset_dir, tmp_path), *overrides])

    before = config_with("lora: {rank: 4, dora: true}")
    assert differences(before, config_with("lora: {rank: 8}"), ()) == (
        "item.options.text/bert_tiny.lora.rank is 8, was 4; "
        "item.options.text/bert_tiny.lora.dora is not set, was True"
    )
    assert differences(before, config_with("side: {width: 8}"), ()) == (
        "item.options.text/bert_tiny.side is {'width': 8}, was not set; "
        "item.options.text/bert_tiny.lora is not set, was {'rank': 4, 'dora': True}"
    )
    assert differences(before, before, ()) == ""


def test_best_checkpoint_of_an_export_names_run_and_index(tiny_config: Config) -> None:
    tiny_config.run_path.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no checkpoint\. mlrec train writes the first one"):
        best_checkpoint(tiny_config)
    (tiny_config.run_path / WEIGHTS_FILE).touch()
    with pytest.raises(
        ValueError, match=r"is an export, .*Name the run .*mlrec export RUN .* --index"
    ):
        best_checkpoint(tiny_config)


def test_check_model_settings_long_values_are_cut(tiny_config: Config) -> None:
    trained_with = {"item.encoders": ["id/embedding"] * 2000}
    with pytest.raises(
        ValueError, match=r"config\.yaml does not describe the model of weights: item\.encoders is "
    ) as error:
        check_model_settings(tiny_config, trained_with, "config.yaml", "weights")
    assert len(str(error.value)) < 800
