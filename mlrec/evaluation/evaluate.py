"""Full ranking: every user's target against the whole catalogue, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from mlrec.config import Config
from mlrec.config.metric_names import metric_names
from mlrec.data.catalogue_pass import Chunk, pass_of_rank, ranked_items, stream_catalogue
from mlrec.data.format import Split
from mlrec.data.plan import shuffled
from mlrec.data.stream import Data
from mlrec.evaluation.examples import recommend_some
from mlrec.evaluation.metrics import summarize, user_metrics
from mlrec.evaluation.ranking import RankCounts, Ranking, TargetCounts
from mlrec.evaluation.results import Summary, TargetRanks
from mlrec.models.recommender import Recommender
from mlrec.runs.recommendations import Recommended
from mlrec.runtime.distributed import World, gather, gather_objects, shares
from mlrec.runtime.progress import track

SAMPLE_KEY = (1 << 32) - 1
"""Place of the order of sampled users among a seed's orders, which no epoch reaches."""


@dataclass(frozen=True)
class EncodedCatalogue:
    """The vectors of all ranked items, the same on every rank, and this rank's account of them.

    Row n of both tensors belongs to item n of `ranked_items`.
    """

    items_ND: torch.Tensor
    """Item vectors, float32."""
    readable_N: torch.Tensor
    """Whether each item could be read, bool; unreadable ones are not recommended."""
    bad_items: dict[int, str]
    """Unreadable items of this rank's share, with the reason."""
    remote_bytes: int
    """Bytes that this rank requested over the network."""


@dataclass(frozen=True)
class Evaluation:
    """The result of a full ranking, the same on every rank except for `recommended`."""

    metrics: Summary
    baselines: dict[str, Summary]
    """Metrics of ranking by popularity and by chance."""
    bad_items: dict[int, str]
    """Unreadable items of the catalogue, with the reason."""
    remote_bytes: int
    """Bytes that all ranks requested over the network."""
    ranks: TargetRanks
    """The rank of every target by the model's scores, in the order of `evaluated_users`."""
    catalogue_size: int
    """Number of ranked items."""
    is_sample: bool
    """Whether the users are a sample of the split's."""
    recommended: Recommended | None = None
    """Recommendations to some users, on rank 0; None on other ranks and if not requested."""


class _ReadReport(NamedTuple):
    """What all ranks met while they read the catalogue."""

    bad_items: dict[int, str]
    remote_bytes: int


@torch.no_grad()
def encode_catalogue(
    model: Recommender, data: Data, config: Config, world: World
) -> EncodedCatalogue:
    """Encode all ranked items, in the order of `ranked_items`; collective.

    Every rank encodes its share of the items. Two all-gathers then give every rank all of them.
    """
    # The split of training, so that a rank encodes the items whose activations it has cached.
    owned_W = data.owners(config.train.global_batch, world.nodes).split(ranked_items(data))
    cache = model.tower.activation_cache
    cached_items = cache.items if cache else None
    share = pass_of_rank(
        data, model.tower.specs, model.tower.chunk, world.rank, owned_W, cached_items
    )
    vectors_OD = torch.zeros(len(share.items), config.recommender.width, device=world.device)
    readable_O = torch.zeros(len(share.items), dtype=torch.int64)
    bad_items: dict[int, str] = {}
    remote_bytes = 0
    pin_memory = world.device.type == "cuda"
    chunks = stream_catalogue(share, config.data.num_workers, pin_memory=pin_memory)
    # Every rank encodes the same number of chunks, as a partitioned model gathers its weights
    # on all ranks in each forward pass. A rank with few items gets empty chunks.
    for chunk in track(chunks, "encoding items", len(share.items), amount=_items_in):
        # Chunks come in any order when several workers make them.
        rows = slice(chunk.start, chunk.start + _items_in(chunk))
        vectors_OD[rows] = _encode_chunk(model, chunk, share.items[rows], world.device)
        readable_O[rows] = chunk.valid_n
        bad_items.update(chunk.bad_items)
        remote_bytes += chunk.remote_bytes
    items_ND = gather(vectors_OD, owned_W)
    readable_N = gather(readable_O.to(world.device), owned_W) > 0
    return EncodedCatalogue(items_ND, readable_N, bad_items, remote_bytes)


def _items_in(chunk: Chunk) -> int:
    return len(chunk.valid_n)


def _encode_chunk(
    model: Recommender, chunk: Chunk, items_n: np.ndarray, device: torch.device
) -> torch.Tensor:
    """Return the vectors of a chunk's items, float32 [n, D]."""
    tower = model.tower
    if tower.activation_cache is None:
        return tower.encode(chunk.media, most=1, device=device).float()
    # add=False: the pass settled at its start which items are cached, and reads inputs by that.
    vectors_nD = tower.encode_cached(
        torch.from_numpy(items_n),
        chunk.media,
        chunk.valid_n,
        chunk.cached_n,
        add=False,
        device=device,
    )
    return vectors_nD.float()


