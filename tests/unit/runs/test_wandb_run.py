"""What a real training run leaves in its offline W&B file, and the dashboard that shows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from PIL import Image
from test_tracker import records
from tiny import VIDEO, tiny_overrides

from mlrec.cli import main as cli
from mlrec.config import Config, TrackingConfig
from mlrec.data.format import read_catalogue, read_dataset_info
from mlrec.data.pictures import SIDE_PX
from mlrec.evaluation.examples import RECOMMENDED_ITEMS, SHOWN_USERS
from mlrec.evaluation.metrics import GROUPS
from mlrec.report import dashboard
from mlrec.runs import wandb_run
from mlrec.serving.export import export

BAD_ITEM = 3


@dataclass
class Logged:
    """A training run and the content of its W&B file."""

    path: Path
    history: dict[str, Any]
    """The last value of everything that was logged."""
    config: dict[str, Any]
    kinds: set[str]
    artifacts: list[Any]
    files: Path


def read(run: Path, which: int = -1) -> Logged:
    """The newest offline file of a run, or an earlier one."""
    folder = sorted(run.glob("wandb/offline-run-*"), key=lambda path: path.stat().st_mtime_ns)[
        which
    ]
    (file,) = folder.glob("*.wandb")
    found = Logged(run, {}, {}, set(), [], folder / "files")
    for record in records(file):
        kind = record.WhichOneof("record_type")
        found.kinds.add(kind)
        if kind == "history":
            for item in record.history.item:
                name, *inner = [item.key] if item.key else item.nested_key
                value = json.loads(item.value_json)
                if inner:  # a table or a chart, field by field
                    found.history.setdefault(name, {})[inner[0]] = value
                else:
                    found.history[name] = value
        elif kind == "run":
            found.config |= {
                item.key: json.loads(item.value_json) for item in record.run.config.update
            }
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
    return found


@pytest.fixture(scope="module")
def run(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over videos, one of which is damaged."""
    folder = tmp_path_factory.mktemp("tracked")
    url = folder / "data"
    shutil.copytree(dataset_dir, url)
    info = read_dataset_info(str(url))
    catalogue = read_catalogue(str(url), info)
    member = next(member for member in catalogue.members(BAD_ITEM) if member.name == "2.jpg")
    with (url / info.shards("items")[catalogue.shard_N1[BAD_ITEM]].path).open("r+b") as shard:
        shard.seek(member.offset)
        shard.write(bytes(member.size))
    settings = [
        *tiny_overrides(url, folder),
        *VIDEO,
        "name=tracked",
        "tracking.wandb=auto",
        "data.max_bad_items=2",
    ]
    home = {
        "HOME": str(folder),
        "WANDB_CACHE_DIR": str(folder / "wandb_cache"),
        "WANDB_API_KEY": "",
    }
    home["WANDB__STATS_SAMPLING_INTERVAL"] = "1"
    subprocess.run(
        [sys.executable, "-m", "mlrec", "train", *settings],
        env=os.environ | home,
        check=True,
        timeout=240,
    )
    return folder / "tracked"


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without a key of W&B."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    yield
    import wandb

    wandb.teardown()


def test_a_run_leaves_figures_tables_pictures_and_its_checkpoint(run: Path) -> None:
    found = read(run)
    assert found.config["record"]["commit"] == json.loads((run / "run.json").read_text())["commit"]
    assert (
        found.config["recommender"]["name"] == "sasrec"
        and found.config["record"]["parameters"]["trained"] > 0
    )
    assert {"history", "stats", "exit"} <= found.kinds  # stats are the machine's own figures
    assert sum(
        found.history[wandb_run.SHARE.format(group=group)] for group, _, _ in GROUPS
    ) == pytest.approx(1)

    def table(name: str) -> dict[str, Any]:
        return dict(json.loads((found.files / found.history[name]["path"]).read_text()))

    examples = table(wandb_run.EXAMPLES)
    assert len(examples["data"]) == SHOWN_USERS
    (pictured,) = (
        artifact for artifact in found.artifacts if "recommendedexamples" in artifact.name
    )
    paths = [
        entry.local_path
        for entry in pictured.manifest.contents
        if entry.path.startswith("media/images/")
    ]
    shapes = {Image.open(path).size for path in paths}
    assert {(SIDE_PX, SIDE_PX), (RECOMMENDED_ITEMS * SIDE_PX, SIDE_PX)} <= shapes
    ((item, reason, _),) = table(wandb_run.FAILURES)["data"]
    assert item == BAD_ITEM and "does not have its crc32" in reason
    parts = table(wandb_run.PARTS)["data"]
    assert sum(size for _, _, size, _ in parts) >= found.config["record"]["parameters"]["trained"]
    (model,) = (artifact for artifact in found.artifacts if artifact.type == "model")
    assert (
        "best" in model.aliases
        and json.loads(model.metadata)["step"]
        == json.loads((run / "results.json").read_text())["step"]
    )
    assert all(
        entry.ref.startswith(f"file://{run}/checkpoints/step-") for entry in model.manifest.contents
    )


