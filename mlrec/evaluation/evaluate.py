"""Full ranking: the catalogue encoded once over all ranks, every user's held-out item ranked against all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlrec.config import Config
from mlrec.config.run_files import RESULTS_FILE
from mlrec.data.catalogue_pass import pass_of_rank, ranked_items, stream_catalogue
from mlrec.data.format import ORACLE_FILE, read_oracle
from mlrec.data.sequences import Split
from mlrec.data.stream import Data
from mlrec.evaluation.examples import recommend_some
from mlrec.evaluation.metrics import METRICS, summarize, user_metrics
from mlrec.evaluation.ranking import Ranking
from mlrec.evaluation.results import Results, Summary, read_results, write_results
from mlrec.evaluation.trained_model import load_model
from mlrec.models.building import as_trained
from mlrec.models.recommender import Recommender
from mlrec.runs import checkpoint, failures
from mlrec.runs.recommendations import Recommended, write_recommended
from mlrec.runs.record import trained_on
from mlrec.runs.run import best_checkpoint
from mlrec.runtime.distributed import (
    World,
    from_main,
    gather,
    gather_objects,
    shares,
)
from mlrec.runtime.progress import track
from mlrec.runtime.terminal import say


@dataclass(frozen=True)
class EncodedCatalogue:
    """The catalogue's vectors on every rank."""

    items_ND: torch.Tensor
    """float32."""
    readable_N: torch.Tensor
    """bool: an item that could not be read is never recommended."""
    bad_items: dict[int, str]
    """Those of this rank's share that could not be read, with the reason."""
    remote_bytes: int
    """That this rank asked of the network."""


@dataclass(frozen=True)
class Evaluation:
    """What full ranking found."""

    metrics: Summary
    baselines: dict[str, Summary]
    """Popularity and chance."""
    bad_items: dict[int, str]
    """Items of the catalogue that could not be read, with the reason."""
    remote_bytes: int
    """That all ranks asked of the network."""
    ranks_B2: np.ndarray
    """int64: of every user, the items that score better than the target, and the others that tie with it."""
    catalogue_size: int
    """Items that were ranked."""
    recommended: Recommended | None = None
    """To some users, on rank 0, where that was asked for."""


@torch.no_grad()
def encode_catalogue(
    model: Recommender, data: Data, config: Config, world: World
) -> EncodedCatalogue:
    """Vectors of all ranked items, in the order of `ranked_items`; collective."""
    owned_W = data.owners(config.train.global_batch, world.nodes).split(ranked_items(data))
    cache = model.tower.activation_cache
    cached_items = cache.items if cache else None
    share = pass_of_rank(
        data, model.tower.specs, config.item.chunk, world.rank, owned_W, cached_items
    )
    vectors = torch.zeros(len(share.items), config.recommender.width, device=world.device)
    readable = torch.zeros(len(share.items), dtype=torch.int64)
    bad_items: dict[int, str] = {}
    remote_bytes = 0
    chunks = stream_catalogue(
        share, config.data.num_workers, pin_memory=world.device.type == "cuda"
    )
    for chunk in track(
        chunks, "encoding items", len(share.items), amount=lambda chunk: len(chunk.valid_n)
    ):
        run = slice(chunk.start, chunk.start + len(chunk.valid_n))
        if cache is None:
            vectors[run] = model.tower.encode(chunk.media, most=1, device=world.device).float()
        else:
            items_n = torch.from_numpy(share.items[run])
            encoded = model.tower.encode_cached(
                items_n, chunk.media, chunk.valid_n, chunk.cached_n, add=False, device=world.device
            )
            vectors[run] = encoded.float()
        readable[run] = chunk.valid_n
        bad_items.update(chunk.bad_items)
        remote_bytes += chunk.remote_bytes
    return EncodedCatalogue(
        gather(vectors, owned_W),
        gather(readable.to(world.device), owned_W) > 0,
        bad_items,
        remote_bytes,
    )