@torch.no_grad()
def evaluate(
    model: Recommender,
    data: Data,
    config: Config,
    world: World,
    split: Split,
    recommend: bool = False,
    sampled: bool = False,
) -> Evaluation:
    """Rank the target of every user who has one in the split; collective.

    Items of the user's history are excluded from the ranking. The model may be a plain one or
    one that DeepSpeed has partitioned.

    Args:
        recommend: whether rank 0 also recommends to some users; for a plain model only.
        sampled: whether evaluate.users limits the number of users.
    """
    was_training = model.training
    model.eval()
    # Every rank encodes its items, then ranks its users against the whole catalogue.
    catalogue = encode_catalogue(model, data, config, world)
    ranking = Ranking(model, data, catalogue.items_ND, catalogue.readable_N)
    users_V = data.sequences.evaluated_users(split)
    num_users = len(users_V)
    if sampled:
        users_V = sample_users(users_V, config)
    counts = _rank_users(ranking, users_V, config.evaluate.user_chunk, world, split)
    recommended = None
    if recommend and world.is_main:
        # Rank 0 alone: a plain model needs no other rank.
        recommended = recommend_some(ranking, users_V, split, config.evaluate.user_chunk)
    model.train(was_training)
    # From here every rank summarizes the same counts, so that all ranks agree on the metrics.
    popularity_V = data.catalogue.popularity_N1[data.sequences.target(users_V, split)]
    catalogue_size = len(catalogue.items_ND)
    names = metric_names(config.evaluate.cutoffs)
    summarized = partial(
        _summarize, catalogue_size=catalogue_size, popularity_V=popularity_V, names=names
    )
    baselines = {
        "popularity": summarized(counts.by_popularity),
        "chance": summarized(counts.by_chance),
    }
    report = _gather_report(catalogue)
    return Evaluation(
        metrics=summarized(counts.by_model),
        baselines=baselines,
        bad_items=report.bad_items,
        remote_bytes=report.remote_bytes,
        ranks=_as_ranks(counts.by_model)._replace(popularity_B=popularity_V),
        catalogue_size=catalogue_size,
        is_sample=len(users_V) < num_users,
        recommended=recommended,
    )


def sample_users(users_V: np.ndarray, config: Config) -> np.ndarray:
    """Return the users of evaluate.users, ascending: all, or a sample drawn by the seed.

    The sample depends on the seed and the users alone, so it is the same on every rank, for every
    number of ranks, and after a resume.
    """
    count = config.evaluate.users
    if not 0 < count < len(users_V):
        return users_V
    key = (config.seed << 32) + SAMPLE_KEY
    places = shuffled(np.arange(count), len(users_V), key)
    sampled_V: np.ndarray = users_V[np.sort(places)]
    return sampled_V


def _rank_users(
    ranking: Ranking, users_V: np.ndarray, user_chunk: int, world: World, split: Split
) -> RankCounts:
    """Rank the targets of the users, and return their counts on the CPU; collective."""
    # Users without a target are left out before the division, so that all ranks have equal work.
    owned_W = shares(len(users_V), world.size)
    own_users = owned_W[world.rank]
    # Each rank takes a run of neighbouring users, so that the gather returns them in their order.
    first = sum(owned_W[: world.rank])
    # The number of chunks follows the largest share, so that it is the same on every rank:
    # a partitioned model gathers its weights on all ranks in each forward pass.
    num_chunks = -(-max(owned_W) // user_chunk)
    packed_counts = []
    for size in track(shares(own_users, num_chunks), "ranking users", own_users, amount=float):
        users_B = users_V[first : first + size]
        first += size
        # With fewer users than ranks a chunk may be empty. Its rank must run the model like the
        # others, and models take no empty batch: it ranks some user and drops the result.
        ranked_B = users_B if size else users_V[:1]
        packed_counts.append(ranking.count(ranked_B, split).pack()[:size])
    counts_V6 = gather(torch.cat(packed_counts), owned_W)
    return RankCounts.unpack(counts_V6.cpu())


def _as_ranks(counts: TargetCounts) -> TargetRanks:
    return TargetRanks(counts.better_B.numpy(), counts.tied_B.numpy())


def _summarize(
    counts: TargetCounts, catalogue_size: int, popularity_V: np.ndarray, names: Sequence[str]
) -> Summary:
    ranks = _as_ranks(counts)
    per_user = user_metrics(ranks.better_B, ranks.tied_B, catalogue_size, names)
    return summarize(per_user, popularity_V)


def _gather_report(catalogue: EncodedCatalogue) -> _ReadReport:
    """Join the ranks' accounts of reading the catalogue; collective."""
    bad_items: dict[int, str] = {}
    remote_bytes = 0
    for rank_bad_items, rank_bytes in gather_objects((catalogue.bad_items, catalogue.remote_bytes)):
        bad_items.update(rank_bad_items)
        remote_bytes += rank_bytes
    return _ReadReport(bad_items, remote_bytes)


def flat_metrics(summary: Summary, prefix: str = "") -> dict[str, float]:
    """Return a summary as named metrics: "hr@10" of all users, "cold/hr@10" of a group.

    Args:
        prefix: what every name starts with.
    """
    flat = {}
    for group, metrics in summary.items():
        group_prefix = prefix if group == "all" else f"{prefix}{group}/"
        for name, value in metrics.items():
            if name != "users":
                flat[group_prefix + name] = value
    return flat
