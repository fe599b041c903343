"""The W&B dashboard of all runs in a project, as code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlrec import storage
from mlrec.evaluation.metrics import GROUPS
from mlrec.runs.recommendations import EXAMPLES, SHARE
from mlrec.runs.wandb_tables import FAILURES, HISTOGRAM, PARTS

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
        "Items per second": ("speed/videos_per_s",),
        "Slots per item: what encoding each once saves": ("speed/dedup",),
        "Share of the time that waits for data": ("speed/data_wait",),
        "Share of the device's peak FLOP/s (HFU; equals MFU without activation checkpointing)": (
            "speed/hfu",
        ),
    },
    "Data": {
        "Share of the bytes that the node's cache held": ("data/cache_hits",),
        "Bytes read, from cache and remote": ("data/bytes_read",),
        "Bytes from remote: what the cache did not hold": ("data/remote_bytes",),
        "Share of items whose frozen activations were cached": ("data/prefix_hits",),
        "Items that could not be read": ("data/bad_items",),
    },
    "Health": {
        "Loss": ("train/loss",),
        "Gradient norm": ("train/grad_norm",),
        "Peak memory of a rank, bytes": ("memory/peak_bytes",),
        "Learning rate of the recommender": ("train/lr",),
    },
}
"""By section, the logged metrics of each line chart."""

TABLES = {"Quality": (HISTOGRAM + "_table", EXAMPLES), "Data": (FAILURES,), "Health": (PARTS,)}
"""Logged tables by section. The newest of each run is shown."""


def workspace(entity: str, project: str) -> Workspace:
    """Return the dashboard. This needs no network."""
    import wandb_workspaces.reports.v2.interface as panels
    import wandb_workspaces.workspaces as ws

    panels_of: dict[str, list[Any]] = {}
    for section, charts in LINES.items():
        panels_of[section] = []
        for title, metrics in charts.items():
            panels_of[section].append(panels.LinePlot(title=title, y=list(metrics)))
    groups = [name for name, _, _ in GROUPS]
    panels_of["Quality"] += [
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
        for table in tables:
            panels_of[section].append(panels.WeavePanelSummaryTable(table_name=table))
    sections = []
    for name, own_panels in panels_of.items():
        sections.append(ws.Section(name=name, panels=own_panels, is_open=True))
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=sections)


def write_dashboard(entity: str, project: str, out: str) -> None:
    """Write the dashboard to a JSON file or URL."""
    # the library offers no public way to write a workspace without creating it
    model = workspace(entity, project)._to_model()
    view = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    storage.write_bytes(out, (json.dumps(view, indent=1) + "\n").encode())


def create_dashboard(entity: str, project: str) -> str:
    """Create the dashboard in the W&B project, and return its URL.

    Raises:
        RuntimeError: W&B refuses, or cannot be reached.
    """
    import wandb

    try:
        dashboard = workspace(entity or str(wandb.Api().default_entity), project)
        dashboard.save()  # type: ignore[no-untyped-call]
        return str(dashboard.url)
    except Exception as error:  # the errors of both libraries have no common base class
        raise RuntimeError(
            f"W&B did not create the dashboard of project {project!r}: {error}. The key must have "
            f"write access to --entity {entity or '(your own)'!r}. --out FILE needs no W&B"
        ) from error
