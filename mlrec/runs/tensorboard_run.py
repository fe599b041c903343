"""Track a run in TensorBoard: its metrics, then recommendations with pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlrec.config import Config, TrackingConfig
from mlrec.config.metric_names import FINAL_PREFIXES
from mlrec.config.run_files import TENSORBOARD
from mlrec.config.yaml_files import to_yaml
from mlrec.data.pictures import Pictures
from mlrec.runs.example_pictures import numbered_titles, open_example_pictures, picture_row
from mlrec.runs.recommendations import (
    EXAMPLES,
    SHARE,
    Example,
    Recommended,
    popularity_shares,
    read_recommended,
)
from mlrec.runs.record import read_record
from mlrec.runtime.redact import scrub


def check_tensorboard(config: TrackingConfig) -> None:
    """Check that TensorBoard is installed if the run is tracked in it.

    Raises:
        ValueError: it is not.
    """
    if not config.tensorboard:
        return
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"tracking.tensorboard=true needs the package tensorboard ({error}). "
            "Run pip install 'mlrec[tensorboard]'"
        ) from error


class TensorBoardRun:
    """A Service that writes event files into the run's folder."""

    def __init__(
        self, run_path: Path, config: Config, resolved: Mapping[str, Any], resumed_step: int
    ) -> None:
        """Start an event file, with the configuration and run.json.

        Args:
            resolved: configuration to show; credentials are taken out.
            resumed_step: readers drop later steps in the event files of earlier commands.
        """
        from torch.utils.tensorboard import SummaryWriter

        _silence_writer_thread()
        self._path = run_path
        self._config = config
        self._writer = SummaryWriter(str(run_path / TENSORBOARD), purge_step=resumed_step + 1)
        described = {"configuration": scrub(resolved), "record": read_record(run_path)}
        for name, tree in described.items():
            if tree:
                self._writer.add_text(name, _preformatted(to_yaml(tree)), resumed_step)
        self._write_hparams(described["configuration"], resumed_step)
        self._writer.flush()

    def _write_hparams(self, described: Mapping[str, Any], step: int) -> None:
        """Write the keys for TensorBoard's table of runs, with the metric that chooses the best."""
        from torch.utils.tensorboard.summary import hparams

        name = FINAL_PREFIXES[self._config.evaluate.final_split] + self._config.evaluate.select_by
        # SummaryWriter.add_hparams would write them as another run, in a folder of its own.
        summaries = hparams(dict(_leaves(described)), {name: 0})  # type: ignore[no-untyped-call]
        events = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        for summary in summaries:
            events.add_summary(summary, step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        # A killed run keeps the metrics, and a full disk is noticed here.
        self._writer.flush()

    def log_end(self, step: int) -> None:
        """Log recommendations of the best checkpoint, with titles and pictures."""
        recommended = read_recommended(self._path)
        if recommended is None:
            return
        for group, share in popularity_shares(recommended).items():
            self._writer.add_scalar(SHARE.format(group=group), share, step)
        texts = [_titles(recommended, example) for example in recommended.examples]
        self._writer.add_text(EXAMPLES, _preformatted("\n\n".join(texts)), step)
        pictures = open_example_pictures(self._config)
        for example in recommended.examples:
            image = _picture(pictures, example)
            if image is not None:
                name = f"{EXAMPLES}/{example.user}"
                self._writer.add_image(name, np.asarray(image), step, dataformats="HWC")
        self._writer.flush()

    def finish(self, exit_code: int) -> None:
        """Close the event file."""
        del exit_code
        self._writer.close()


def _silence_writer_thread() -> None:
    """Let TensorBoard's thread print no traceback of an error, which the next flush raises too."""
    from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]

    thread_class = event_file_writer._AsyncWriterThread
    if thread_class.__module__ == __name__:
        return

    class SilentThread(thread_class):  # type: ignore[misc, valid-type]
        def run(self) -> None:
            with contextlib.suppress(Exception):
                super().run()

    event_file_writer._AsyncWriterThread = SilentThread


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a configuration with dots, and values that TensorBoard takes."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            is_plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{name}", value if is_plain else str(value)


def _preformatted(text: str) -> str:
    """Return a text as a block that Markdown leaves as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _titles(recommended: Recommended, example: Example) -> str:
    """Return one user's recommendations in words."""
    return (
        f"user {example.user}\nwatched\n{numbered_titles(recommended, example.history)}\n"
        f"watched next, at rank {example.rank}\n"
        f"{numbered_titles(recommended, (example.target,))}\n"
        f"recommended\n{numbered_titles(recommended, example.items)}"
    )


def _picture(pictures: Pictures | None, example: Example) -> Image.Image | None:
    """Return the watched items above the next one and the recommended ones; None without."""
    rows = [
        picture_row(pictures, example.history),
        picture_row(pictures, (example.target,)),
        picture_row(pictures, example.items, marked=example.target),
    ]
    images = [row for row in rows if row is not None]
    if not images:
        return None
    whole = Image.new(
        "RGB",
        (max(image.width for image in images), sum(image.height for image in images)),
        "white",
    )
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    return whole
