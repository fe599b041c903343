"""mlrec dashboard: the team's view of all runs of a W&B project, as code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlrec import storage
from mlrec.evaluation.metrics import GROUPS
from mlrec.runs.wandb_run import EXAMPLES, FAILURES, HISTOGRAM, PARTS, SHARE

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = "mlrec"

LINES: dict[str, dict[str, tuple[str, ...]]] = {
    "Quality": {
        "HR@10 on validation": ("validation/hr@10",),
        "NDCG@10 on validation": ("validation/ndcg@10",),
        "HR@20 on validation": ("validation/hr@20",),
    },
    "Speed": {
        "Users per second": ("speed/users_per_s",),
        "Videos per second": ("speed/videos_per_s",),
        "Slots per video: what encoding each once saves": ("speed/dedup",),
        "Share of the time that waits for data": ("speed/data_wait",),
        "Arithmetic done, of what the device can do (HFU; MFU where no activation is computed again)": (
            "speed/hfu",
        ),
    },
    "Data": {
        "Share of the bytes that the node's cache held": ("data/cache_hits",),
        "Bytes read, from cache and remote": ("data/bytes_read",),
        "Bytes from remote: what the cache did not hold": ("data/remote_bytes",),
        "Share of videos whose frozen prefix was kept": ("data/prefix_hits",),
        "Items that could not be read": ("data/bad_items",),
    },
    "Health": {
        "Loss": ("train/loss",),
        "Gradient norm": ("train/grad_norm",),
        "Peak memory of a rank, bytes": ("memory/peak_bytes",),
        "Learning rate of the recommender": ("train/lr",),
    },
}
"""Sections, their line charts, and the logged metrics in each chart."""

TABLES = {"Quality": (HISTOGRAM + "_table", EXAMPLES), "Data": (FAILURES,), "Health": (PARTS,)}
"""Logged tables by section; the newest of each run is shown."""


def workspace(entity: str, project: str) -> Workspace:
    """The dashboard; nothing is asked of the network."""
    import wandb_workspaces.reports.v2.interface as panels
    import wandb_workspaces.workspaces as ws

    found: dict[str, list[Any]] = {
        section: [
            panels.LinePlot(title=title, y=list(metrics)) for title, metrics in charts.items()
        ]
        for section, charts in LINES.items()
    }
    groups = [name for name, _, _ in GROUPS]
    found["Quality"] += [
        panels.BarPlot(
            title="Test split", metrics=["test/hr@10", "test/hr@20", "test/ndcg@10", "test/ndcg@20"]
        ),
        panels.BarPlot(
            title="HR@10 by popularity of the target",
            metrics=[f"test/{group}/hr@10" for group in groups],
        ),
        panels.BarPlot(
            title="Recommendations by popularity",
            metrics=[SHARE.format(group=group) for group in groups],
        ),
        panels.LinePlot(title="HR@10 of cold items, on validation", y=["validation/cold/hr@10"]),
    ]
    for section, tables in TABLES.items():
        found[section] += [panels.WeavePanelSummaryTable(table_name=table) for table in tables]
    sections = [
        ws.Section(name=name, panels=charts, is_open=True) for name, charts in found.items()
    ]
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=sections)


def write_dashboard(entity: str, project: str, out: str) -> None:
    """Write the dashboard to a JSON file or URL."""
    view = (
        workspace(entity, project)
        ._to_model()
        .model_dump(mode="json", by_alias=True, exclude_none=True)
    )
    storage.write_bytes(out, (json.dumps(view, indent=1) + "\n").encode())


def create_dashboard(entity: str, project: str) -> str:
    """Make the dashboard in the W&B project, and return its address.

    Raises:
        RuntimeError: W&B refuses, or cannot be reached.
    """
    import wandb

    try:
        made = workspace(entity or str(wandb.Api().default_entity), project)
        made.save()  # type: ignore[no-untyped-call]
        return str(made.url)
    except Exception as error:  # the libraries' errors have no common base
        raise RuntimeError(
            f"W&B did not make the dashboard of project {project!r}: {error}; the key must be allowed to write to --entity "
            f"{entity or '(your own)'!r}; --out FILE needs no W&B"
        ) from error