@torch.no_grad()
def evaluate(
    model: Recommender,
    data: Data,
    config: Config,
    world: World,
    split: Split,
    recommend: bool = False,
) -> Evaluation:
    """Ranks every user's held-out item of the split; collective.

    The user's kept history is excluded from the ranking. Works on a plain model and on one that DeepSpeed has partitioned:
    all ranks make the same number of calls.

    Args:
        recommend: rank 0 recommends to some users as well; with a plain model only.
    """
    training = model.training
    model.eval()
    catalogue = encode_catalogue(model, data, config, world)
    ranking = Ranking(model, data, catalogue.items_ND, catalogue.readable_N)
    owned_W = shares(data.sequences.num_users, world.size)
    first = sum(owned_W[: world.rank])
    counts = []
    sizes = shares(owned_W[world.rank], -(-max(owned_W) // config.evaluate.user_chunk))
    for size in track(sizes, "ranking users", owned_W[world.rank], amount=float):
        users_B = np.arange(first, first + size)
        first += size
        counts.append(ranking.count(users_B, split))
    recommended = (
        recommend_some(ranking, split, config.evaluate.user_chunk)
        if recommend and world.is_main
        else None
    )
    model.train(training)
    everyone = gather(torch.cat(counts), owned_W).cpu().numpy()
    targets = data.sequences.target(np.arange(data.sequences.num_users), split)
    popularity = data.catalogue.popularity_N1[targets]
    size = len(catalogue.items_ND)
    metrics, by_popularity, by_chance = (
        summarize(user_metrics(everyone[:, column], everyone[:, column + 1], size), popularity)
        for column in (0, 2, 4)
    )
    gathered = gather_objects((catalogue.bad_items, catalogue.remote_bytes))
    bad_items = {item: reason for found, _ in gathered for item, reason in found.items()}
    baselines = {"popularity": by_popularity, "chance": by_chance}
    remote_bytes = sum(remote for _, remote in gathered)
    return Evaluation(
        metrics, baselines, bad_items, remote_bytes, everyone[:, :2], size, recommended
    )


def flat_metrics(summary: Summary, prefix: str = "") -> dict[str, float]:
    """A summary as metric names behind `prefix`: "hr@10" of all users, "cold/hr@10" of a group."""
    return {
        prefix + (name if group == "all" else f"{group}/{name}"): value
        for group, metrics in summary.items()
        for name, value in metrics.items()
        if name != "users"
    }


def evaluate_run(config: Config, data: Data, world: World, split: Split) -> Results:
    """Evaluate the run's best checkpoint by validation, without DeepSpeed; collective.

    Writes results.json, ranks.npy and recommended.json, unless the data set is another one than that of the training, or of the
    results that are there: those are compared with other runs on their data set.

    Raises:
        ValueError: the run has no checkpoint, or its model knows the items of another data set.
        RuntimeError: more items than data.max_bad_items could not be read.
    """
    run = config.run_path
    path = best_checkpoint(config)
    not_kept = from_main(lambda: _why_not_kept(run, path, data))
    model = load_model(config, data, world, path)
    as_trained(model, config, world.device)
    found = evaluate(model, data, config, world, split, recommend=True)
    baselines = dict(found.baselines)
    if split == "test" and (oracle := oracle_of(data)):
        baselines["oracle"] = oracle
    results = Results(
        split=split,
        step=checkpoint.read_state(path).step,
        selected_by=f"validation {config.evaluate.select_by}",
        metrics=found.metrics,
        baselines=baselines,
        bad_items=found.bad_items,
        catalogue_size=found.catalogue_size,
        fingerprint=data.info.fingerprint,
    )
    if world.is_main and not_kept:
        say(f"{run / RESULTS_FILE} stays as it is: {not_kept}", error=True)
    elif world.is_main:
        if found.recommended is not None:
            write_recommended(run, found.recommended)
        write_results(run, results, found.ranks_B2)
    if len(found.bad_items) > config.data.max_bad_items:
        place = None if not_kept else run / RESULTS_FILE
        raise failures.too_many(
            found.bad_items.values(), config.data.max_bad_items, data.url, place
        )
    return results


def oracle_of(data: Data) -> dict[str, dict[str, float]]:
    """Return what the best possible model reaches on the test split, which synthetic data sets know; empty for others.

    Raises:
        ValueError: oracle.json is damaged.
    """
    return read_oracle(data.url, data.info, METRICS) if data.info.has(ORACLE_FILE) else {}


def _why_not_kept(run: Path, path: Path, data: Data) -> str:
    """Return why a ranking on this data set is not written into the run's folder, "" if it is."""
    now = data.info.fingerprint
    if (trained_on(run) or checkpoint.read_state(path).fingerprint) != now:
        return f"{data.url} is not the data set of the training"
    before = _fingerprint_of_results(run)
    if before not in ("", now):
        return (
            f"it was ranked on another data set ({before[:12]}); remove it to keep the next ranking"
        )
    return ""


def _fingerprint_of_results(run: Path) -> str:
    try:
        results = read_results(run)
    except ValueError:
        return ""  # damaged: written again, as its reader's message says
    return results.fingerprint if results else ""
