"""A run continues only with the settings that it started with."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from checkpoints import STATE
from tiny import tiny_overrides

from mlrec import config as configuration
from mlrec.config import Config, load
from mlrec.config.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.data.stream import Data
from mlrec.runs.checkpoint import TrainingState, folder_of
from mlrec.runs.compatibility import check_model_settings, check_resumable, differences
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"fingerprint": "0123456789abcdef"},
            "the data set at /data/new changed, from fingerprint f to 0123456789ab",
        ),
        ({"global_batch": 9}, "train.global_batch changed from 8 to 9"),
        ({"seed": 1}, "seed changed from 0 to 1"),
    ],
)
def test_check_resumable_of_another_run_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    now = replace(STATE, **change)
    settings = ["name=r", "data.url=/data/new"]
    own_name = f"{words}. To start over, give the new run a name of its own: name=NEW"
    with pytest.raises(ValueError, match=own_name):
        check_resumable(STATE, now, tmp_path, load([], settings))
    with pytest.raises(ValueError, match="give the new run a folder of its own: run_dir=NEW"):
        check_resumable(STATE, now, tmp_path, load([], [*settings, "run_dir=runs/r"]))
    check_resumable(STATE, now, tmp_path, load([], [*settings, "resume.force=true"]))


def test_check_resumable_names_both_data_sets(tmp_path: Path) -> None:
    settings = [f"run_dir={tmp_path}", "name=r"]
    before = load([], [*settings, "data.url=/data/old"])
    configuration.save(before, before.run_path / CONFIG_FILE)
    now = load([], [*settings, "data.url=/data/new"])
    with pytest.raises(ValueError, match="the data set is /data/new, was /data/old"):
        check_resumable(STATE, replace(STATE, fingerprint="g"), tmp_path, now)


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
            "the new run a name of its own: name=NEW",
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
