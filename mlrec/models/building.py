"""Build the model of a run for a data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from mlrec.config import Config
from mlrec.data.features.join import ItemIds
from mlrec.data.features.stored import stored_features
from mlrec.data.schema import Modality, lookup
from mlrec.data.stream import Data
from mlrec.models.encoder_files import NOTHING, Restored
from mlrec.models.losses import LOSSES
from mlrec.models.recommender import Loss, Recommender
from mlrec.models.recommenders import build_user_model, check_recommender
from mlrec.models.tower import ItemTower
from mlrec.runtime.devices import Precision

_USERS_PER_READ = 1 << 16
"""Users whose training sequences are read at a time."""


def training_precision(config: Config) -> Precision:
    """Return the precision of training, which entry points resolve before anything is built."""
    precision = config.train.precision
    assert precision != "auto", "call resolve_precision first"
    return precision


def training_dtype(config: Config) -> torch.dtype:
    """Return the dtype of the model's weights and activations in training."""
    return torch.bfloat16 if training_precision(config) == "bf16" else torch.float32


def as_trained(model: nn.Module, config: Config, device: torch.device) -> None:
    """Move a model to the device as DeepSpeed does: only parameters change their dtype."""
    model.to(device)
    for parameter in model.parameters():
        # buffers, such as statistics and tables of features, stay in fp32
        parameter.data = parameter.data.to(training_dtype(config))


def build_model(config: Config, data: Data, rank: int, restored: Restored = NOTHING) -> Recommender:
    """Build the model of a run, with the same initial weights on every rank.

    Args:
        restored: encoders that need no pretrained weights, because those of a run's checkpoint are
            loaded next.

    Raises:
        ValueError: a row is unknown or an option does not fit.
    """
    # the same generator state on every rank, before any module draws its weights
    torch.manual_seed(config.seed)
    loss = lookup(LOSSES, config.loss.name, "loss")(config.loss, config.seed)
    model = build_recommender(
        config,
        loss,
        data.catalogue.size,
        data.info.split.history_length,
        rank,
        restored,
        item_ids(data),
    )
    # graphs and counts come from the training sequences; sequence models ignore them
    model.sequence_model.fit(_training_sequences(data), data.catalogue.size)
    return model


def build_recommender(
    config: Config,
    loss: Loss,
    catalogue_size: int,
    history_length: int,
    rank: int,
    restored: Restored = NOTHING,
    items: ItemIds | None = None,
) -> Recommender:
    """Build the model of a configuration on the CPU, with weights drawn from torch's generator.

    Args:
        restored: as in ItemTower.
        items: as in ItemTower.

    Raises:
        ValueError: an encoder, fusion or recommender is unknown or of another class, an option does
            not fit, or each step would encode the whole catalogue with trained encoders of media.
    """
    check_recommender(config.recommender)
    tower = ItemTower(config.item, config.recommender.width, catalogue_size, restored, items)
    sequence_model = build_user_model(config.recommender, history_length)
    recommender = Recommender(
        tower, sequence_model, loss, config.loss.temperature, rank, config.seed
    )
    # a recommender that only counts has no use for vectors
    if not sequence_model.trained:
        tower.requires_grad_(False)
    if recommender.whole_catalogue:
        _check_encoders_are_light(tower, config)
    return recommender


def _check_encoders_are_light(tower: ItemTower, config: Config) -> None:
    """Check that no encoder of media is trained.

    Raises:
        ValueError: one is.
    """
    for name, encoder, spec in zip(config.item.encoders, tower.encoders, tower.specs, strict=True):
        trained = any(parameter.requires_grad for parameter in encoder.parameters())
        if trained and spec.modality is not Modality.ID:
            raise ValueError(
                f"recommender.name={config.recommender.name} with loss.name={config.loss.name} "
                "needs the vectors of the whole catalogue in every step, and item.encoders trains "
                f"{name}. Encode ids or frozen features, or choose a sequence recommender with an "
                "in-batch loss"
            )


def item_ids(data: Data) -> ItemIds:
    """Return the data set's items as features know them."""
    # a raw id that is null matches no feature: items that the packer could not read need none
    raw_ids_N = data.catalogue.table["raw_id"].combine_chunks()
    is_ok_N = pa.array(data.catalogue.ok_N1[1:])
    usable_N = pc.if_else(is_ok_N, raw_ids_N, None)
    left_out = raw_ids_N.filter(pc.invert(is_ok_N))
    features = stored_features(data.info.media, data.catalogue, data.store)
    return ItemIds(usable_N, data.info.name, data.info.fingerprint, left_out, features)


def _training_sequences(data: Data) -> Iterator[torch.Tensor]:
    """Yield all users' training sequences, a block of users at a time."""
    num_users = data.sequences.num_users
    for start in range(0, num_users, _USERS_PER_READ):
        users = np.arange(start, min(num_users, start + _USERS_PER_READ))
        yield torch.from_numpy(data.sequences.train(users))
