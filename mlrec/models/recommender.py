"""The whole model: item tower, exchange, sequence model, loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mlrec.config import Config
from mlrec.distributed import exchange, gather
from mlrec.models.sequence import RECOMMENDERS, SequenceModel
from mlrec.models.tower import ItemTower
from mlrec.schema import Batch, lookup

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Batch, torch.Tensor], torch.Tensor]
"""(scores_PU, target_P, own_PU, batch, valid_U) to the losses [P] of the P positions that have a target."""


class Recommender(nn.Module):
    """Encodes the rank's own items, exchanges the vectors, and scores its users' positions against all of them."""

    def __init__(self, tower: ItemTower, sequence_model: SequenceModel, loss: Loss, temperature: float, rank: int) -> None:
        super().__init__()
        self.tower, self.sequence_model = tower, sequence_model
        self.loss, self.temperature, self.rank = loss, temperature, rank

    def forward(self, batch: Batch) -> torch.Tensor:
        """This rank's loss, scaled so that its mean over the ranks is the mean over all targets of the global batch."""
        valid_U = gather(batch.valid_O.float(), batch.owned_W) > 0
        own_OD = self.tower.encode(batch.media, most=max(batch.owned_W))
        items_UD = exchange(own_OD, batch.owned_W, self.rank)
        history_BLD, mask_BL = select_history(items_UD, batch.inputs_BL, valid_U)
        states_BLD = self.sequence_model(history_BLD, mask_BL)

        users_P, places_P = torch.nonzero((batch.targets_BL >= 0) & valid_U[batch.targets_BL], as_tuple=True)
        target_P = batch.targets_BL[users_P, places_P]
        scores_PU = self.sequence_model.score(states_BLD[users_P, places_P], items_UD).float() / self.temperature
        losses_P = self.loss(scores_PU, target_P, _own_items(batch)[users_P], batch, valid_U)
        # a global batch whose items were all unreadable has no target: its loss is 0, not 0 / 0
        targets = (batch.targets_U * valid_U).sum().clamp(min=1)
        return losses_P.sum() * (len(batch.owned_W) / targets)

    def last_states(self, history_BLD: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """The state [B, D] after each user's newest item, for ranking."""
        states: torch.Tensor = self.sequence_model(history_BLD, mask_BL)[:, -1]
        return states

    def score(self, states_BD: torch.Tensor, items_ND: torch.Tensor) -> torch.Tensor:
        """Scores [B, N] of the catalogue."""
        return self.sequence_model.score(states_BD, items_ND)


def select_history(items_UD: torch.Tensor, slots_BL: torch.Tensor, valid_U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the histories [B, L, D], zeros where there is no readable item, and the mask [B, L] of real ones."""
    mask_BL = (slots_BL >= 0) & valid_U[slots_BL.clamp(min=0)]
    # index_select has a deterministic backward that adds up an item's gradients over all its occurrences
    picked = items_UD.index_select(0, slots_BL.clamp(min=0).flatten()).view(*slots_BL.shape, -1)
    return picked * mask_BL[..., None], mask_BL


def _own_items(batch: Batch) -> torch.Tensor:
    """bool [B, U]: the items of each user's own training sequence."""
    width = len(batch.items_U)
    slots = torch.cat([batch.inputs_BL, batch.targets_BL], dim=1)
    own = torch.zeros(len(slots), width + 1, dtype=torch.bool, device=slots.device)
    return own.scatter_(1, torch.where(slots >= 0, slots, width), True)[:, :width]


def build_recommender(config: Config, loss: Loss, catalogue_size: int, history_length: int, rank: int) -> Recommender:
    """The model of a configuration, on the CPU, with weights drawn from torch's generator.

    Raises:
        ValueError: an encoder, fusion or recommender is unknown, or an option does not fit.
    """
    row = lookup(RECOMMENDERS, config.recommender.name, "recommender")
    tower = ItemTower(config.item, config.recommender.width, catalogue_size)
    try:
        sequence_model = row(config.recommender.width, history_length, **config.recommender.options)
    except TypeError as error:
        raise ValueError(f"recommender.options of {config.recommender.name}: {error}") from error
    return Recommender(tower, sequence_model, loss, config.loss.temperature, rank)
