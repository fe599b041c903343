"""Every command of README.md is run: here on the tiny data set, or where RUN_ELSEWHERE says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
from launching import BIN, call, finish, start
from tiny import NUM_ITEMS, tiny_overrides

from mlrec import config as configuration
from mlrec.config import Config
from mlrec.runtime.progress import Task
from mlrec.train import sweep
from shards_tools.synthetic.make import make_synthetic

ROOT = Path(__file__).parents[2]

COMMAND = re.compile(
    r"(mlrec|mlrec-shards|sbatch|kubectl|torchrun|deepspeed|pip install) |bash launch/"
)
"""How a command begins."""

RUN_ELSEWHERE = {
    "bash launch/quickstart.sh": "tests/end_to_end/test_quality.py",
    "bash launch/test.sh": ".ci/run",
    "bash launch/multinode.sh": "tests/integration/test_multinode.py",
    "bash launch/local.sh CONFIG": (
        "bash launch/local.sh configs/experiment/microlens_100k_sasrec_v.yaml data.url=OUT"
    ),
    "deepspeed --module mlrec.train": "tests/end_to_end/launching.py",
    "torchrun -m mlrec.train": "tests/end_to_end/launching.py",
    "mlrec-shards make RAW OUT --engine ray": "tests/integration/test_shards_ray.py",
    "mlrec-shards bench RAW --items": "mlrec-shards bench RAW",
    # No test downloads this checkpoint.
    "mlrec extract configs/item/minilm_title.yaml": "mlrec extract CONFIG OUT",
    # Without SLURM and Kubernetes, tests can only check the form of these files.
    "sbatch launch/slurm.sbatch": "tests/unit/runtime/test_launch_scripts.py",
    "kubectl apply -f launch/kubernetes.yaml": "tests/unit/runtime/test_launch_scripts.py",
}
"""Beginnings of commands that this file does not run.

The value is the file that runs and names the command, or a README command of the same code.
"""

IS_NAMED_AS = {
    "tests/end_to_end/launching.py": "mlrec.train",
    "tests/integration/test_shards_ray.py": '"--engine"',
    "tests/integration/test_multinode.py": "multinode.sh",
}
"""What stands in a file of RUN_ELSEWHERE for the command, where it is not the script's name."""

PLACEHOLDERS = {
    "URL": "data",
    "FRAMES": "data",
    "OUT": "out",
    "RAW": "raw",
    "CONFIG": "tiny.yaml",
    "FILE": "study.yaml",
    "RUN": "runs/tiny",
    "ID": "7",
    "s3://bucket/NAME": "bucket",  # S3 itself: tests/integration
    "--dry-run=RANKS": "--dry-run=2",
    "P": "P",
    "E": "E",
}
"""Placeholders of the README and their values in the folder of a command."""

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
}
SMALL_VIDEO = "item.options=" + json.dumps(
    {"video/videomae": {"checkpoint": "", "frames": 4, "size": 32, "config": SMALL}}
)
TWO_STEPS = (
    "data.num_workers=0",
    "data.cache_dir=cache",
    "train.global_batch=18",
    "train.duration=2 steps",
    "train.save_every=2 steps",
    "train.evaluate_every=2 steps",
    "tracking.wandb=disabled",
)
SHRUNK: dict[str, tuple[str, ...]] = {
    "mlrec train": TWO_STEPS,
    "mlrec train configs/experiment/quickstart_video.yaml": (*TWO_STEPS, "data.url=data"),
    "mlrec train configs/experiment/synthetic_video.yaml": (*TWO_STEPS, "data.url=data"),
    "bash launch/local.sh": (
        *TWO_STEPS,
        SMALL_VIDEO,
        "item.tuning=scratch",
        "recommender.width=16",
    ),
    "mlrec plan": ("train.global_batch=18",),
    "mlrec plan configs/": (SMALL_VIDEO,),
    "mlrec sweep": ("data.url=data",),
    "mlrec extract": (SMALL_VIDEO, "data.num_workers=0", "data.cache_dir=cache"),
    "mlrec extract CONFIG": ("data.num_workers=0",),
    "mlrec recommend OUT": ("--history", "7"),
    "mlrec dashboard": ("--out", "dashboard.json"),
    "mlrec bench step": ("--steps", "1"),
    "mlrec bench step configs/": ("train.global_batch=18", SMALL_VIDEO),
    "mlrec bench step configs/experiment/": ("train.global_batch=18", "--steps", "1"),
    "mlrec bench prefix": ("item.tuning=top", "--steps", "1"),
    "mlrec bench prefix configs/": (SMALL_VIDEO, "--steps", "1"),
    "torchrun -m mlrec bench step": ("--steps", "1"),
    "mlrec bench eval": ("--steps", "1"),
    "mlrec bench loader": ("--steps", "1", "--workers", "1", "--global-batch", "18"),
    "mlrec bench scale": ("tiny.yaml",),
    "mlrec-shards synthetic": ("--users", "30", "--items", "40"),
    "mlrec-shards make": ("--size", "32"),
    "mlrec-shards bench": ("--items", "4"),
}
"""Arguments that shrink a command to seconds, by its beginning; the longest match counts."""


