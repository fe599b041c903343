"""A run's best weights as one plain safetensors file, and the configuration that builds the model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from mlrec import checkpoint, storage, wandb_run
from mlrec.distributed import start_world, stop_world
from mlrec.evaluate import load_run
from mlrec.process import asks_for_help
from mlrec.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.serving import export_index


def export(run: Path, out: str) -> str:
    """Writes the run's best checkpoint by validation to `out` (any URL); returns the URL of the weights.

    Weights are fp32 under the names of `Recommender.state_dict()`, whatever the ZeRO stage and number of ranks of the run.

    The W&B run of a run that has one gets them as an artifact, by reference.

    Raises:
        ValueError: there is no such run, or it has no checkpoint.
    """
    config = load_run(run)
    path = checkpoint.best(run, config.evaluate.select_by)
    if path is None:
        raise ValueError(f"{run} has no checkpoint to export; mlrec train writes the first one after train.save_every")
    step = checkpoint.read_state(path).step
    weights = dict(checkpoint.read_tensors(path, checkpoint.WEIGHT))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS_FILE
        save_file(weights, file, metadata={"format": "pt", "step": str(step)})
        copy = Path(folder) / CONFIG_FILE
        shutil.copy(run / CONFIG_FILE, copy)
        storage.publish(copy, storage.join(out, CONFIG_FILE))
        storage.publish(file, storage.join(out, WEIGHTS_FILE))
    wandb_run.log_export(run, config, storage.join(out, WEIGHTS_FILE), step)
    return storage.join(out, WEIGHTS_FILE)


def main(arguments: Sequence[str]) -> None:
    """Exports: RUN OUT [--index]."""
    usage = (
        "usage: mlrec export RUN OUT [--index]\n\n"
        "  --index   also the vectors of all items and a faiss index of them, which mlrec recommend OUT reads"
    )
    if asks_for_help(arguments, usage):
        return
    given = [argument for argument in arguments if argument != "--index"]
    if len(given) != 2 or given[0].startswith("-"):
        raise ValueError(usage)
    run, out = Path(given[0]), given[1]
    print(export(run, out))
    if len(given) < len(arguments):
        recall = export_index(run, out, start_world())
        stop_world()
        print(f"{out}: item vectors and their index, recall@10 {recall:.4f} against exact search")
