"""The names of the files in a run's folder, and the names of runs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# the resolved configuration, which repeats the run
CONFIG_FILE = "config.yaml"
# the DeepSpeed configuration made from it
DEEPSPEED_FILE = "deepspeed.json"
# hardware, commit, versions, hours and data set
RECORD_FILE = "run.json"
# one line per logged step
METRICS_FILE = "metrics.jsonl"
# best weights in fp32, in the folder of an export
WEIGHTS_FILE = "model.safetensors"
# output of a run that a sweep started
OUTPUT_FILE = "output.log"
# unreadable items, with the reason
FAILURES_FILE = "failures.jsonl"
# last full ranking of the best checkpoint, with its baselines
RESULTS_FILE = "results.json"
# int64 [users, 2] that results.json is computed from: items better than and tied with each target
RANKS_FILE = "ranks.npy"
# examples of recommendations in that ranking, with the popularity of the recommended items
RECOMMENDED_FILE = "recommended.json"
# settings of a trial of a search, and its value or its error
TRIAL_FILE = "trial.json"
# id of the W&B run, which a resumed run continues
WANDB_ID_FILE = "wandb_id.txt"
# folder with the event files of TensorBoard
TENSORBOARD = "tensorboard"
# locked by the process that writes the folder
LOCK_FILE = ".lock"
# folder with what builds the encoders when their pretrained checkpoints are gone
ENCODERS = "encoders"
CHECKPOINTS = "checkpoints"

RUN_REMEDY = "Name a folder that mlrec train wrote"


def run_names(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run folder: its own, with as many parent folders as make it unique."""
    paths = [run.resolve() for run in runs]
    longest = max((len(path.parts) for path in paths), default=0)
    names = {path: path.name for path in paths}
    for length in range(2, longest + 1):
        counts = Counter(names.values())
        for path, name in names.items():
            if counts[name] > 1:
                names[path] = str(Path(*path.parts[-length:]))
    return [names[path] for path in paths]
