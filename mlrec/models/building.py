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
from mlrec.data.schema import lookup
from mlrec.data.stream import Data
from mlrec.models.encoder_files import NOTHING, Restored
from mlrec.models.losses import LOSSES
from mlrec.models.recommender import Recommender, build_recommender

_USERS_PER_READ = 1 << 16
"""Users whose training sequences are read at a time."""


def training_dtype(config: Config) -> torch.dtype:
    """Return the dtype of the model's weights and activations in training."""
    return torch.bfloat16 if config.train.precision == "bf16" else torch.float32


def as_trained(model: nn.Module, config: Config, device: torch.device) -> None:
    """Move a model to the device as DeepSpeed does: only parameters change their dtype."""
    model.to(device)
    for parameter in model.parameters():
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
    model.sequence_model.fit(_training_sequences(data), data.catalogue.size)
    return model


def item_ids(data: Data) -> ItemIds:
    """Return the data set's items as features know them."""
    # a raw id that is null matches no feature: items that the packer could not read need none
    raw_ids_N = data.catalogue.table["raw_id"].combine_chunks()
    usable_N = pc.if_else(pa.array(data.catalogue.ok_N1[1:]), raw_ids_N, None)
    return ItemIds(usable_N, data.info.name, data.info.fingerprint)


def _training_sequences(data: Data) -> Iterator[torch.Tensor]:
    """Yield all users' training sequences, a block of users at a time."""
    num_users = data.sequences.num_users
    for start in range(0, num_users, _USERS_PER_READ):
        users = np.arange(start, min(num_users, start + _USERS_PER_READ))
        yield torch.from_numpy(data.sequences.train(users))
