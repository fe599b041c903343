"""The cost of a run's model, from the shapes of its weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch

from mlrec.config import Config
from mlrec.data.schema import Modality, lookup
from mlrec.models.building import build_recommender, training_dtype
from mlrec.models.encoder_files import Restored
from mlrec.models.encoders.id import IdEmbedding
from mlrec.models.losses import LOSSES
from mlrec.models.pass_cost import NO_WORK, PassCost, Rates
from mlrec.models.prefix import leaves_of_prefix
from mlrec.models.recommender import Recommender
from mlrec.models.recommender_simulation import batch_of, drawn_slots, simulate_recommender
from mlrec.models.simulation import as_trained_without_values, media_without_values, tower_cost
from mlrec.models.skeleton import skeletons
from mlrec.models.tower import ItemTower
from mlrec.models.trial import needs_values
from mlrec.train.forecast import ModelCost
from mlrec.train.forecaster import Forecaster
from mlrec.train.large_tables import find_tables
from mlrec.train.workload import DatasetCounts, Workload

SHAPES = Restored({}, weights="none")
MAX_FITTED_USERS = 1 << 20
"""Most users of made-up sequences that a graph is built of."""


def build_shapes(config: Config, counts: DatasetCounts) -> Recommender:
    """Build the model of a run with the shapes of its weights, but without the weights.

    Raises:
        ValueError: as in build_recommender, or shapes are unknown without a checkpoint.
    """
    loss = lookup(LOSSES, config.loss.name, "loss")(config.loss, config.seed)
    history_length = counts.split.history_length
    with skeletons():
        model = build_recommender(
            config, loss, counts.items, history_length, 0, SHAPES, counts.item_ids()
        )
    if model.sequence_model.whole_catalogue:
        _fit(model, counts)
    return model


def _fit(model: Recommender, counts: DatasetCounts) -> None:
    """Give a graph model made-up interactions, as many as the data set has.

    Raises:
        ValueError: they are too many.
    """
    if counts.users > MAX_FITTED_USERS:
        raise ValueError(
            f"a graph of {counts.users:,} users cannot be planned, at most {MAX_FITTED_USERS:,}. "
            "Choose a sequence recommender"
        )
    rng = np.random.default_rng(0)
    slots_BT = drawn_slots(
        rng, counts.users, counts.split.train_length, counts.mean_length, np.ones(counts.items)
    )
    model.sequence_model.fit(iter([torch.from_numpy(1 + slots_BT)]), counts.items)


def cost_of(model: Recommender, config: Config) -> ModelCost:
    """Return the parameters of a model, and the cost of encoding its items."""
    tables = find_tables(model, config)
    tower = model.tower
    return ModelCost(
        total=sum(parameter.numel() for parameter in model.parameters()),
        trained=_trained(model),
        trained_in_tower=_trained(tower),
        in_tables=sum(table.embedding.weight.numel() for table in tables.values()),
        largest=max((p.numel() for p in _outside(model, tables)), default=0),
        table_width=sum(table.width for table in tables.values()),
        tower=tower_cost(tower, training_dtype(config), tuple(tables.values())),
        trains_tower=tower.trained,
        cached_item_bytes=_cached_item_bytes(tower, config),
    )


def _outside(model: Recommender, tables: Mapping[str, IdEmbedding]) -> Iterator[torch.nn.Parameter]:
    for name, parameter in model.named_parameters():
        if name not in tables:
            yield parameter


def _trained(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _cached_item_bytes(tower: ItemTower, config: Config) -> float:
    """Return the size of the frozen stages' activations of an item; 0 if none can be cached."""
    if config.item.prefix_cache_bytes <= 0:
        return 0.0
    item_bytes = 0.0
    width = training_dtype(config).itemsize
    for encoder, spec in zip(tower.encoders, tower.specs, strict=True):
        all_trained = all(parameter.requires_grad for parameter in encoder.parameters())
        if all_trained or spec.modality is Modality.ID:
            continue
        copied = as_trained_without_values(encoder, torch.float32).eval()
        for leaf in leaves_of_prefix(copied, media_without_values(spec, 2)):
            size = width if leaf.dtype.is_floating_point else leaf.dtype.itemsize
            item_bytes += size * leaf.rows * math.prod(leaf.shape)
    return item_bytes


def recommender_cost(
    model: Recommender, config: Config, counts: DatasetCounts, workload: Workload, ranks: int
) -> PassCost:
    """Return the cost of a rank's recommender and loss, for its share of the largest step's users.

    A recommender whose operations need values, such as products with a graph's sparse matrix, has
    the memory of holding the vectors of all items and users three times, forward and backward. Its
    arithmetic is unknown.
    """
    if not model.sequence_model.trained:
        return PassCost(workload.most_items, NO_WORK, NO_WORK, NO_WORK, 0, 0)
    users = -(-workload.users_per_step // ranks)
    rng = np.random.default_rng(0)
    shares_U = np.ones(workload.most_items)
    slots_BT = drawn_slots(rng, int(users), counts.split.train_length, counts.mean_length, shares_U)
    batch = batch_of(slots_BT, workload.most_items)
    dtype = training_dtype(config)
    try:
        return simulate_recommender(model, batch, config.recommender.width, dtype)
    except (NotImplementedError, RuntimeError) as error:
        if not needs_values(error):
            raise
        nodes = workload.most_items + counts.users
        held = 6 * nodes * config.recommender.width * dtype.itemsize
        return PassCost(
            workload.most_items, NO_WORK, NO_WORK, NO_WORK, held // 2, held, counts_work=False
        )


def forecaster_of(
    model: Recommender,
    config: Config,
    counts: DatasetCounts,
    workload: Workload,
    nominal_rates: Rates,
) -> Forecaster:
    """Return the forecaster of a model's runs.

    Args:
        nominal_rates: by which item.chunk=auto chooses.
    """

    @cache
    def recommender(ranks: int) -> PassCost:
        return recommender_cost(model, config, counts, workload, ranks)

    return Forecaster(
        cost=cost_of(model, config),
        recommender=recommender,
        workload=workload,
        specs=model.tower.specs,
        media=counts.media,
        nominal_rates=nominal_rates,
        users=counts.users,
    )
