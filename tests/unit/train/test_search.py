"""mlrec sweep with a search of settings, with a launcher that only pretends to train."""

import json
import shlex
import sys
import textwrap
from pathlib import Path

import pytest

from mlrec.cli.main import run_command
from mlrec.config import load
from mlrec.train.search import read_plan
from mlrec.train.search_space import Choices, Range, Trial, suggest

TRAINER = """
    # Pretends to train. Validation is best at optim.lr=1e-3 with the loss bpr.
    import math
    import os
    import sys
    from mlrec import config
    run = config.load_arguments(sys.argv[1:])
    config.save(run, run.run_path / "config.yaml")
    if run.name.endswith(os.environ.get("FAILS", "none")):
        sys.exit("error: out of memory")
    value = 1 / (1 + math.log10(run.optim.lr / 1e-3) ** 2) - 0.1 * (run.loss.name != "bpr")
    split = {"test": "test/", "validation": "best_validation/"}[run.evaluate.final_split]
    line = f'{{"step": 1, "{split}hr@10": {value}, "{split}ndcg@10": {value / 2}}}'
    (run.run_path / "metrics.jsonl").write_text(line + chr(10))
"""
KEYS = "{optim.lr: {low: 1e-5, high: 1e-1, log: true}, loss.name: [bpr, bce]}"
SPACE = {"optim.lr": Range(1e-5, 1e-1, log=True), "loss.name": Choices(("bpr", "bce"))}


@pytest.fixture
def launcher(tmp_path: Path) -> str:
    """Return the command that pretends to train."""
    (tmp_path / "trainer.py").write_text(textwrap.dedent(TRAINER))
    return shlex.join([sys.executable, str(tmp_path / "trainer.py")])


def search_file(folder: Path, search: str, more: str = "") -> Path:
    """Write a search and its base."""
    (folder / "base.yaml").write_text(f"run_dir: {folder}/runs/{{name}}\n")
    (folder / "lr.yaml").write_text(f"base: [base.yaml]\n{more}search: {search}\n")
    return folder / "lr.yaml"


def trial_files(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.glob("runs/lr/trial*/trial.json")):
        files[path.parent.name] = path.read_bytes()
    return files


def test_search_run_again_skips_what_has_ended_and_continues_as_if_never_stopped(
    tmp_path: Path,
    launcher: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAILS", "trial001")
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    file = search_file(whole, f"{{trials: 4, keys: {KEYS}}}")
    run_command(["sweep", str(file), "--launcher", launcher])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/4] trial000  validation hr@10 0.")
    assert "trial001  failed: exit code 1, error: out of memory; see" in lines[1]
    assert lines[4].startswith("best: trial00")
    assert str(whole / "runs" / "lr" / "best.yaml") in lines[5]

    for trials in (2, 4):
        file = search_file(parts, f"{{trials: {trials}, keys: {KEYS}}}")
        run_command(["sweep", str(file), "--launcher", launcher])
    second = capsys.readouterr().out
    assert second.count("ended before") == 2
    assert second.count("failed") == 2
    for name, content in trial_files(whole).items():
        expected = json.loads(content)
        continued = json.loads(trial_files(parts)[name])
        assert (continued["settings"], continued["value"]) == (
            expected["settings"],
            expected["value"],
        )
    output = parts / "runs" / "lr" / "trial001" / "output.log"
    assert output.read_text().count("$ ") == 1, "a failed trial is not repeated"


