"""What an extraction of features accepts, the place that it writes to, and its reports."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mlrec import storage
from mlrec.config import Config
from mlrec.config.run_files import FAILURES_FILE
from mlrec.data.features.blocks import BLOCK_FILES, WORK_FOLDER
from mlrec.data.features.files import verify_features
from mlrec.data.features.info import (
    INFO_FILE,
    RAW_IDS_FILE,
    TABLE_FILE,
    VECTORS_FILE,
    FeaturesInfo,
)
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.stream import Data
from mlrec.evaluation.stage_vectors import StageOptions
from mlrec.models.encoders import Encoder
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import World
from mlrec.runtime.ending import Stopped
from mlrec.runtime.progress import Task
from mlrec.runtime.terminal import say
from mlrec.storage.own_files import check_own_folder
from mlrec.storage.typed_json import STRICT, parse_json

log = logging.getLogger(__name__)

SETTINGS_FILE = "settings.json"
_COMMAND = "mlrec extract"
_FILES = (VECTORS_FILE, RAW_IDS_FILE, TABLE_FILE, INFO_FILE, FAILURES_FILE, WORK_FOLDER)
_REMEDY = "Choose another place, or remove it first"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class ExtractionSettings:
    """What decides the vectors; a stopped extraction only goes on with the same."""

    __pydantic_config__ = STRICT

    dataset: _Sha256
    """Fingerprint of the data set."""
    item: dict[str, Any]
    """The item section of the configuration."""
    seed: int
    precision: str
    weights: _Sha256
    """SHA-256 of the encoder's weights."""
    stages: str = ""
    """As in StageOptions."""
    pca: Annotated[int, Field(ge=0)] = 0
    """As in StageOptions."""
    decoded_on_device: bool = False
    """Whether JPEGs are decoded on the device, which gives slightly other pixels."""

    def to_bytes(self) -> bytes:
        """Return settings.json."""
        tree = asdict(self)
        # left out at their defaults, so that the digest is that of earlier versions
        for key in ("stages", "pca", "decoded_on_device"):
            if not tree[key]:
                del tree[key]
        return (json.dumps(tree, indent=1, sort_keys=True) + "\n").encode()

    @property
    def digest(self) -> str:
        """SHA-256 of all of them."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def check_config(config: Config) -> None:
    """Check that a configuration has one encoder and no weights of a run.

    Raises:
        ValueError: it has others.
    """
    if len(config.item.encoders) != 1:
        raise ValueError(
            f"item.encoders is {list(config.item.encoders)}; name one. "
            "Features are extracted with one encoder at a time"
        )
    if config.train.start_from:
        raise ValueError(
            f"train.start_from={config.train.start_from} has no effect on mlrec extract, which "
            "reads the weights of encoders' checkpoints. Remove it. mlrec export --index writes "
            "the vectors of a run"
        )


def check_encodes_content(tower: ItemTower) -> None:
    """Check that the encoder encodes content.

    Raises:
        ValueError: it looks up ids.
    """
    if tower.specs[0].modality in (Modality.ID, Modality.FEATURES):
        raise ValueError(
            f"item.encoders is [{tower.names[0]}], which looks vectors up and "
            "encodes no content, so there are no features to extract. Name an encoder of videos, "
            "images, titles or audio; see: mlrec list encoders"
        )


def settings_of(
    config: Config, data: Data, encoder: Encoder, spec: InputSpec, options: StageOptions
) -> ExtractionSettings:
    """Return the settings of an extraction by this encoder, with its input as delivered."""
    item = asdict(config.item)
    # of training only
    for key in ("checkpoint", "inter_modal"):
        del item[key]
    return ExtractionSettings(
        dataset=data.info.fingerprint,
        item=json.loads(json.dumps(item)),
        seed=config.seed,
        precision=config.train.precision,
        weights=_weights_sha256(encoder),
        stages=options.stages,
        pca=options.pca or 0,
        decoded_on_device=spec.jpegs is not None,
    )


def _weights_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of names, types, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    # Buffers outside the state_dict count too, because the vectors depend on them.
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # As flat bytes: numpy has no bfloat16, and torch cannot view a scalar as another size.
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings_path(out: str) -> str:
    return storage.join(out, WORK_FOLDER, SETTINGS_FILE)


def claim(out: str, settings: ExtractionSettings) -> None:
    """Write what the features in `out` are going to be of."""
    storage.write_bytes(_settings_path(out), settings.to_bytes())


def check_is_place(out: str) -> None:
    """Refuse a place for features that holds anything but what an extraction wrote.

    Raises:
        ValueError: it does.
    """
    # Written before the first block and never removed, so it marks the place as an extraction's.
    is_claimed = storage.exists(_settings_path(out))
    check_own_folder(out, _COMMAND, _FILES, lambda: is_claimed)
    check_own_folder(
        storage.join(out, WORK_FOLDER), _COMMAND, (SETTINGS_FILE, BLOCK_FILES), lambda: is_claimed
    )


def check_same_settings(out: str, settings: ExtractionSettings) -> None:
    """Refuse a place that was claimed by another extraction.

    Raises:
        ValueError: its settings are others, or damaged.
    """
    where = _settings_path(out)
    if not storage.exists(where):
        return
    recorded = parse_json(storage.read_bytes(where), ExtractionSettings, where, _REMEDY)
    changed = [key for key, value in asdict(settings).items() if getattr(recorded, key) != value]
    if changed:
        raise ValueError(
            f"{out} holds features of another extraction ({', '.join(changed)} changed). {_REMEDY}"
        )


def complete_features(out: str) -> FeaturesInfo | None:
    """Return the description of complete features at `out`, or None.

    The features.json of damaged ones is removed, so that nobody reads them.

    Raises:
        OSError: storage cannot tell.
    """
    if not storage.exists(storage.join(out, INFO_FILE)):
        return None
    try:
        return verify_features(out)
    except ValueError as error:
        # A storage error is not damage, and must not cost complete features their features.json.
        if isinstance(error.__cause__, OSError) and not isinstance(
            error.__cause__, FileNotFoundError
        ):
            raise error.__cause__ from error
        log.warning("%s The items are encoded again", error)
        storage.remove(storage.join(out, INFO_FILE))
        return None


def write_failures(out: str, items: np.ndarray, reasons: Sequence[str | None]) -> int:
    """Write the items without a vector to failures.jsonl, and return their number.

    Args:
        items: int64 [n].
        reasons: why each item has no vector; None for an item that has one.
    """
    failures = []
    for item, reason in zip(items.tolist(), reasons, strict=True):
        if reason is not None:
            failures.append(json.dumps({"item": item, "reason": reason}) + "\n")
    storage.write_bytes(storage.join(out, FAILURES_FILE), "".join(failures).encode())
    return len(failures)


def check_failures(out: str, count: int, total: int, most: int) -> None:
    """Warn of failed items.

    Args:
        count: number of failed items, of `total` in all.
        most: data.max_bad_items.

    Raises:
        RuntimeError: more than `most` failed, or all.
    """
    ledger = storage.join(out, FAILURES_FILE)
    if count > most or count == total:
        raise RuntimeError(
            f"no features are written: {count:,} of {total:,} items failed, data.max_bad_items is "
            f"{most}. {ledger} has the reasons; the same command tries these items again"
        )
    if count:
        log.warning(
            "%d of %d items have no features; %s has the reasons. A run on these features needs "
            "all items: repair the data set and extract again",
            count,
            total,
            ledger,
        )


@contextlib.contextmanager
def reporting_a_stop(out: str, num_items: int, world: World) -> Iterator[Task]:
    """Say on rank 0 how many items are saved if a signal stops the block.

    Yields:
        Counter of the saved items, which the block advances.
    """
    saved = Task(num_items)
    try:
        yield saved
    except (KeyboardInterrupt, Stopped):
        if world.is_main:
            # what other ranks have saved since the start is unknown here
            count = f"{'at least ' if world.size > 1 else ''}{saved.done:,.0f}"
            say(
                f"stopped: {count} of {num_items:,} items are saved in {out}; "
                "run the same command again to resume",
                error=True,
                flush=True,
            )
        raise