def test_every_panel_shows_something_that_a_run_logs(run: Path) -> None:
    logged = read(run).history
    groups = set(json.loads((run / "results.json").read_text())["metrics"])
    view = dashboard.workspace("team", "project")._to_model().model_dump(by_alias=True)
    sections = {
        section["name"]: section["panels"]
        for section in view["spec"]["section"]["panelBankConfig"]["sections"]
    }
    assert list(sections) == ["Quality", "Speed", "Data", "Health"]
    shown = [
        metric
        for panels in sections.values()
        for panel in panels
        for metric in panel["config"].get("metrics") or ()
    ]
    assert len(shown) > 20
    for metric in shown:
        group = metric.split("/")[1]
        is_empty = group in {name for name, _, _ in GROUPS} - groups and metric.startswith(
            ("test/", "validation/")
        )
        assert metric in logged or is_empty, metric
    tables = {name for names in dashboard.TABLES.values() for name in names}
    assert tables <= set(logged), sorted(set(logged))
    assert (
        sum(len(panels) for panels in sections.values())
        == sum(map(len, [*dashboard.LINES.values(), *dashboard.TABLES.values()])) + 4
    )


def test_the_dashboard_is_a_file_without_a_key(
    no_key: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "view.json"
    cli.run_command(["dashboard", "--project", "videos", "--entity", "team", "--out", str(out)])
    assert "to make the dashboard in project 'videos'" in capsys.readouterr().out
    view = json.loads(out.read_text())
    assert (view["entity"], view["project"], view["displayName"]) == ("team", "videos", "mlrec")


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(
        ValueError, match=r"needs wandb-workspaces .* pip install 'mlrec\[dashboard\]'"
    ):
        cli.run_command(["dashboard"])


@pytest.mark.parametrize(
    ("last", "exit_code", "expected"),
    [("test/hr@10", 0, 1), ("train/loss", 0, 0), ("test/hr@10", 1, 0)],
)
def test_a_run_that_was_stopped_or_failed_leaves_its_figures_only(
    last: str, exit_code: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[tuple[object, ...]] = []
    monkeypatch.setattr(wandb_run, "_begin", lambda *_: MagicMock())
    monkeypatch.setattr(wandb_run, "_log_end", lambda *given: ends.append(given))
    sink = wandb_run.WandbRun(tmp_path, Config(), {})
    sink.log(10, {last: 0.5})
    sink.close(exit_code)
    assert len(ends) == expected


@pytest.mark.parametrize(
    ("said", "configured", "mode", "words"),
    [
        ("", "disabled", "disabled", ""),
        ("", "auto", "offline", ""),
        ("", "online", "online", ""),
        ("disabled", "auto", "disabled", ""),
        ("disabled", "online", "disabled", "tracking.wandb is online, and WANDB_MODE=disabled"),
        ("disabled", "offline", "disabled", "tracking.wandb is offline, and WANDB_MODE=disabled"),
        (
            "offline",
            "online",
            "offline",
            "W&B is offline: tracking.wandb is online, and WANDB_MODE=offline",
        ),
        ("dryrun", "online", "offline", "WANDB_MODE=dryrun"),
        ("offline", "auto", "offline", ""),
        (
            "online",
            "offline",
            "offline",
            "W&B is offline: tracking.wandb is offline, and WANDB_MODE=online",
        ),
        ("run", "online", "online", ""),
        (
            "Online",
            "disabled",
            "disabled",
            "W&B is off: tracking.wandb is disabled, which WANDB_MODE=online does not change",
        ),
        ("offline", "disabled", "disabled", ""),
        ("nonsense", "disabled", "disabled", ""),
    ],
)
def test_wandb_mode_restricts_and_a_contradiction_is_told(
    said: str, configured: Any, mode: str, words: str, no_key: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", said)
    chosen, told = wandb_run.wandb_mode(TrackingConfig(wandb=configured))
    assert chosen == mode
    assert (words in told) if words else told == ""


def test_wandb_mode_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "shred")
    with pytest.raises(
        ValueError,
        match="WANDB_MODE is 'shred'; it must be one of disabled, offline, online, dryrun, run",
    ):
        wandb_run.wandb_mode(TrackingConfig(wandb="auto"))


def test_auto_is_online_with_a_key_unless_wandb_mode_restricts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "key")
    for said, mode in {
        "": "online",
        "online": "online",
        "offline": "offline",
        "disabled": "disabled",
    }.items():
        monkeypatch.setenv("WANDB_MODE", said)
        assert wandb_run.wandb_mode(TrackingConfig(wandb="auto")) == (mode, "")


def test_a_key_is_found_in_the_environment_and_in_netrc(
    no_key: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert not wandb_run.has_key()
    (tmp_path / ".netrc").write_text("machine wandb.example login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_run.has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example")
    assert not wandb_run.has_key()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert wandb_run.has_key()


def test_exported_weights_are_an_artifact_of_the_same_run_by_reference(
    no_key: None, run: Path, tmp_path: Path
) -> None:
    import wandb

    export(run, str(tmp_path / "weights"))
    wandb.teardown()  # its service has written the file to the end
    trained, exported = (
        next(artifact for artifact in read(run, which).artifacts if artifact.type == "model")
        for which in (0, -1)
    )
    assert exported.name == trained.name and "exported" in exported.aliases
    (entry,) = exported.manifest.contents
    assert entry.ref == f"file://{tmp_path}/weights/model.safetensors"
