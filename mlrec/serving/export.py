"""Export the best weights of a run as safetensors, with the configuration that builds the model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlrec import config as configuration
from mlrec import storage
from mlrec.config.run_files import CHECKPOINTS, CONFIG_FILE, WEIGHTS_FILE
from mlrec.config.yaml_files import parse_yaml
from mlrec.data.features.info import INFO_FILE, ITEMS_FILE, RAW_IDS_FILE, VECTORS_FILE
from mlrec.models.lora import adapter_options, merge_adapters, without_adapters
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
    """Write the run's best checkpoint by validation to `out`.

    Weights are fp32 with the names of `Recommender.state_dict()`, for any ZeRO stage and number of
    ranks. An older export at `out` is served no longer, and the new one only once it is complete.
    If the run is tracked in W&B, the weights become an artifact there, by reference.

    Args:
        out: any URL.
        world: the ranks that encode the items for an index; None for no index.
        overrides: "key=value" settings that replace those of the run, such as data.url.

    Returns:
        URL of the weights, and recall@10 of the index, or None without one.

    Raises:
        ValueError: the run does not exist or has no checkpoint, its items cannot be indexed, or
            `out` is a run or holds files that no export wrote.
    """
    # before the older export is withdrawn below, so that it is still served after a refusal
    check_is_place(out)
    config = load_trained(run, overrides)
    if world is not None:
        check_index(config)
    path = best_checkpoint(config)
    step = checkpoint.read_state(path).step
    adapters = adapter_options(config.item)
    # Users of the export need neither adapters nor peft.
    weights = dict(merge_adapters(checkpoint.read_tensors(path, checkpoint.WEIGHT), adapters))
    # removed first and written last: without it nobody serves a mix of two exports
    storage.remove(storage.join(out, SERVING_FILE))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS_FILE
        save_tensors(weights, file, metadata={"format": "pt", "step": str(step)})
        # safetensors creates files with mode 0600, but a service may run as another user
        file.chmod(0o644)
        copy = Path(folder) / CONFIG_FILE
        saved = configuration.load_saved(run / CONFIG_FILE, overrides)
        configuration.save(without_adapters(saved), copy)
        # before publish, which moves the file away
        sha256 = storage.sha256_of(str(file))
        # configuration first: _is_export looks for it, so an interrupted export can be repeated
        storage.publish(copy, storage.join(out, CONFIG_FILE))
        storage.publish(file, storage.join(out, WEIGHTS_FILE))
    # only now, because the artifact is a reference to weights that must exist
    wandb_run.log_export(run, config, storage.join(out, WEIGHTS_FILE), step)
    recall = None if world is None else export_index(config, path, out, sha256, world)
    return storage.join(out, WEIGHTS_FILE), recall


def check_is_place(out: str) -> None:
    """Check that an export may be written to `out`.

    Raises:
        ValueError: `out` is a run, or holds files that no export wrote.
    """
    if storage.exists(storage.join(out, CHECKPOINTS)):
        raise ValueError(
            f"Cannot export to {out}: it is a run's folder, whose {CONFIG_FILE} the export would "
            "overwrite. Name another folder or URL"
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
    """Tell whether a folder has the configuration of a run, the first file of every export."""
    url = storage.join(out, CONFIG_FILE)
    if not storage.exists(url):
        return False
    try:
        tree = parse_yaml(storage.read_bytes(url).decode(), url)
    except ValueError:
        return False
    return isinstance(tree, dict) and tree.keys() >= {"data", "item", "recommender", "train"}
