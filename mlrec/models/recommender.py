"""The whole model: item tower, exchange, recommender, loss."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlrec.config import Config
from mlrec.data.features.files import ItemIds
from mlrec.data.schema import Batch, Modality, Scored
from mlrec.models.dropout import RowKind, drawing, dropouts_of, row_keys
from mlrec.models.encoder_files import NOTHING, Restored
from mlrec.models.recommenders import (
    UserModel,
    Vectors,
    build_user_model,
    check_recommender,
    readable_slots,
)
from mlrec.models.tower import ItemTower
from mlrec.runtime.distributed import exchange, gather, shares

SCORES = 1 << 22
"""Scores of a rank held at a time; with more of them the loss is computed in parts, whose scores are made again backward."""


class Loss(Protocol):
    """The training objective."""

    whole_catalogue: bool
    """Whether it compares with all items, not only with the global batch's."""

    def __call__(self, scored: Scored) -> torch.Tensor:
        """Losses [P] of the positions."""


class Recommender(nn.Module):
    """Encodes the rank's own items, exchanges the vectors, and scores its users' positions against all of them."""

    def __init__(
        self,
        tower: ItemTower,
        sequence_model: UserModel,
        loss: Loss,
        temperature: float,
        rank: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.tower, self.sequence_model = tower, sequence_model
        self.loss, self.temperature, self.rank, self.seed = loss, temperature, rank, seed
        self._dropouts = dropouts_of(sequence_model)
        self.whole_catalogue = sequence_model.whole_catalogue or loss.whole_catalogue
        """Whether a step's items are all of the catalogue."""

    def forward(self, batch: Batch) -> torch.Tensor:
        """This rank's loss, scaled so that its mean over the ranks is the mean over all targets of the global batch."""
        # what the host must know comes first: asked for behind the encoding, the device would be idle before loss and backward
        valid_U = (
            gather(
                batch.valid_O.to(batch.items_U.device, non_blocking=True).float(),
                batch.owned_W,
            )
            > 0
        )
        users_P, places_P = torch.nonzero(
            (batch.targets_BL >= 0) & valid_U[batch.targets_BL], as_tuple=True
        )
        # a global batch whose items were all unreadable has no target: its loss is 0, not 0 / 0
        targets = (batch.targets_U * valid_U).sum().clamp(min=1)
        world = len(batch.owned_W)
        # the same number on every rank: under ZeRO-3 all of them must call a scoring network equally often
        parts = max(1, -(-int(targets) * len(valid_U) // (world * SCORES)))
        sizes = list(shares(len(users_P), parts))

        own_OD = self._encode(batch)
        items_UD = exchange(own_OD, batch.owned_W, self.rank)
        with self._drawing(lambda: self._item_keys(batch)):
            vectors = self.prepare(batch.items_U, items_UD, valid_U)
        slots_BL = readable_slots(batch.inputs_BL, valid_U)
        with self._drawing(lambda: self._position_keys(batch)):
            states_BLD = self.sequence_model.states(vectors, batch.users_B, slots_BL)
        target_P = batch.targets_BL[users_P, places_P]
        key_P = batch.users_B[users_P] * batch.targets_BL.shape[1] + places_P
        total = target_P.new_zeros((), dtype=torch.float32)
        positions = (users_P, states_BLD[users_P, places_P], target_P, key_P)
        for columns in zip(*(torch.split(column, sizes) for column in positions), strict=True):
            part = partial(self._loss, batch, valid_U, vectors.items_UX)
            total = total + (
                checkpoint(part, *columns, use_reentrant=False) if parts > 1 else part(*columns)
            )
        return total * (world / targets)

    def _loss(
        self,
        batch: Batch,
        valid_U: torch.Tensor,
        items_UX: torch.Tensor,
        users_P: torch.Tensor,
        states_PX: torch.Tensor,
        target_P: torch.Tensor,
        key_P: torch.Tensor,
    ) -> torch.Tensor:
        """The sum of some positions' losses."""

        def scores(at_PK: torch.Tensor | None) -> torch.Tensor:
            items = (
                items_UX
                if at_PK is None
                else items_UX.index_select(0, at_PK.flatten()).view(*at_PK.shape, -1)
            )

            def pair_keys() -> torch.Tensor:
                keys_U = self._item_keys(batch)
                keys_P = row_keys(RowKind.POSITIONS, key_P, self.seed, batch.step)
                return keys_P[:, None] ^ (keys_U if at_PK is None else keys_U[at_PK])

            with self._drawing(pair_keys):
                return self.sequence_model.score(states_PX, items).float() / self.temperature

        own_PU = _own_items(batch, users_P)
        return self.loss(Scored(scores, target_P, own_PU, key_P, batch, valid_U)).sum()

    def _drawing(self, make_keys: Callable[[], torch.Tensor]) -> AbstractContextManager[None]:
        return drawing(self._dropouts, make_keys)

    def _item_keys(self, batch: Batch) -> torch.Tensor:
        """Return the keys [U] by which dropout draws for items in the recommender."""
        return row_keys(RowKind.ITEMS, batch.items_U, self.seed, batch.step)

    def _position_keys(self, batch: Batch) -> torch.Tensor:
        """Return the keys [B, L] by which dropout draws for positions of this rank's users."""
        length = batch.inputs_BL.shape[1]
        places_L = torch.arange(length, device=batch.users_B.device)
        ids_BL = batch.users_B[:, None] * length + places_L
        return row_keys(RowKind.POSITIONS, ids_BL, self.seed, batch.step)

    def _encode(self, batch: Batch) -> torch.Tensor:
        """Vectors [O, D] of this rank's items."""
        device = batch.items_U.device
        keys_O = row_keys(RowKind.TOWER_ITEMS, batch.items_O, self.seed, batch.step)
        if batch.cached_O is None:
            return self.tower.encode(batch.media, max(batch.owned_W), device, keys_O)
        return self.tower.encode_cached(
            batch.items_O,
            batch.media,
            batch.valid_O,
            batch.cached_O,
            add=True,
            device=device,
            keys_O=keys_O,
        )

    def prepare(
        self, ids_U: torch.Tensor, items_UD: torch.Tensor, valid_U: torch.Tensor
    ) -> Vectors:
        """The recommender's vectors of the items; what the tower made of an unreadable one is left out."""
        return self.sequence_model.prepare(ids_U, items_UD.masked_fill(~valid_U[:, None], 0.0))


def _own_items(batch: Batch, users_P: torch.Tensor) -> torch.Tensor:
    """bool [P, U]: the items of the training sequences of the users in these rows."""
    width = len(batch.items_U)
    slots = torch.cat([batch.inputs_BL, batch.targets_BL], dim=1)[users_P]
    own = torch.zeros(len(slots), width + 1, dtype=torch.bool, device=slots.device)
    return own.scatter_(1, torch.where(slots >= 0, slots, width), True)[:, :width]


def build_recommender(
    config: Config,
    loss: Loss,
    catalogue_size: int,
    history_length: int,
    rank: int,
    restored: Restored = NOTHING,
    items: ItemIds | None = None,
) -> Recommender:
    """The model of a configuration, on the CPU, with weights drawn from torch's generator.

    Args:
        restored, items: as of ItemTower.

    Raises:
        ValueError: an encoder, fusion or recommender is unknown or of another class, an option does not fit, or what is trained
            of the item tower is too much to encode the whole catalogue in each step.
    """
    check_recommender(config.recommender)
    tower = ItemTower(config.item, config.recommender.width, catalogue_size, restored, items)
    sequence_model = build_user_model(config.recommender, history_length)
    recommender = Recommender(
        tower, sequence_model, loss, config.loss.temperature, rank, config.seed
    )
    if not sequence_model.trained:
        tower.requires_grad_(False)
    if recommender.whole_catalogue:
        _check_light(tower, config)
    return recommender


def _check_light(tower: ItemTower, config: Config) -> None:
    for name, encoder, spec in zip(config.item.encoders, tower.encoders, tower.specs, strict=True):
        if spec.modality is not Modality.ID and any(
            parameter.requires_grad for parameter in encoder.parameters()
        ):
            raise ValueError(
                f"recommender.name={config.recommender.name} with loss.name={config.loss.name} needs the vectors of the whole "
                f"catalogue in every step, and item.encoders trains {name}: encode ids or frozen features, or choose a sequence "
                "recommender with an in-batch loss"
            )