def test_search_writes_the_best_settings_for_a_run_that_is_tested(
    tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = search_file(tmp_path, f"{{metric: ndcg@10, trials: 12, keys: {KEYS}}}")
    run_command(["sweep", str(file), "--launcher", launcher, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["metric"] == "ndcg@10"
    values = {trial["name"]: trial["value"] for trial in document["trials"]}
    assert values[document["best"]] == max(values.values()) > 0.3
    best = load([document["file"]])
    assert (best.name, best.evaluate.final_split) == ("lr_best", "test")
    (trial,) = [one for one in document["trials"] if one["name"] == document["best"]]
    assert best.optim.lr == trial["settings"]["optim.lr"]
    assert best.loss.name == "bpr"
    trial_run = load([Path(trial["run_dir"]) / "config.yaml"])
    assert trial_run.evaluate.final_split == "validation"


def test_search_with_another_metric_reads_it_from_the_finished_trials(
    tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {}
    for metric in ("hr@10", "ndcg@10"):
        file = search_file(tmp_path, f"{{metric: {metric}, trials: 3, keys: {KEYS}}}")
        run_command(["sweep", str(file), "--launcher", launcher, "--json"])
        trials = json.loads(capsys.readouterr().out)["trials"]
        values[metric] = [trial["value"] for trial in trials]
    assert values["ndcg@10"] == pytest.approx([value / 2 for value in values["hr@10"]])


def test_search_whose_first_trials_fail_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    monkeypatch.setenv("FAILS", "")
    file = search_file(tmp_path, f"{{trials: 9, keys: {KEYS}}}")
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"0 of 3 trials finished; the last one failed: exit"
        ):
            run_command(["sweep", str(file), "--launcher", launcher])
        assert len(trial_files(tmp_path)) == 3


def test_search_whose_trials_all_fail_names_the_cause_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    monkeypatch.setenv("FAILS", "")
    file = search_file(tmp_path, f"{{trials: 1, keys: {KEYS}}}")
    with pytest.raises(
        RuntimeError, match=r"0 of 1 trial finished; .*out of memory.* remove the folder .*lr,"
    ):
        run_command(["sweep", str(file), "--launcher", launcher])


def test_search_with_changed_settings_is_refused(tmp_path: Path, launcher: str) -> None:
    file = search_file(tmp_path, f"{{trials: 2, keys: {KEYS}}}")
    run_command(["sweep", str(file), "--launcher", launcher])
    with pytest.raises(ValueError, match=r"trial000 holds a run with other .*seed is 4, was 0"):
        run_command(["sweep", str(file), "seed=4", "--launcher", launcher])
    file = search_file(tmp_path, "{trials: 2, keys: {loss.name: [bpr, full_softmax]}}")
    with pytest.raises(ValueError, match=r"trial.json has the settings .* not among those of sea"):
        run_command(["sweep", str(file), "--launcher", launcher])
    (tmp_path / "runs" / "lr" / "trial000" / "trial.json").write_text('{"settings": 3}')
    with pytest.raises(ValueError, match=r"trial.json is invalid: .* Remove the folder .*trial000"):
        run_command(["sweep", str(file), "--launcher", launcher])


def test_search_resumes_a_stopped_trial_with_its_own_settings(
    tmp_path: Path, launcher: str
) -> None:
    file = search_file(tmp_path, f"{{trials: 2, keys: {KEYS}}}")
    (tmp_path / "runs" / "lr" / "trial000").mkdir(parents=True)
    settings = {"optim.lr": 0.02, "loss.name": "bce"}
    stopped = tmp_path / "runs" / "lr" / "trial000" / "trial.json"
    stopped.write_text(json.dumps({"settings": settings}))
    run_command(["sweep", str(file), "--launcher", launcher])
    assert json.loads(stopped.read_text())["settings"] == settings
    assert load([stopped.parent / "config.yaml"]).optim.lr == 0.02
    assert len(trial_files(tmp_path)) == 2


def test_search_of_a_few_choices_ends_when_all_were_tried(
    tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = search_file(tmp_path, "{trials: 9, keys: {loss.name: [bpr, bce]}}")
    run_command(["sweep", str(file), "--launcher", launcher])
    printed = capsys.readouterr()
    assert "[2/9]" in printed.out
    assert "ends after 2 of 9 trials: search.keys has no combination" in printed.err
    assert len(trial_files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("{keys: {loss.name: [bpr, bce]}}", "search has no trials; write search: {trials: 20"),
        ("{trials: 3}", "search has no keys"),
        ("{trials: 0, keys: {loss.name: [bpr, bce]}}", "trials is 0; it must be a whole number"),
        ("{trials: 3, keys: {}}", "keys is empty"),
        ("{trial: 3}", r"unknown key 'trial'; did you mean 'trials'\?"),
        ("{trials: 3, keys: {optim.lr: 3}}", r"optim.lr is 3; it must be {low: NUMBER"),
        ("{trials: 3, keys: {optim.lr: {low: 1}}}", "must have low and high; it has low"),
        ("{trials: 3, keys: {optim.lr: {low: 2, high: 1}}}", "must be numbers, low below high"),
        ("{trials: 3, keys: {optim.lr: {low: 0, high: 1, log: true}}}", "low above 0 for log"),
        ("{trials: 3, keys: {train.global_batch: {low: 1.5, high: 3}}}", "must be whole numbers"),
        (
            "{trials: 3, keys: {recommender.options.layers: {low: 1, high: 2.5}}}",
            r"layers tries numbers such as 1\.0, and recommender\.options\.layers takes whole num",
        ),
        (
            "{trials: 3, keys: {recommender.options.dropout: {low: 0, high: 2.5}}}",
            "dropout is 2.5; it must be from 0 to below 1",
        ),
        ("{trials: 3, keys: {optim.lrr: {low: 1, high: 3}}}", "unknown key 'optim.lrr'; did you"),
        ("{trials: 3, keys: {loss.name: [bpr, bcee]}}", "unknown loss 'bcee'"),
        ("{trials: 3, keys: {loss.temperature: {low: 0, high: 1}}}", "loss.temperature is 0.0"),
        ("{trials: 3, keys: {seed: [1, 2]}}", "seed cannot be searched"),
        (
            "{trials: 3, keys: {optim.layer_decay: {low: 0.5, high: 1}}}",
            "optim.layer_decay is 0.5 and has no effect on id/embedding",
        ),
        ("{trials: 3, keys: {evaluate.users: [1, 2]}}", "evaluate.users cannot be searched"),
        ("{metric: hr@5, trials: 3, keys: {loss.name: [bpr, bce]}}", "search.metric is 'hr@5'; it"),
    ],
)
def test_read_plan_of_invalid_input_names_the_place_and_the_remedy(
    search: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_plan(search_file(tmp_path, search), [])
    assert "lr.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_read_plan_of_the_shipped_search_returns_its_trials() -> None:
    plan = read_plan(Path(__file__).parents[3] / "configs" / "sweep" / "beauty_search.yaml", [])
    assert plan.metric == "ndcg@10"
    settings = suggest(plan.search.keys, plan.base.seed, [])
    assert settings is not None
    run = plan.run(0, settings).config
    assert run.evaluate.final_split == "validation"
    assert str(run.run_path) == "runs/beauty_search/trial000"
    assert run.recommender.options["layers"] in (1, 2, 3)
    assert run.recommender.options["pre_norm"]


def test_read_plan_refuses_what_a_search_cannot_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = f"{{trials: 2, keys: {KEYS}}}"
    with pytest.raises(ValueError, match="search and seeds are two kinds of sweeps"):
        read_plan(search_file(tmp_path, search, "seeds: [1]\n"), [])
    file = search_file(tmp_path, search)
    with pytest.raises(ValueError, match=r"and the command line both set optim.lr; remove one"):
        read_plan(file, ["optim.lr=3"])
    with pytest.raises(ValueError, match=r"run_dir is 'one'; it must end in \{name\}"):
        read_plan(file, ["run_dir=one"])
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"A search needs Optuna: pip install 'mlrec\[search\]'"):
        read_plan(file, [])


def test_suggest_depends_on_seed_and_history_alone() -> None:
    first = suggest(SPACE, 0, [])
    assert first is not None
    assert first == suggest(SPACE, 0, [])
    assert first != suggest(SPACE, 1, [])
    ended = [Trial(first, value=0.5)]
    second = suggest(SPACE, 0, ended)
    assert second not in (None, first)
    assert second == suggest(SPACE, 0, ended)
    assert all(SPACE[key].holds(value) for key, value in first.items())


def test_range_rounds_within_its_ends() -> None:
    assert Range(0.1, 0.12345).shown(0.123454) == 0.12345
    assert Range(1e-5, 1).shown(0.00123456) == 0.001235
    assert Range(1, 8, whole=True).shown(3.0) == 3
