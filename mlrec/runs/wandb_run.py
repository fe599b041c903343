"""A run's own run in Weights & Biases: its figures as they come, and at the end pictures, tables and the checkpoint."""

from __future__ import annotations

import logging
import netrc
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from PIL import Image, ImageDraw

from mlrec import storage
from mlrec.config import Config, TrackingConfig
from mlrec.config.run_files import WANDB_ID_FILE
from mlrec.data.pictures import Pictures, open_pictures
from mlrec.runs import checkpoint
from mlrec.runs.failures import Failure, read_failures
from mlrec.runs.recommendations import Recommended, read_recommended
from mlrec.runs.record import read_record
from mlrec.runtime.printable import printable
from mlrec.runtime.redact import scrub
from mlrec.storage.typed_json import read_bounded

FAILURES_SHOWN = 100
FINISH_S = 5.0
HIT_COLOR = "#16955f"

EXAMPLES = "recommended/examples"
"""Table: a row per user, with pictures."""
SHARE = "recommended/{group}"
"""Share of the recommendations that is in a popularity group."""
HISTOGRAM = "recommended/popularity"
FAILURES = "data/failures"
PARTS = "model/parts"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_log = logging.getLogger(__name__)


class WandbRun:
    """A sink of the Tracker; it goes on under the same id when the run does, and its first failure is a warning and its end."""

    def __init__(self, run_path: Path, config: Config, resolved: Mapping[str, Any]) -> None:
        self._run: Any = None
        self._path, self._config, self._step = run_path, config, 0
        self._is_ranked = False
        self._try(lambda: setattr(self, "_run", _begin(run_path, config, resolved)))

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (
            Exception
        ) as error:  # no figure is worth a training run: whatever W&B raises is a warning
            self._run = None
            _log.warning(
                "W&B gets nothing more of this run: %s: %s", type(error).__name__, scrub(str(error))
            )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of a step; of one that was logged before a stop W&B keeps the old ones, which are equal."""
        if self._run is not None:
            self._step = step
            self._is_ranked = self._is_ranked or any(name.startswith("test/") for name in metrics)
            self._try(lambda: self._run.log(dict(metrics), step=step))

    def message(self, text: str) -> None:
        """Nothing: messages are for the console."""
        del text

    def close(self, exit_code: int) -> None:
        """Ends the run; one that has come to its ranking of the test split leaves pictures, tables and checkpoint."""
        if self._run is not None and exit_code == 0 and self._is_ranked:
            self._try(lambda: _log_end(self._run, self._path, self._config, self._step))
        if self._run is not None:
            self._finish(exit_code)

    def _finish(self, exit_code: int) -> None:
        """Finish the W&B run, after a failure within FINISH_S: the other ranks wait for the end of this one."""
        thread = threading.Thread(
            target=self._try, args=[lambda: self._run.finish(exit_code=exit_code)], daemon=True
        )
        thread.start()
        thread.join(FINISH_S if exit_code else None)
        if thread.is_alive():
            _log.warning(
                "W&B has not taken the last metrics within %.0f s; the run ends without it",
                FINISH_S,
            )


_MODES = {"disabled": 0, "offline": 1, "online": 2}
"""From the least to the most that leaves this machine."""
_OTHER_NAMES = {"dryrun": "offline", "run": "online"}


def wandb_mode(config: TrackingConfig) -> tuple[Literal["disabled", "offline", "online"], str]:
    """Return the mode of W&B, and what to tell the user where WANDB_MODE and tracking.wandb contradict each other.

    Of the two the one counts that lets less leave this machine.

    Raises:
        ValueError: WANDB_MODE is none of W&B's modes, and tracking is not disabled.
    """
    said = os.environ.get("WANDB_MODE", "").strip().lower()
    asked = _OTHER_NAMES.get(said, said)
    if config.wandb == "disabled":
        told = f"W&B is off: tracking.wandb is disabled, which WANDB_MODE={said} does not change"
        return "disabled", told if asked == "online" else ""
    if asked not in ("", *_MODES):
        raise ValueError(
            f"WANDB_MODE is {said!r}; it must be one of {', '.join([*_MODES, *_OTHER_NAMES])}, or unset it"
        )
    chosen = config.wandb
    if chosen == "auto":
        chosen = "online" if asked not in ("disabled", "offline") and has_key() else "offline"
    if not asked or asked == chosen or (config.wandb == "auto" and asked == "online"):
        return chosen, ""
    mode = min(chosen, asked, key=lambda one: _MODES[one])
    told = f"W&B is {mode}: tracking.wandb is {config.wandb}, and WANDB_MODE={said}"
    return mode, "" if config.wandb == "auto" else told  # type: ignore[return-value]


def has_key() -> bool:
    """Whether this user has a key of W&B: WANDB_API_KEY, or a line of ~/.netrc, where `wandb login` puts it."""
    import wandb

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        url = os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url
        host = urlparse(url).hostname or ""
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _begin(run_path: Path, config: Config, resolved: Mapping[str, Any]) -> Any:
    record = read_record(run_path)
    return _init(run_path, config, {**resolved, **({} if record is None else {"record": record})})


def _init(run_path: Path, config: Config, described: Mapping[str, Any]) -> Any:
    import wandb

    mode, _ = wandb_mode(config.tracking)
    return wandb.init(
        project=config.tracking.project,
        entity=config.tracking.entity or None,
        name=config.name,
        id=_run_id(run_path),
        resume="allow"
        if mode == "online"
        else None,  # an offline run goes on by its id alone, when it is synced
        mode=mode,
        dir=str(run_path),
        config=scrub(described),
        # The command line and the git remote, which metadata would hold, may contain credentials.
        settings=wandb.Settings(
            silent=mode != "online", console="off", disable_git=True, x_disable_meta=True
        ),
    )


def _run_id(run_path: Path) -> str:
    """Return the id of the run's W&B run, a new one the first time."""
    path = run_path / WANDB_ID_FILE
    if not path.exists():
        storage.write_bytes(str(path), secrets.token_hex(4).encode())
    remedy = f"Remove {path} to track this run as a new W&B run"
    found = read_bounded(path, 100, remedy).decode(errors="replace").strip()
    if not _ID.fullmatch(found):
        raise ValueError(f"{path} is {printable(found)!r}, which is no id of a W&B run. {remedy}.")
    return found


