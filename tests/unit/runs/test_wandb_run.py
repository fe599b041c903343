"""What a real training run leaves in its offline W&B file, and the dashboard that shows it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import VIDEO, tiny_overrides
from wandb_files import read

from mlrec.data.format import read_catalogue, read_dataset_info
from mlrec.data.pictures import SIDE_PX
from mlrec.evaluation.examples import RECOMMENDED_ITEMS, SHOWN_USERS
from mlrec.evaluation.metrics import GROUPS
from mlrec.report import dashboard
from mlrec.runs import wandb_tables
from mlrec.runs.recommendations import EXAMPLES, SHARE
from mlrec.serving.export import export

BAD_ITEM = 3


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


def test_wandb_run_holds_figures_tables_pictures_and_the_checkpoint(run: Path) -> None:
    logged = read(run)
    assert logged.config["record"]["commit"] == json.loads((run / "run.json").read_text())["commit"]
    assert (
        logged.config["recommender"]["name"] == "sasrec"
        and logged.config["record"]["parameters"]["trained"] > 0
    )
    assert {"history", "stats", "exit"} <= logged.kinds  # stats are the machine's own figures
    assert sum(
        logged.history[SHARE.format(group=group)] for group, _, _ in GROUPS
    ) == pytest.approx(1)

    def table(name: str) -> dict[str, Any]:
        return dict(json.loads((logged.files / logged.history[name]["path"]).read_text()))

    examples = table(EXAMPLES)
    assert len(examples["data"]) == SHOWN_USERS
    (pictured,) = (
        artifact for artifact in logged.artifacts if "recommendedexamples" in artifact.name
    )
    paths = [
        entry.local_path
        for entry in pictured.manifest.contents
        if entry.path.startswith("media/images/")
    ]
    shapes = {Image.open(path).size for path in paths}
    assert {(SIDE_PX, SIDE_PX), (RECOMMENDED_ITEMS * SIDE_PX, SIDE_PX)} <= shapes
    ((item, reason, _),) = table(wandb_tables.FAILURES)["data"]
    assert item == BAD_ITEM and "does not have its crc32" in reason
    parts = table(wandb_tables.PARTS)["data"]
    assert sum(size for _, _, size, _ in parts) >= logged.config["record"]["parameters"]["trained"]
    (model,) = (artifact for artifact in logged.artifacts if artifact.type == "model")
    assert (
        "best" in model.aliases
        and json.loads(model.metadata)["step"]
        == json.loads((run / "results.json").read_text())["step"]
    )
    assert all(
        entry.ref.startswith(f"file://{run}/checkpoints/step-") for entry in model.manifest.contents
    )


def test_dashboard_panels_show_what_a_run_logs(run: Path) -> None:
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


def test_export_adds_a_reference_artifact_to_the_run(
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
