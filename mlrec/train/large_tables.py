"""Choose the tables of ids whose rows the ranks share (row_optimizers.py)."""

from __future__ import annotations

from mlrec.config import Config
from mlrec.models.encoders.id import IdEmbedding
from mlrec.models.recommender import Recommender
from mlrec.train.optim import encoder_rates

MIN_SHARDED_WEIGHTS = 1 << 22
"""Number of weights from which a table of ids is sharded; DeepSpeed updates smaller ones.

Each chunk of items has a gradient of a whole table. With item.chunk=32, a step of 512 users on a
CPU takes 2.5 times as long at this size, and 14 times at the double. In one chunk it takes as long
as with a sharded table at both sizes, and 2.8 times as long at 70 million weights.
"""


def find_tables(model: Recommender, config: Config) -> dict[str, IdEmbedding]:
    """Return the encoders whose table is sharded, by the name of its weight in the model.

    A table stays whole if every step has all items, if nothing else is trained, which leaves
    DeepSpeed without a parameter, or if MissedUpdates would be inexact: with beta1 near beta2, or
    with a weight decay that changes the sign of a weight in an update.
    """
    beta1, beta2 = config.optim.betas
    if model.whole_catalogue or beta1 >= beta2**1.5:
        return {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tables = {}
    for place, encoder in enumerate(model.tower.encoders):
        if isinstance(encoder, IdEmbedding):
            weight = encoder.embedding.weight
            _, rates = encoder_rates(place, encoder, config.optim)
            is_large = weight.requires_grad and weight.numel() >= MIN_SHARDED_WEIGHTS
            if is_large and rates.lr * rates.weight_decay <= 1:
                tables[names[id(weight)]] = encoder
    num_trained = sum(parameter.requires_grad for parameter in model.parameters())
    return tables if num_trained > len(tables) else {}
