"""Whether W&B is online, offline or off, and what a run without a key can do."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlrec.cli import main as cli
from mlrec.config import TrackingConfig
from mlrec.runs import wandb_run


def test_dashboard_without_a_key_is_written_to_a_file(
    no_key: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "view.json"
    cli.run_command(["dashboard", "--project", "videos", "--entity", "team", "--out", str(out)])
    assert "to make the dashboard in project 'videos'" in capsys.readouterr().out
    view = json.loads(out.read_text())
    assert (view["entity"], view["project"], view["displayName"]) == ("team", "videos", "mlrec")


def test_dashboard_without_its_extra_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(
        ValueError, match=r"needs wandb-workspaces .* pip install 'mlrec\[dashboard\]'"
    ):
        cli.run_command(["dashboard"])


@pytest.mark.parametrize(
    ("variable", "configured", "mode", "words"),
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
            "W&B is off: tracking.wandb=disabled has priority over WANDB_MODE=online",
        ),
        ("offline", "disabled", "disabled", ""),
        ("nonsense", "disabled", "disabled", ""),
    ],
)
def test_wandb_mode_variable_restricts_and_reports_contradictions(
    variable: str,
    configured: Any,
    mode: str,
    words: str,
    no_key: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    chosen, remark = wandb_run.wandb_mode(TrackingConfig(wandb=configured))
    assert chosen == mode
    assert (words in remark) if words else remark == ""


def test_wandb_mode_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "shred")
    with pytest.raises(
        ValueError,
        match="WANDB_MODE is 'shred'; it must be one of disabled, offline, online, dryrun, run",
    ):
        wandb_run.wandb_mode(TrackingConfig(wandb="auto"))


def test_wandb_mode_auto_with_a_key_is_online_unless_restricted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "key")
    for variable, mode in {
        "": "online",
        "online": "online",
        "offline": "offline",
        "disabled": "disabled",
    }.items():
        monkeypatch.setenv("WANDB_MODE", variable)
        assert wandb_run.wandb_mode(TrackingConfig(wandb="auto")) == (mode, "")


def test_has_key_reads_the_environment_and_netrc(
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
