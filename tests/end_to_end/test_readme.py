"""The commands and Python snippets of README.md and of the folders' READMEs succeed.

Commands are run here on the tiny data set, or where RUN_ELSEWHERE says.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from launching import BIN, call, finish, start
from readme_commands import (
    EVERY,
    IS_NAMED_AS,
    QUICKSTART,
    RUN_ELSEWHERE,
    TWO_STEPS,
    elsewhere,
    words_of,
)
from readmes import ROOT, Code, python_snippets
from tiny import NUM_ITEMS, tiny_overrides

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.runtime.progress import Task
from mlrec.train import sweep
from shards_tools.synthetic.make import make_synthetic

SNIPPET_PLACES = {
    "CONFIG": "tiny.yaml",
    "URL": "data",
    "OUT": "data",
    "RAW": "raw",
    "RUN": "runs/tiny",
    "EXPORT": "exported",
}
"""Placeholders at the beginning of quoted paths in snippets, and their values."""


def run(words: Sequence[str]) -> int:
    """Run a command in this process, or a script in the shell, and return its exit code."""
    if words[:3] == ["torchrun", "-m", "mlrec"]:  # what a launcher does in each of its processes
        return call("mlrec", *words[3:])
    if words[0] != "bash":
        return call(*words)
    settings = {
        "data.url": "data",
        "data.cache_dir": "cache",
        "run_dir": "runs/local",
    }  # the script goes to the repository
    overrides = [f"{key}={Path(path).absolute()}" for key, path in settings.items()]
    print(finish(start([words[0], str(ROOT / words[1]), *words[2:], *overrides])))
    return 0


@pytest.fixture(scope="module")
def prepared(raw_dir: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the inputs of the commands, made by some of them."""
    folder = tmp_path_factory.mktemp("readme")
    for name, target in {
        "configs": ROOT / "configs",
        "launch": ROOT / "launch",
        "raw": raw_dir,
        "data": dataset_dir,
    }.items():
        (folder / name).symlink_to(target)
    item = {"item.encoders": "[video/tiny]", "item.options": "{video/tiny: {size: 32, width: 16}}"}
    settings = [*(f"{key}={value}" for key, value in item.items()), *TWO_STEPS, "name=tiny"]
    for name in ("text", "image"):
        np.save(folder / f"{name}.npy", np.eye(NUM_ITEMS, 4, dtype=np.float32))
    make_synthetic(folder / "timed", 60, 40, seed=0, workers=2, has_times=True)
    config = configuration.load([], [*tiny_overrides(Path("data"), Path("runs")), *settings])
    configuration.save(config, folder / "tiny.yaml")
    (folder / "study.yaml").write_text("base: [tiny.yaml]\ngrid: {seed: [1, 2]}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            "mlrec train CONFIG [key=value ...]",
            "mlrec extract configs/item/videomae.yaml features/microlens_50k_minilm data.url=URL",
            "mlrec export RUN OUT --index",
        ):
            assert run(words_of(command)) == 0, command
    (folder / "out").rename(folder / "exported")
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a working folder for one command, with links to the prepared files."""
    for path in prepared.iterdir():
        if path.name != "runs":
            (tmp_path / path.name).symlink_to(path.resolve())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").symlink_to(prepared / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path


def pretend(command: Sequence[str], config: Config, under_way: Task) -> str:
    """Copy a finished run instead of training one, which test_sweep_command.py does."""
    shutil.copytree("runs/tiny", config.run_path, ignore=shutil.ignore_patterns("checkpoints"))
    configuration.save(config, config.run_path / "config.yaml")
    return ""


@pytest.mark.parametrize(
    "code",
    [code for code in [*EVERY, *QUICKSTART] if elsewhere(code.text) is None],
    ids=lambda code: code.text,
)
def test_readme_command_succeeds(
    code: Code, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = code.text
    if command.startswith("pip install"):  # what it names is there; launch/install.sh installs it
        extras, files = re.findall(r"mlrec\[(\w+)\]", command), re.findall(r"-c (\S+)", command)
        assert extras or files
        declared = re.findall(r'^        "(\w+)": ', (ROOT / "setup.py").read_text(), re.MULTILINE)
        assert {*extras} <= {*declared}, f"{code.files} names `{command}`, setup.py no such extra"
        assert all((ROOT / file).exists() for file in files)
        return
    monkeypatch.setattr(sweep, "train_run", pretend)
    words = words_of(command)
    if words[:2] == ["mlrec", "report"]:
        for run_path in {
            word
            for word in words
            if word.startswith("runs/") and not word.endswith((".html", "/tiny"))
        }:
            shutil.copytree("runs/tiny", run_path, ignore=shutil.ignore_patterns("checkpoints"))
    if command.startswith("mlrec recommend OUT"):
        (here / "out").symlink_to("exported")
    elif "OUT" in command.split() and words[:2] in (
        ["mlrec-shards", "check"],
        ["mlrec-shards", "show"],
    ):
        (here / "out").symlink_to("data")
    elif words[:2] in (["mlrec-shards", "repair"], ["mlrec-shards", "push"]):
        shutil.copytree("data", "out")
    elif command.startswith("mlrec-shards make runs/quickstart"):
        (here / "runs" / "quickstart").mkdir()
        (here / "runs" / "quickstart" / "raw").symlink_to(here / "raw")
    elif command.startswith("mlrec-shards make runs/split"):
        (here / "runs" / "split").mkdir()
        (here / "runs" / "split" / "raw").symlink_to(here / "timed")
    exit_code = run(words)
    captured = capsys.readouterr()
    assert exit_code == 0, (
        f"{code.files} names `{command}`, which fails as `{shlex.join(words)}`:\n{captured.err}\n"
        "Correct it, or name in RUN_ELSEWHERE where it is run"
    )
    assert captured.out


@pytest.mark.parametrize("snippet", python_snippets(), ids=lambda code: code.files)
def test_readme_snippet_runs(snippet: Code, here: Path) -> None:
    places = "|".join(SNIPPET_PLACES)
    text = re.sub(
        rf"""(["'])({places})(?=[/"'])""",
        lambda match: match[1] + SNIPPET_PLACES[match[2]],
        snippet.text,
    )
    exec(compile(text, f"<snippet of {snippet.files}>", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("beginning", RUN_ELSEWHERE)
def test_readme_command_run_elsewhere_is_named_there(beginning: str) -> None:
    assert any(code.text.startswith(beginning) for code in EVERY), (
        f"No README names `{beginning}` any more: remove it from RUN_ELSEWHERE"
    )
    place = RUN_ELSEWHERE[beginning]
    if place in {code.text for code in EVERY}:
        assert elsewhere(place) is None, f"`{place}` itself is run elsewhere"
        return
    script = re.sub(r".*(launch/)", "", beginning.split(" CONFIG")[0])
    assert IS_NAMED_AS.get(place, script) in (ROOT / place).read_text(), (
        f"{place} does not name `{beginning}`"
    )


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("mlrec list losses", "bpr"),
        ("mlrec evaluate runs/tiny", "metrics"),
        ("mlrec compare runs/tiny runs/tiny", "metrics"),
        ("mlrec recommend runs/tiny --user 7", 0),
        ("mlrec recommend exported --history 7", 0),
        ("mlrec export runs/tiny out --index", "recall@10"),
        ("mlrec extract tiny.yaml out", "width"),
        ("mlrec report runs/tiny", "runs"),
        ("mlrec report --table baselines", "paper"),
        ("mlrec sweep study.yaml", 0),
        ("mlrec bench eval tiny.yaml --steps 1", "users_per_s"),
        ("mlrec-shards make raw out --dry-run", "bytes"),
        (
            "mlrec-shards make raw data --size 32 --items-per-shard 16 --users-per-shard 50",
            "fingerprint",
        ),
        ("mlrec-shards check data", "faults"),
        ("mlrec-shards repair raw data", "repaired"),
        ("mlrec-shards push data out", "fingerprint"),
        ("mlrec-shards show data --html data.html", "counts"),
    ],
)
def test_json_option_prints_one_document_only(
    command: str,
    key: str | int,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sweep, "train_run", pretend)
    code = run([*command.split(), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    document = json.loads(captured.out)
    assert document[key] is not None
    if command == "mlrec sweep study.yaml":
        assert [(outcome["name"], outcome["error"]) for outcome in document] == [
            ("study_1", ""),
            ("study_2", ""),
        ]


def test_json_option_includes_faults(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("data", "damaged")
    (here / "damaged" / "catalogue.parquet").unlink()
    assert run(["mlrec-shards", "check", "damaged", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"] == ["catalogue.parquet: missing"]


@pytest.mark.parametrize("command", ["mlrec list encoders", "mlrec-shards show data"])
def test_installed_command_prints_json(command: str, here: Path) -> None:
    program, *words = command.split()
    done = subprocess.run(
        [BIN / program, *words, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)
    assert done.stderr == ""
