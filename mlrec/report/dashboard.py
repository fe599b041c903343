"""mlrec dashboard: the team's view of all runs of a W&B project, as code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlrec import storage
from mlrec.config import TrackingConfig
from mlrec.config.arguments import Parser
from mlrec.evaluation.metrics import GROUPS
from mlrec.runs.wandb_run import EXAMPLES, FAILURES, HISTOGRAM, PARTS, SHARE, wandb_mode
from mlrec.runtime.terminal import say

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = "mlrec"
DASHBOARD_FILE = "mlrec-dashboard.json"

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


def main(arguments: Sequence[str]) -> None:
    """Makes the dashboard: [--project P] [--entity E] [--out FILE]."""
    parser = Parser(
        prog="mlrec dashboard",
        description="The team's dashboard: made in the W&B project with a key, written to a file without.",
    )
    parser.add_argument(
        "--project",
        default=TrackingConfig.project,
        help="tracking.project of the runs (default: %(default)s)",
    )
    parser.add_argument("--entity", default="", help="W&B team (default: your own)")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=f"write it to this JSON file (default: {DASHBOARD_FILE}, without a key)",
    )
    parsed = parser.parse_args(arguments)
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"mlrec dashboard needs wandb-workspaces ({error}); pip install 'mlrec[dashboard]'"
        ) from error
    if parsed.out or wandb_mode(TrackingConfig(wandb="auto"))[0] != "online":
        out = parsed.out or DASHBOARD_FILE
        view = (
            workspace(parsed.entity, parsed.project)
            ._to_model()
            .model_dump(mode="json", by_alias=True, exclude_none=True)
        )
        storage.write_bytes(out, (json.dumps(view, indent=1) + "\n").encode())
        say(
            f"{out}: with a key of W&B (wandb login) and no --out the dashboard is made in project {parsed.project!r}"
        )
        return
    say(_create(parsed.entity, parsed.project))


def _create(entity: str, project: str) -> str:
    """Makes the dashboard in the project; its address.

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
