"""Warm start: a new run takes over the weights of another run (train.start_from)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mlrec.config import Config
from mlrec.config.run_files import ENCODERS
from mlrec.data.schema import Modality
from mlrec.data.stream import Data
from mlrec.evaluation.history_length import check_history_length
from mlrec.models.encoder_files import NOTHING, Restored, restored_from, save_encoder_files
from mlrec.models.lora import adapter_options, merge_adapters, names_with_adapters
from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint
from mlrec.runs.compatibility import check_same_data
from mlrec.runs.run import best_checkpoint, load_run

TRAINING_OPTIONS = ("tuning", "lora", "lr", "weight_decay", "projection", "dropout", "pooling")
"""Options of an encoder that change neither its architecture nor its input."""

ENCODER_PREFIX = "tower.encoders."
HEAD_PREFIX = "tower.heads."
WHITENING_TOLERANCE = 1e-3
"""Largest difference between two whitening statistics of the same features."""


@dataclass(frozen=True)
class WarmStart:
    """Weights that a run took over from another run's checkpoint."""

    checkpoint: Path
    loaded: frozenset[str]
    """Names of the tensors that were taken over."""
    total: int
    """Number of the model's tensors."""
    may_know_later: bool = False
    """Whether that run may have seen interactions that are later than this one's cut-offs."""

    def in_words(self) -> str:
        """Return what was taken over, in words after a semicolon."""
        words = f"; warm start with {len(self.loaded)} of {self.total} tensors of {self.checkpoint}"
        if self.may_know_later:
            words += ", trained on another data set, perhaps on interactions after this one's split"
        return words


def start_from(config: Config, data: Data, model: Recommender) -> WarmStart | None:
    """Load the best weights of the run train.start_from into the model, if it is set; collective.

    The weights after the encoders must be the same in both models. An encoder that replaces
    another one keeps its own weights.

    Raises:
        ValueError: it is no run with a checkpoint, its model differs in more than the encoders, or
            it knows items or users by the ids of another data set.
    """
    if not config.train.start_from:
        return None
    other = load_run(Path(config.train.start_from).expanduser())
    path = best_checkpoint(other)
    _check_encoder_order(other, config)
    # Weights of another recommender are refused below, for that reason.
    if config.recommender == other.recommender:
        check_history_length(config.recommender, data, path)

    # Whitening statistics are buffers: loading overwrites those that this run has computed.
    own_whitening = {}
    for name, buffer in model.named_buffers():
        if name.startswith(HEAD_PREFIX):
            own_whitening[name] = buffer.clone()
    loaded = checkpoint.take_weights(model, path, _weights_for(config, other, model, path))
    _check_only_encoders_differ(model, path, loaded)
    _check_same_whitening(model, path, own_whitening)
    # Only weights that belong to ids depend on the data set; content encoders do not.
    if _knows_ids(model, loaded):
        setting = "train.start_from: "
        check_same_data(path, data.info.fingerprint, data.url, config.resume.force, setting)

    # An encoder with loaded weights no longer starts from random ones.
    random_encoders = []
    for name in model.tower.random_encoders:
        prefix = _encoder_prefix(config.item.encoders.index(name))
        if not _is_any_under(loaded, prefix):
            random_encoders.append(name)
    model.tower.random_encoders = random_encoders
    # A split by time keeps later interactions out of training. Another packing may not.
    is_same_data = checkpoint.read_state(path).fingerprint == data.info.fingerprint
    may_know_later = data.info.split.kind == "time" and not is_same_data
    return WarmStart(path, frozenset(loaded), len(model.state_dict()), may_know_later)


