"""The files in a run's folder, and what a run is called."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

CONFIG_FILE = "config.yaml"
"""The resolved configuration; it repeats the run."""
DEEPSPEED_FILE = "deepspeed.json"
"""The DeepSpeed configuration made from it."""
RECORD_FILE = "run.json"
"""Hardware, commit, versions, hours, data set."""
METRICS_FILE = "metrics.jsonl"
"""One line per logged step."""
WEIGHTS_FILE = "model.safetensors"
"""Of an export: the best weights, fp32."""
OUTPUT_FILE = "output.log"
"""What a run of a sweep printed."""
FAILURES_FILE = "failures.jsonl"
"""Items that could not be read, with the reason."""
RESULTS_FILE = "results.json"
"""The last full ranking of the best checkpoint, with its baselines."""
RANKS_FILE = "ranks.npy"
"""int64 [users, 2] behind results.json: items better than and tied with each user's target."""
RECOMMENDED_FILE = "recommended.json"
"""What some users were recommended in that ranking, and how popular it is."""
WANDB_ID_FILE = "wandb_id.txt"
"""The W&B run that a resumed run goes on in."""
LOCK_FILE = ".lock"
"""Held by the process that writes the folder."""
ENCODERS = "encoders"
"""Folder of what builds the encoders without their pretrained checkpoints."""
CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints."""


def run_names(runs: Sequence[Path]) -> list[str]:
    """What each run folder is called: its own name, with as many folders above it as tell it from the others."""
    paths = [run.resolve() for run in runs]
    names = {path: path.name for path in paths}
    for length in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        counts = Counter(names.values())
        names = {
            path: name if counts[name] == 1 else str(Path(*path.parts[-length:]))
            for path, name in names.items()
        }
    return [names[path] for path in paths]
