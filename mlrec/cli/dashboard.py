"""mlrec dashboard."""

from __future__ import annotations

import argparse

from mlrec.config import TrackingConfig
from mlrec.config.arguments import Parser
from mlrec.runtime.terminal import say

HELP = "Make the team's W&B dashboard: in the project, or as a file if there is no W&B key."
DESCRIPTION = """\
The dashboard shows quality, speed, data and health of all runs of a project. It needs
pip install 'mlrec[dashboard]'."""
EXAMPLE = """\
mlrec dashboard --project microlens --entity my-team"""

DASHBOARD_FILE = "mlrec-dashboard.json"


def add_arguments(parser: Parser) -> None:
    """Add the project, the team, and the file."""
    parser.add_argument(
        "--project",
        default=TrackingConfig.project,
        metavar="NAME",
        help="W&B project, which is tracking.project of the runs (default: %(default)s)",
    )
    parser.add_argument("--entity", default="", metavar="NAME", help="W&B team (default: your own)")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="JSON file to write the dashboard to "
        f"(default: none with a W&B key, {DASHBOARD_FILE} without)",
    )


def run(options: argparse.Namespace) -> None:
    """Make the dashboard, and print where it is.

    Raises:
        ValueError: wandb-workspaces is not installed.
        RuntimeError: W&B refuses, or cannot be reached.
    """
    # an extra of the package: first of all, because the rest needs it
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"mlrec dashboard needs wandb-workspaces ({error}); pip install 'mlrec[dashboard]'"
        ) from error
    from mlrec.report.dashboard import create_dashboard, write_dashboard
    from mlrec.runs.wandb_run import wandb_mode

    entity = options.entity
    project = options.project
    # the same rules as for a run with tracking.wandb=auto, so WANDB_MODE=offline counts here too
    is_online = wandb_mode(TrackingConfig(wandb="auto"))[0] == "online"
    if is_online and not options.out:
        say(create_dashboard(entity, project))
        return
    out = options.out or DASHBOARD_FILE
    write_dashboard(entity, project, out)
    say(
        f"{out}: log in to W&B (wandb login) and leave --out away to make the dashboard "
        f"in project {project!r}"
    )
