"""The commands as a user starts them: launchers, crashes, damaged input, results."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from launching import LAUNCHERS, call, run, start
from safetensors.torch import load_file
from tiny import NUM_USERS, VIDEO, tiny_overrides

from mlrec.config import load, save
from mlrec.data.format import item_shard
from mlrec.data.stream import open_data
from mlrec.models.building import build_model
from mlrec.runs.run import load_run


def losses_of(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def config_file(dataset_dir: Path, folder: Path) -> Path:
    """Return the configuration file of a video run of 12 steps."""
    overrides = [
        *tiny_overrides(dataset_dir, folder),
        *VIDEO,
        "optim.warmup=4 steps",
        "train.save_every=3 steps",
    ]
    save(load([], overrides), folder / "video.yaml")
    return folder / "video.yaml"


@pytest.fixture(scope="module")
def finished(config_file: Path, folder: Path) -> Path:
    """Return a run that the deepspeed launcher finished on two ranks with ZeRO-2."""
    run([*LAUNCHERS["deepspeed"], str(config_file), "name=finished", "tracking.wandb=offline"])
    return folder / "finished"


@pytest.mark.parametrize("launcher", ["plain", "torchrun"])
def test_train_every_launcher_gives_the_same_curve(
    launcher: str, finished: Path, config_file: Path, folder: Path
) -> None:
    run([*LAUNCHERS[launcher], str(config_file), f"name={launcher}"])
    assert len(losses_of(finished)) == 12
    assert losses_of(folder / launcher) == pytest.approx(losses_of(finished), abs=1e-5)


def test_train_finished_run_has_results(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["split"] == "test"
    assert results["metrics"]["all"]["users"] == NUM_USERS
    assert set(results["baselines"]) == {"popularity", "chance", "oracle"}
    assert json.loads((finished / "run.json").read_text())["world"] == 2
    assert json.loads((finished / "deepspeed.json").read_text())["zero_optimization"]["stage"] == 2
    assert list((finished / "wandb").glob("offline-run-*/*.wandb"))
    lines = map(json.loads, (finished / "metrics.jsonl").read_text().splitlines())
    assert all(0 < line["speed/hfu"] < 1 for line in lines if "speed/hfu" in line)
    capsys.readouterr()
    assert call("mlrec", "evaluate", str(finished), "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["metrics"]["all"] == pytest.approx(results["metrics"]["all"], abs=1e-6)


def test_export_checkpoint_of_two_ranks_gives_plain_weights(finished: Path, folder: Path) -> None:
    assert call("mlrec", "export", str(finished), str(folder / "export")) == 0
    weights = load_file(folder / "export" / "model.safetensors")
    config = load([folder / "export" / "config.yaml"])
    model = build_model(config, open_data(config.data), rank=0)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    moved = [name for name in weights if not torch.equal(weights[name], initial[name])]
    assert any(name.startswith("tower.encoders") for name in moved), "the encoder was trained"


def test_report_command_shows_the_run(finished: Path, folder: Path) -> None:
    assert call("mlrec", "report", str(finished), "--out", str(folder / "report.html")) == 0
    page = (folder / "report.html").read_text()
    assert "finished" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (folder / "report.md").exists()


def test_recommend_excludes_watched_items(
    finished: Path, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = open_data(load([config_file]).data)
    raw_ids = ["", *data.catalogue.table["raw_id"].to_pylist()]
    watched = [raw_ids[item] for item in data.sequences.items_of(7)]

    def recommended(*words: str, expected: int = 0) -> str:
        capsys.readouterr()
        assert call("mlrec", "recommend", str(finished), *words) == expected
        captured = capsys.readouterr()
        return captured.err if expected else captured.out

    recommendations = json.loads(
        recommended("--user", str(data.sequences.users[7]), "-k", "5", "--json")
    )
    assert len(recommendations) == 5
    assert [entry["score"] for entry in recommendations] == sorted(
        (entry["score"] for entry in recommendations), reverse=True
    )
    assert not {entry["raw_id"] for entry in recommendations} & set(watched)
    assert all(entry["title"] == data.catalogue.title(entry["item"]) for entry in recommendations)
    same = json.loads(recommended("--history", ",".join(watched), "-k", "5", "--json"))
    assert [entry["item"] for entry in same] == [entry["item"] for entry in recommendations]
    assert "the data set has no user '123456789'" in recommended("--user", "123456789", expected=2)
    assert "the catalogue has no such item" in recommended("--history", "nothing", expected=2)


def test_evaluate_changed_model_setting_is_refused(
    finished: Path, config_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = (finished / "results.json").read_bytes()
    assert call("mlrec", "evaluate", str(finished), "recommender.options.heads=1") == 2
    assert (
        "cannot override settings fixed at training time (recommender.options.heads is"
        in capsys.readouterr().err
    )
    assert (finished / "results.json").read_bytes() == results


def test_compare_run_with_itself_has_no_difference(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("mlrec", "compare", str(finished), str(finished)) == 0
    assert "+0.0000 ± 0.0000" in capsys.readouterr().out


def test_train_killed_run_resumes_from_its_last_checkpoint(
    finished: Path, config_file: Path, folder: Path
) -> None:
    command = [*LAUNCHERS["deepspeed"], str(config_file), "name=killed"]
    process = start(command)
    deadline = time.monotonic() + 120
    checkpoints = folder / "killed" / "checkpoints"
    while not (checkpoints / "step-000003").exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = sorted(path.name for path in checkpoints.glob("step-*[0-9]"))
    assert done[-1] < "step-000012", "it was killed on the way"
    output = run(command)
    assert f"steps {int(done[-1][5:])} to 12" in output
    assert losses_of(folder / "killed") == pytest.approx(losses_of(finished), abs=1e-5)


def test_train_unreadable_item_is_recorded_and_too_many_stop_the_run(
    dataset_dir: Path, config_file: Path, folder: Path
) -> None:
    copy = folder / "damaged"
    shutil.copytree(dataset_dir, copy)
    data = open_data(load([config_file]).data)
    item = int(data.catalogue.popularity_N1.argmax())
    member = data.catalogue.members(item)[0]
    with open(copy / item_shard(int(data.catalogue.shard_N1[item])), "r+b") as shard:
        shard.seek(member.offset)
        shard.write(b"no jpeg at all")
    command = [
        *LAUNCHERS["plain"],
        str(config_file),
        f"data.url={copy}",
        "train.duration=4 steps",
        "train.evaluate_every=99 steps",
    ]
    run([*command, "name=damaged_run"])
    ledger = [
        json.loads(line)
        for line in (folder / "damaged_run" / "failures.jsonl").read_text().splitlines()
    ]
    assert [(entry["item"], "crc32" in entry["reason"]) for entry in ledger] == [(item, True)]
    assert all(torch.isfinite(torch.tensor(losses_of(folder / "damaged_run"))))
    output = run([*command, "name=stopped_run", "data.max_bad_items=0"], expected=1)
    assert "1 item could not be read, data.max_bad_items is 0" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recommender.name=sasrek"], "did you mean 'sasrec'"),
        (["evaluate.select_by=hr@5"], "it must be one of hr@10, hr@20"),
        (["optim.lrr=1"], "did you mean 'optim.lr'"),
        (["data.url=/nowhere"], "/nowhere is missing"),
    ],
)
def test_train_bad_input_is_one_sentence_and_exit_code_2(
    config_file: Path, arguments: list[str], words: str
) -> None:
    output = run([*LAUNCHERS["plain"], str(config_file), "name=bad", *arguments], expected=2)
    assert words in output
    assert "Traceback" not in output


def test_train_existing_run_with_other_settings_is_refused(
    finished: Path, config_file: Path
) -> None:
    other = [*LAUNCHERS["plain"], str(config_file), "name=finished"]
    assert "train.global_batch changed from 18 to 20" in run(
        [*other, "train.global_batch=20"], expected=2
    )
    assert "other settings (recommender.width is 32, was 16)" in run(
        [*other, "recommender.width=32"], expected=2
    )
    assert "a checkpoint of another model" in run(
        [*other, "recommender.width=32", "resume.force=true"], expected=2
    )
    assert yaml.safe_load((finished / "config.yaml").read_text())["name"] == "finished"
    assert load_run(finished).run_path == finished
