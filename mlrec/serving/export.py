"""A run's best weights as one plain safetensors file, and the configuration that builds the model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlrec import config as configuration
from mlrec import storage
from mlrec.config.run_files import CHECKPOINTS, CONFIG_FILE, WEIGHTS_FILE
from mlrec.config.yaml_files import parse_yaml
from mlrec.data.features.info import INFO_FILE, ITEMS_FILE, RAW_IDS_FILE, VECTORS_FILE
from mlrec.runs import checkpoint, wandb_run
from mlrec.runs.run import best_checkpoint, load_trained
from mlrec.runtime.distributed import World
from mlrec.serving.exported import INDEX_FILE, SERVING_FILE
from mlrec.serving.index import check_index, export_index
from mlrec.storage.own_files import check_own_folder
from mlrec.storage.tensor_files import save_tensors


def export(
    run: Path, out: str, world: World | None = None, overrides: Sequence[str] = ()
) -> tuple[str, float | None]:
    """Writes the run's best checkpoint by validation to `out`, any URL.

    Weights are fp32 under the names of `Recommender.state_dict()`, whatever the ZeRO stage and number of ranks of the run.
    What an older export left at `out` is no longer served, and this one not before all of it is there.

    The W&B run of a run that has one gets them as an artifact, by reference.

    Args:
        world: encodes the items for an index of them, where one is wanted.
        overrides: "key=value" over the run's settings, such as data.url.

    Returns:
        URL of the weights; and of `export_index`, where one is wanted, recall@10.

    Raises:
        ValueError: there is no such run, or it has no checkpoint, the recommender has no index of its items, or `out` is a run
            or holds files of others.
    """
    check_is_place(out)
    config = load_trained(run, overrides)
    if world is not None:
        check_index(config)
    path = best_checkpoint(config)
    step = checkpoint.read_state(path).step
    weights = dict(checkpoint.read_tensors(path, checkpoint.WEIGHT))
    storage.remove(storage.join(out, SERVING_FILE))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS_FILE
        save_tensors(weights, file, metadata={"format": "pt", "step": str(step)})
        file.chmod(0o644)  # safetensors leaves 0600; a service may run as another user
        copy = Path(folder) / CONFIG_FILE
        configuration.save(configuration.load_saved(run / CONFIG_FILE, overrides), copy)
        sha256 = storage.sha256_of(str(file))
        storage.publish(copy, storage.join(out, CONFIG_FILE))
        storage.publish(file, storage.join(out, WEIGHTS_FILE))
    wandb_run.log_export(run, config, storage.join(out, WEIGHTS_FILE), step)
    recall = None if world is None else export_index(config, path, out, sha256, world)
    return storage.join(out, WEIGHTS_FILE), recall


def check_is_place(out: str) -> None:
    """Refuse a place for an export that holds anything but an export.

    Raises:
        ValueError: it does.
    """
    if storage.exists(storage.join(out, CHECKPOINTS)):
        raise ValueError(
            f"{out} is a run's folder, whose {CONFIG_FILE} the export would overwrite; give another place"
        )
    names = (
        CONFIG_FILE,
        WEIGHTS_FILE,
        SERVING_FILE,
        INDEX_FILE,
        ITEMS_FILE,
        RAW_IDS_FILE,
        VECTORS_FILE,
        INFO_FILE,
    )
    check_own_folder(out, "mlrec export", names, lambda: _is_export(out))


def _is_export(out: str) -> bool:
    """Tell whether a folder has the configuration of a run, as every export does from its first file on."""
    where = storage.join(out, CONFIG_FILE)
    if not storage.exists(where):
        return False
    try:
        tree = parse_yaml(storage.read_bytes(where).decode(), where)
    except ValueError:
        return False
    return isinstance(tree, dict) and tree.keys() >= {"data", "item", "recommender", "train"}