def _log_end(run: Any, run_path: Path, config: Config, step: int) -> None:
    logged: dict[str, Any] = {}
    if (found := read_recommended(run_path)) is not None:
        logged |= _shares(found) | {EXAMPLES: _examples(found, config)}
    logged |= _failures(read_failures(run_path))
    path = checkpoint.best(run_path, config.evaluate.select_by)
    if path is not None:
        logged[PARTS] = _parts(path)
        state = checkpoint.read_state(path)
        metadata = {"step": state.step, **state.metrics}
        log_checkpoint(run, path.resolve().as_uri(), ("best",), metadata)
    if logged:
        run.log(logged, step=step)


def log_checkpoint(
    run: Any, url: str, aliases: tuple[str, ...], metadata: Mapping[str, Any]
) -> None:
    """Names a checkpoint that stays where it is, at `url`, as an artifact of the W&B run: its gigabytes are not uploaded."""
    import wandb

    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(metadata))
    artifact.add_reference(scrub(url), checksum=False)
    run.log_artifact(artifact, aliases=list(aliases))


def log_export(run_path: Path, config: Config, url: str, step: int) -> None:
    """Names exported weights at `url` as an artifact of the run's W&B run, if it has one; a failure is a warning."""
    if wandb_mode(config.tracking)[0] == "disabled" or not (run_path / WANDB_ID_FILE).exists():
        return
    try:
        run = _init(run_path, config, {})
        where = storage.local_path(url).resolve().as_uri() if storage.is_local(url) else url
        log_checkpoint(run, where, ("exported",), {"step": step})
        run.finish()
    except Exception as error:  # the weights are there, whatever W&B raises
        _log.warning(
            "W&B is not told of %s: %s: %s", scrub(url), type(error).__name__, scrub(str(error))
        )


def _shares(found: Recommended) -> dict[str, Any]:
    import wandb

    counts = found.popularity["recommended"]
    shares = {group: count / max(1, sum(counts.values())) for group, count in counts.items()}
    group, share = "training interactions", "share of the recommendations"
    table = wandb.Table(columns=[group, share], data=[[*row] for row in shares.items()])
    histogram = wandb.plot.bar(
        table, group, share, title=f"Popularity of what {found.users} users are recommended"
    )
    return {
        HISTOGRAM: histogram,
        **{SHARE.format(group=group): share for group, share in shares.items()},
    }


def _examples(found: Recommended, config: Config) -> Any:
    import wandb

    pictures: Pictures | None = None
    try:
        pictures = open_pictures(config.data)
    except (ValueError, OSError, RuntimeError) as error:
        _log.warning("W&B's table of recommendations has titles only: %s", scrub(str(error)))
    table = wandb.Table(
        columns=[
            "user",
            "watched",
            "watched next",
            "rank",
            "is hit",
            "recommended",
            "titles watched",
            "titles recommended",
        ]
    )

    def row(items: tuple[int, ...], marked: int = 0) -> Any:
        return (
            wandb.Image(_row(pictures, items, marked), file_type="jpg")
            if pictures is not None and pictures.has_any and items
            else None
        )

    def titles(items: tuple[int, ...]) -> str:
        return "\n".join(
            f"{place}. {found.titles.get(item, '')}" for place, item in enumerate(items, start=1)
        )

    for entry in found.examples:
        pictured = row(entry.history), row((entry.target,)), row(entry.items, entry.target)
        verdict = entry.rank, entry.target in entry.items
        table.add_data(
            entry.user,
            *pictured[:2],
            *verdict,
            pictured[2],
            titles(entry.history),
            titles(entry.items),
        )
    return table


def _row(pictures: Pictures, items: tuple[int, ...], marked: int) -> Image.Image:
    image = pictures.row(items)
    if marked in items:
        left = items.index(marked) * image.height
        box = (left, 0, left + image.height - 1, image.height - 1)
        ImageDraw.Draw(image).rectangle(box, outline=HIT_COLOR, width=max(2, image.height // 20))
    return image


def _failures(ledger: list[Failure]) -> dict[str, Any]:
    import wandb

    rows = [[failure.item, failure.reason, failure.step] for failure in ledger[:FAILURES_SHOWN]]
    return {FAILURES: wandb.Table(columns=["item", "reason", "step"], data=rows)} if rows else {}


def _parts(path: Path) -> Any:
    """The model's parts, a row each: name, shapes, parameters, and whether it is trained."""
    import wandb

    rows: dict[str, list[Any]] = {}
    for name, shape, is_trained in checkpoint.read_shapes(path):
        part = rows.setdefault(".".join(name.split(".")[:-1]), ["", 0, False])
        part[0] = ", ".join(filter(None, [part[0], " x ".join(map(str, shape))]))
        size = 1
        for length in shape:
            size *= length
        part[1] += size
        part[2] = part[2] or is_trained
    return wandb.Table(
        columns=["part", "shapes", "parameters", "trained"],
        data=[[name, *part] for name, part in rows.items()],
    )
