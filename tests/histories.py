"""States of a recommender at every position of users' histories."""

import torch

from mlrec.models.recommenders import History, SequenceModel, UserModel, Vectors


def all_states(model: UserModel, vectors: Vectors, items_BL: torch.Tensor) -> torch.Tensor:
    """Return the states [B, L, X], at padding too."""
    slots = model.slots(items_BL, torch.arange(items_BL.numel()))
    states = model.states(vectors, torch.arange(len(items_BL)), slots)
    return states.view(*items_BL.shape, -1)


def states_of(
    model: SequenceModel, history_BLD: torch.Tensor, mask_BL: torch.Tensor
) -> torch.Tensor:
    """Return the states [B, L, X] after the model's own forward, at padding too."""
    items_BL = torch.where(mask_BL, torch.arange(mask_BL.numel()).view(mask_BL.shape), -1)
    slots = model.slots(items_BL, torch.arange(items_BL.numel()))
    return model(History(history_BLD.flatten(0, 1), slots)).view(*mask_BL.shape, -1)