def _weights_for(
    config: Config, other: Config, model: Recommender, path: Path
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of the other run's checkpoint by the names of this run's model.

    They differ where an encoder has adapters in only one of both, or others. Adapters of the other
    run are merged then, and those of this run start from zero.
    """
    tensors = checkpoint.read_tensors(path, checkpoint.WEIGHT)
    adapters = adapter_options(other.item)
    if adapters == adapter_options(config.item):
        return iter(tensors)
    return names_with_adapters(merge_adapters(tensors, adapters), model.state_dict())


def _encoder_prefix(place: int) -> str:
    """Return the beginning of the names of an encoder's tensors."""
    return f"{ENCODER_PREFIX}{place}."


def _is_any_under(names: set[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _check_encoder_order(other: Config, config: Config) -> None:
    """Check that encoders that both runs have are at the same place, which names their weights.

    Raises:
        ValueError: one is at another place.
    """
    for name in set(other.item.encoders) & set(config.item.encoders):
        before = other.item.encoders.index(name)
        now = config.item.encoders.index(name)
        if before != now:
            raise ValueError(
                f"train.start_from: {name} is number {now + 1} of item.encoders, and number "
                f"{before + 1} in {other.run_path}. "
                "Keep the order of that run, and put new encoders at the end"
            )


def _check_only_encoders_differ(model: Recommender, path: Path, loaded: set[str]) -> None:
    """Check that everything but encoders was loaded, and that the checkpoint has nothing more.

    Raises:
        ValueError: a tensor is only in the checkpoint or only in the model.
    """
    checkpoint_names = {weight.name for weight in checkpoint.read_shapes(path)}
    _check_all_loaded(checkpoint_names, loaded, f"{path} has", "this run's model lacks")
    model_names = set(model.state_dict())
    _check_all_loaded(model_names, loaded, "this run's model has", f"{path} lacks")


def _check_all_loaded(names: set[str], loaded: set[str], has: str, lacks: str) -> None:
    """Check that all tensors of these names were loaded, except those of encoders."""
    missing = [name for name in names - loaded if not name.startswith(ENCODER_PREFIX)]
    if missing:
        # One name is enough; the first by name, so that all ranks report the same.
        raise ValueError(
            f"train.start_from: {has} {min(missing)}, which {lacks}. Only encoders may differ. "
            "Use the same recommender, fusion, projection, whitening, pooling and side network in "
            "both runs"
        )


def _check_same_whitening(
    model: Recommender, path: Path, own_whitening: dict[str, torch.Tensor]
) -> None:
    """Check that the loaded whitening statistics equal those that this run has computed.

    Raises:
        ValueError: they differ.
    """
    for name in sorted(own_whitening):
        loaded = model.get_buffer(name)
        # Ranks and devices sum in other orders, so that equal statistics differ a little.
        if not torch.allclose(own_whitening[name], loaded, atol=WHITENING_TOLERANCE):
            raise ValueError(
                f"train.start_from: {path} has another {name}. "
                "Use the same whiten and the features of the same encoder in both runs"
            )


def _knows_ids(model: Recommender, loaded: set[str]) -> bool:
    """Return whether loaded weights belong to ids of items or users."""
    if model.sequence_model.knows_ids:
        return True
    for place, spec in enumerate(model.tower.specs):
        if spec.modality is Modality.ID and _is_any_under(loaded, _encoder_prefix(place)):
            return True
    return False


def encoders_to_restore(config: Config, resumed: Path | None) -> Restored:
    """Return the encoders whose weights come from a checkpoint.

    It is the run's own checkpoint, else that of train.start_from. From train.start_from come the
    encoders with the same options whose files that run has saved.

    Args:
        resumed: the checkpoint that the run resumes from, if it has one.
    """
    if resumed is not None:
        return restored_from(config.run_path, config.item.encoders)
    if not config.train.start_from:
        return NOTHING
    other = load_run(Path(config.train.start_from).expanduser())
    shared_encoders = []
    for name in config.item.encoders:
        if name in other.item.encoders and _has_same_architecture(name, config, other):
            shared_encoders.append(name)
    saved_folders = {}
    for name, folder in restored_from(other.run_path, shared_encoders).folders.items():
        # A run of an earlier version saved no files: its encoders are built as for a new run.
        if folder is not None:
            saved_folders[name] = folder
    return Restored(saved_folders)


def _has_same_architecture(encoder: str, config: Config, other: Config) -> bool:
    """Return whether an encoder has the same architecture and input in both runs."""
    return _architecture_options(encoder, config) == _architecture_options(encoder, other)


def _architecture_options(encoder: str, config: Config) -> dict[str, object]:
    options = config.item.options.get(encoder, {})
    architecture: dict[str, object] = {}
    for key, value in options.items():
        if key not in TRAINING_OPTIONS:
            architecture[key] = value
    # These tunings rename the encoder's weights, so that another tuning's cannot be loaded.
    tuning = options.get("tuning") or config.item.tuning
    if tuning in ("side", "lora"):
        architecture["tuning"] = tuning
    return architecture


def keep_encoder_files(config: Config, model: Recommender, resumed: Path | None) -> None:
    """Save what rebuilds the run's encoders without their pretrained checkpoints.

    A resumed run has saved it before.
    """
    # A run of an earlier version has saved none: it does so when it is resumed.
    if resumed is None or not (config.run_path / ENCODERS).is_dir():
        save_encoder_files(config.run_path, model.tower)
