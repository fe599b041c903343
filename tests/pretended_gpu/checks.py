"""What runs on the pretended GPU, and how its results are judged."""

from __future__ import annotations

import math
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from small_encoders import KINDS

from mlrec.models import recommender
from mlrec.models.losses import LOSSES
from mlrec.models.recommenders import RECOMMENDERS
from pretended_gpu.actions import (
    Action,
    bench_of,
    dropping_titles,
    encoding_of,
    exported,
    extraction_of,
    recommended,
    step_of,
    training_of,
)
from pretended_gpu.lab import NO_DROPOUT, Lab, encoders
from pretended_gpu.waits import RECORD

TOLERANCE = 1e-3
"""Largest accepted difference, as a share of the largest number."""


class Check(NamedTuple):
    """An action whose results on the GPU must equal others."""

    action: Action
    reference: Action | None = None
    """Action on the GPU with the same results; None for the same action on the CPU."""
    tolerance: float = TOLERANCE


@dataclass
class Outcome:
    """What a check has found."""

    error: str = ""
    """Why it failed; "" if it passed."""
    difference: float = math.nan
    """Largest difference, as a share of the largest number."""
    waits: list[list[str]] = field(default_factory=list)
    """The host's waits in each step, in words."""

    def as_json(self) -> dict[str, Any]:
        """Return it for the report."""
        return asdict(self)


def run_check(lab: Lab, check: Check) -> Outcome:
    """Run an action on both devices, or two actions on the GPU, and compare the results."""
    outcome = Outcome()
    try:
        if check.reference is None:
            expected = check.action(lab)
        else:
            with lab.on_gpu():
                expected = check.reference(lab)
        with lab.on_gpu():
            found = check.action(lab)
    except Exception as error:
        places = traceback.extract_tb(error.__traceback__)[-3:]
        where = [f"{place.filename.split('/')[-1]}:{place.lineno}" for place in places]
        outcome.error = f"{type(error).__name__}: {str(error)[:500]} at {', '.join(where)}"
        return outcome
    outcome.waits = [list(map(str, waits)) for waits in RECORD.steps()]
    outcome.difference = _difference(found, expected)
    # a comparison that NaN fails as well
    if not outcome.difference <= check.tolerance:
        outcome.error = f"results differ by {outcome.difference:.1e} of the largest number"
    return outcome


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    largest = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    return float((found - expected).abs().max()) / largest


VIDEO = encoders("video/tiny", checkpoint="always")
HELD_VIDEO = encoders("video/tiny", checkpoint="never")
TITLES = encoders("text/bert_tiny", config=NO_DROPOUT, checkpoint="never")
CACHED = encoders("video/videomae", "id/embedding", tuning="top")
GRAPH = ["recommender.name=lightgcn", "loss.name=bpr"]
COUNTS = ["recommender.name=item_knn", "train.duration=0 steps"]

TRAINING = {
    "ids": [],
    "titles": TITLES,
    "video": HELD_VIDEO,
    "recomputed-video": VIDEO,
    "jpegs": [*VIDEO, "data.decode_on=device"],
    "cached": CACHED,
    "side": encoders("video/videomae", tuning="side"),
    "lora": encoders("video/videomae", tuning="lora"),
    "lightgcn": GRAPH,
    "item_knn": COUNTS,
}
"""Settings of whole runs by name."""


def _in_parts(lab: Lab) -> torch.Tensor:
    """Take a step whose loss is computed in parts, with activation checkpointing."""
    with patch.object(recommender, "MAX_SCORES", 1000):
        return step_of("deepfm", "sampled_softmax")(lab)


CHECKS: dict[str, Check] = {
    **{f"train {name}": Check(training_of(name, *TRAINING[name])) for name in TRAINING},
    **{
        f"step {name} {loss}": Check(step_of(name, loss))
        for name, row in RECOMMENDERS.items()
        if row.trained
        for loss in LOSSES
    },
    "step in parts": Check(_in_parts),
    **{
        f"encode {name} {tuning}": Check(encoding_of(name, tuning))
        for name in KINDS
        for tuning in ("full", "top")
    },
    # dropout of language models draws from the device's generator
    "recompute titles": Check(dropping_titles("always"), dropping_titles("never"), tolerance=0.0),
    "extract videos": Check(extraction_of("video/tiny")),
    "extract images": Check(extraction_of("image/swin")),
    "extract titles": Check(extraction_of("text/bert_tiny")),
    "export --index": Check(exported),
    "recommend": Check(recommended),
    "bench step": Check(bench_of("step", *VIDEO)),
    "bench prefix": Check(bench_of("prefix", *CACHED)),
    "bench eval": Check(bench_of("eval")),
}
"""All checks by name, in their order: some use the runs of earlier ones."""
