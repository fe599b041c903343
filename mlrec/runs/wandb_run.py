"""Track a run in Weights & Biases: its metrics, then tables, pictures and the checkpoint."""

from __future__ import annotations

import logging
import netrc
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from mlrec import storage
from mlrec.config import Config, TrackingConfig
from mlrec.config.run_files import WANDB_ID_FILE
from mlrec.runs import checkpoint
from mlrec.runs.failures import read_failures
from mlrec.runs.recommendations import EXAMPLES, read_recommended
from mlrec.runs.record import read_record
from mlrec.runs.wandb_tables import (
    PARTS,
    examples_table,
    failures_table,
    parts_table,
    popularity_of_recommendations,
)
from mlrec.runtime.printable import printable
from mlrec.runtime.redact import scrub
from mlrec.storage.typed_json import read_bounded

MAX_ID_BYTES = 100

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_log = logging.getLogger(__name__)


class WandbRun:
    """A Service that sends to W&B. A resumed run continues its W&B run."""

    def __init__(self, run_path: Path, config: Config, resolved: Mapping[str, Any]) -> None:
        self._run = _begin(run_path, config, resolved)
        self._path = run_path
        self._config = config

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step. W&B keeps the first value, so a resume changes nothing."""
        self._run.log(dict(metrics), step=step)

    def log_end(self, step: int) -> None:
        """Log tables, pictures and the best checkpoint."""
        _log_end(self._run, self._path, self._config, step)

    def finish(self, exit_code: int) -> None:
        """Finish the W&B run, which sends the last metrics."""
        self._run.finish(exit_code=exit_code)


_MODES = {"disabled": 0, "offline": 1, "online": 2}
"""How much leaves this machine, from nothing to everything."""
_OTHER_NAMES = {"dryrun": "offline", "run": "online"}


def wandb_mode(config: TrackingConfig) -> tuple[Literal["disabled", "offline", "online"], str]:
    """Return the mode of W&B, and a notice if WANDB_MODE and tracking.wandb contradict each other.

    The setting counts that lets less leave this machine.

    Raises:
        ValueError: WANDB_MODE is none of W&B's modes, and tracking is not disabled.
    """
    variable = os.environ.get("WANDB_MODE", "").strip().lower()
    requested = _OTHER_NAMES.get(variable, variable)
    if config.wandb == "disabled":
        notice = f"W&B is off: tracking.wandb=disabled has priority over WANDB_MODE={variable}"
        return "disabled", notice if requested == "online" else ""
    if requested not in ("", *_MODES):
        names = ", ".join([*_MODES, *_OTHER_NAMES])
        raise ValueError(
            f"WANDB_MODE is {variable!r}; it must be one of {names}. Change or unset it"
        )
    configured = config.wandb
    if configured == "auto":
        may_be_online = requested not in ("disabled", "offline")
        configured = "online" if may_be_online and has_key() else "offline"
    # auto without a key stays offline, whatever WANDB_MODE asks for
    is_auto_online = config.wandb == "auto" and requested == "online"
    if not requested or requested == configured or is_auto_online:
        return configured, ""
    mode = min(configured, requested, key=lambda name: _MODES[name])
    notice = f"W&B is {mode}: tracking.wandb is {config.wandb}, and WANDB_MODE={variable}"
    return mode, "" if config.wandb == "auto" else notice  # type: ignore[return-value]


def has_key() -> bool:
    """Tell whether this user has a W&B key: WANDB_API_KEY, or an entry in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True

    import wandb

    # netrc(None) reads ~/.netrc; a missing or broken file means that there is no key.
    try:
        url = os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url
        host = urlparse(url).hostname or ""
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _begin(run_path: Path, config: Config, resolved: Mapping[str, Any]) -> Any:
    """Start or continue the W&B run, with the configuration and run.json."""
    described = dict(resolved)
    record = read_record(run_path)
    if record is not None:
        described["record"] = record
    return _init(run_path, config, described)


def _init(run_path: Path, config: Config, described: Mapping[str, Any]) -> Any:
    import wandb

    mode, _ = wandb_mode(config.tracking)
    return wandb.init(
        project=config.tracking.project,
        entity=config.tracking.entity or None,
        name=config.name,
        id=_run_id(run_path),
        # an offline run is continued by its id when it is synced
        resume="allow" if mode == "online" else None,
        mode=mode,
        dir=str(run_path),
        config=scrub(described),
        # metadata would hold the command line and the git remote, which may contain credentials
        settings=wandb.Settings(
            silent=mode != "online", console="off", disable_git=True, x_disable_meta=True
        ),
    )


def _run_id(run_path: Path) -> str:
    """Return the id of the run's W&B run, and choose one the first time."""
    path = run_path / WANDB_ID_FILE
    if not path.exists():
        # Stored before wandb.init: a run that crashes right after it continues the same W&B run.
        storage.write_bytes(str(path), secrets.token_hex(4).encode())
    remedy = f"Remove {path} to track this run as a new W&B run"
    run_id = read_bounded(path, MAX_ID_BYTES, remedy).decode(errors="replace").strip()
    if not _ID.fullmatch(run_id):
        raise ValueError(f"{path} is {printable(run_id)!r}, which is no id of a W&B run. {remedy}.")
    return run_id


def _log_end(run: Any, run_path: Path, config: Config, step: int) -> None:
    """Log what a finished run leaves: recommendations, failures, and its best checkpoint."""
    logged: dict[str, Any] = {}
    recommended = read_recommended(run_path)
    if recommended is not None:
        logged |= popularity_of_recommendations(recommended)
        logged[EXAMPLES] = examples_table(recommended, config)
    logged |= failures_table(read_failures(run_path))
    path = checkpoint.best(run_path, config.evaluate.select_by)
    if path is not None:
        logged[PARTS] = parts_table(path)
        state = checkpoint.read_state(path)
        metadata = {"step": state.step, **state.metrics}
        log_checkpoint(run, path.resolve().as_uri(), ("best",), metadata)
    if logged:
        run.log(logged, step=step)


def log_checkpoint(
    run: Any, url: str, aliases: tuple[str, ...], metadata: Mapping[str, Any]
) -> None:
    """Make a checkpoint an artifact of the W&B run, by reference and without an upload."""
    import wandb

    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(metadata))
    # With checksum=True, W&B would read the whole checkpoint to hash it.
    artifact.add_reference(scrub(url), checksum=False)
    run.log_artifact(artifact, aliases=list(aliases))


def log_export(run_path: Path, config: Config, url: str, step: int) -> None:
    """Make exported weights an artifact of the run's W&B run, if there is one."""
    if wandb_mode(config.tracking)[0] == "disabled" or not (run_path / WANDB_ID_FILE).exists():
        return
    try:
        run = _init(run_path, config, {})
        uri = storage.local_path(url).resolve().as_uri() if storage.is_local(url) else url
        log_checkpoint(run, uri, ("exported",), {"step": step})
        run.finish()
    except Exception as error:  # the export is complete, whatever W&B raises
        reason = f"{type(error).__name__}: {scrub(str(error))}"
        _log.warning("Could not log the artifact %s in W&B: %s", scrub(url), reason)