def commands_of(text: str) -> list[str]:
    """The commands in the code blocks and in the `code` of a text, each once."""
    blocks = "".join(
        block
        for tag, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if not tag
    )
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in blocks.splitlines()]
    spans = re.findall(
        r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    return [
        code
        for code in dict.fromkeys([*lines, *(" ".join(span.split()) for span in spans)])
        if COMMAND.match(code)
    ]


README = commands_of((ROOT / "README.md").read_text())
QUICKSTART = [
    line
    for line in (ROOT / "launch/quickstart.sh").read_text().splitlines()
    if line.startswith("mlrec")
]


def elsewhere(command: str) -> str | None:
    """Return where a command is run, or None for here."""
    return next(
        (place for beginning, place in RUN_ELSEWHERE.items() if command.startswith(beginning)), None
    )


def words_of(command: str) -> list[str]:
    """Return the words of a README command, with its placeholders filled in."""
    text = command.replace("[key=value ...]", "train.log_every='1 steps'")
    text = re.sub(r" \[(RUN|CONFIG) \.\.\.\]| \.\.\.", "", text).replace("[", "").replace("]", "")
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(text)]
    words = [re.sub(r"(?<==)(URL|OUT)$", "data", word).replace("*", "tiny") for word in words]
    unknown = [
        word
        for word in words
        if re.fullmatch(r"(.*=)?[A-Z][A-Z,]*", word) and word not in PLACEHOLDERS
    ]
    assert not unknown, (
        f"README.md names `{command}`; say in PLACEHOLDERS what {', '.join(unknown)} is"
    )
    if len(words) <= 2 and words[0] in ("mlrec", "mlrec-shards"):  # only named
        return [*words, "--help"]
    beginnings = [beginning for beginning in SHRUNK if command.startswith(beginning)]
    added = SHRUNK[max(beginnings, key=len)] if beginnings else ()
    if added and added[0].startswith("--"):
        return [*words, *added]
    first = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return [*words[:first], *added, *words[first:]]


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
    """Return a folder with the inputs of the README's commands, made by commands of the README."""
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
    "command", [code for code in [*README, *QUICKSTART] if elsewhere(code) is None]
)
def test_readme_command_succeeds(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.startswith("pip install"):  # what it names is there; launch/install.sh installs it
        extras, files = re.findall(r"mlrec\[(\w+)\]", command), re.findall(r"-c (\S+)", command)
        assert extras or files
        assert {*extras} <= {*metadata("mlrec").get_all("Provides-Extra")}, (
            f"README.md names `{command}`, setup.py no such extra"
        )
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
    code = run(words)
    captured = capsys.readouterr()
    assert code == 0, (
        f"README.md names `{command}`, which fails as `{shlex.join(words)}`:\n{captured.err}\n"
        "Correct it, or name in RUN_ELSEWHERE where it is run"
    )
    assert captured.out


@pytest.mark.parametrize("beginning", RUN_ELSEWHERE)
def test_readme_command_run_elsewhere_is_named_there(beginning: str) -> None:
    assert any(code.startswith(beginning) for code in README), (
        f"README.md names no `{beginning}` any more: take it out of here"
    )
    place = RUN_ELSEWHERE[beginning]
    if place in README:
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
