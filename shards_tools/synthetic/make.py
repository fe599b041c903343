"""A made-up folder in MicroLens' raw layout, whose best possible recommendations are known.

The model. An item i has four factors: hue h (angle), shape s (one of 4), texture t (one of 4) and direction of motion d (angle),
each uniform. The affinity of two sets of factors is

    k(x, y) = 3.5 cos(h_x - h_y) + 1.5 [s_x = s_y] + 1.5 [t_x = t_y] + 1.0 cos(d_x - d_y)

A user u has an ideal item z_u, its factors drawn like an item's. The next item after p is i with

    P(i | u, p)  proportional to  exp(k(z_u, i) + k(p, i) + 0.7 g_i),    g_i ~ N(0, 1),

without k(p, i) for the first one, over the items that u has not watched and that are published. 9 % of the items, drawn without
regard to their factors, are published late: each user meets them in the last two interactions only, so that no training
interaction has them under leave-one-out (cold items). Users have 4 + G interactions, G geometric with mean 3.2: at least 5,
7.2 on average, 3 % more than 13, at most a quarter of the items. exp(0.7 g) is a lognormal, long-tailed popularity.

The oracle ranks by this very probability: it knows z_u and all factors, and nothing can rank better on average.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mlrec.data.format import ORACLE_FILE, SplitInfo
from mlrec.evaluation.metrics import summarize, user_metrics
from mlrec.runtime.progress import track
from shards_tools.pack.pool import map_ordered
from shards_tools.raw.split import Sequences, training_popularity
from shards_tools.synthetic.media import SHAPES, TEXTURES, Look, cover_bytes, title, video_bytes

NAME = "synthetic"
AFFINITY = {"hue": 3.5, "shape": 1.5, "texture": 1.5, "direction": 1.0}
POPULARITY_SCALE = 0.7
LATE_SHARE = 0.09
LATE_INTERACTIONS = 2
MIN_LENGTH = 5
MEAN_LENGTH = 7.2
USER_CHUNK = 1024
"""Users drawn at a time; a chunk holds USER_CHUNK x items probabilities."""
MIN_ITEMS = 40
"""Below it a long sequence would exhaust the items that a user likes."""


@dataclass(frozen=True)
class World:
    """Items and users of the model; N items, numbered from 0 here and from 1 in the files."""

    looks: list[Look]
    items_NF: np.ndarray
    """float64: factors such that a dot product of two rows is their affinity."""
    ideals_UF: np.ndarray
    """float64: the users' ideal items."""
    weight_N: np.ndarray
    """float64: log popularity weight."""
    late_N: np.ndarray
    """bool: published late."""

    def logits(self, users_B: np.ndarray, previous_B: np.ndarray | None) -> np.ndarray:
        """float64 [B, N]: log P(i | u, p) up to a constant, watched and unpublished items not excluded yet."""
        wanted_BF = self.ideals_UF[users_B]
        if previous_B is not None:
            wanted_BF = wanted_BF + self.items_NF[previous_B]
        return np.asarray(wanted_BF @ self.items_NF.T + self.weight_N)


def draw_world(num_users: int, num_items: int, rng: np.random.Generator) -> World:
    """Factors, tastes and popularity weights."""
    looks, ideals = _draw_looks(num_items, rng), _draw_looks(num_users, rng)
    late_N = np.zeros(num_items, dtype=bool)
    late_N[rng.choice(num_items, size=round(LATE_SHARE * num_items), replace=False)] = True
    return World(
        looks,
        _factors(looks),
        _factors(ideals),
        POPULARITY_SCALE * rng.standard_normal(num_items),
        late_N,
    )


def _draw_looks(count: int, rng: np.random.Generator) -> list[Look]:
    hues, directions = rng.uniform(0, 2 * np.pi, size=(2, count)).tolist()
    shapes, textures = (
        rng.integers(len(SHAPES), size=count).tolist(),
        rng.integers(len(TEXTURES), size=count).tolist(),
    )
    return [Look(*factors) for factors in zip(hues, shapes, textures, directions, strict=True)]


def _factors(looks: list[Look]) -> np.ndarray:
    hue, direction = np.array([x.hue for x in looks]), np.array([x.direction for x in looks])
    parts = {
        "hue": np.stack([np.cos(hue), np.sin(hue)], axis=1),
        "shape": np.eye(len(SHAPES))[[x.shape for x in looks]],
        "texture": np.eye(len(TEXTURES))[[x.texture for x in looks]],
        "direction": np.stack([np.cos(direction), np.sin(direction)], axis=1),
    }
    return np.concatenate([np.sqrt(AFFINITY[name]) * part for name, part in parts.items()], axis=1)


def draw_sequences(world: World, rng: np.random.Generator) -> Sequences:
    """Every user's items, numbered from 1."""
    num_users, num_items = len(world.ideals_UF), len(world.looks)
    extra = rng.geometric(1 / (MEAN_LENGTH - MIN_LENGTH + 1), size=num_users) - 1
    length_U = np.minimum(MIN_LENGTH + extra, num_items // 4)
    chunks = np.split(np.arange(num_users), range(USER_CHUNK, num_users, USER_CHUNK))
    drawn = track(chunks, "drawing users")
    items = np.concatenate(
        [_draw_chunk(world, users_B, length_U[users_B], rng) for users_B in drawn]
    )
    return Sequences(
        np.arange(1, num_users + 1),
        np.concatenate([[0], np.cumsum(length_U)]),
        items.astype(np.int32),
    )


def _draw_chunk(
    world: World, users_B: np.ndarray, length_B: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """int64 [sum of lengths]: the users' items, one run per user."""
    drawn_BL = np.zeros((len(users_B), length_B.max()), dtype=np.int64)
    watched_BN = np.zeros((len(users_B), len(world.looks)), dtype=bool)
    for position in range(length_B.max()):
        rows = np.flatnonzero(length_B > position)
        logits = world.logits(users_B[rows], drawn_BL[rows, position - 1] if position else None)
        early = position < length_B[rows] - LATE_INTERACTIONS
        logits[watched_BN[rows] | (early[:, None] & world.late_N)] = -np.inf
        choice = (logits + rng.gumbel(size=logits.shape)).argmax(
            axis=1
        )  # Gumbel-max draws from the softmax
        drawn_BL[rows, position] = choice
        watched_BN[rows, choice] = True
    return np.asarray(drawn_BL[np.arange(drawn_BL.shape[1]) < length_B[:, None]] + 1)


def reference_metrics(
    world: World, sequences: Sequences, split: SplitInfo
) -> dict[str, dict[str, dict[str, float]]]:
    """Test metrics of the oracle, of training popularity and of chance, by popularity group of the target.

    Full ranking over the items that occur; the user's kept history is excluded.
    """
    popularity_N = training_popularity(sequences, split, len(world.looks))[1:]
    occurs_N = np.isin(np.arange(len(world.looks)), sequences.items - 1)
    scores: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "oracle": world.logits,
        "popularity": lambda users_B, previous_B: np.broadcast_to(
            popularity_N, (len(users_B), len(popularity_N))
        ),
        "chance": lambda users_B, previous_B: np.zeros((len(users_B), len(popularity_N))),
    }
    target_U = sequences.items[sequences.offsets[1:] - 1] - 1
    chunks = np.split(np.arange(len(target_U)), range(USER_CHUNK, len(target_U), USER_CHUNK))
    results = {}
    for name, score in scores.items():
        ranked = track(chunks, f"ranking by {name}")
        counts = [
            _better_and_tied(score, users_B, sequences, split, occurs_N) for users_B in ranked
        ]
        better_U, tied_U = np.concatenate(counts, axis=1)
        results[name] = summarize(
            user_metrics(better_U, tied_U, int(occurs_N.sum())), popularity_N[target_U]
        )
    return results


def _better_and_tied(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    users_B: np.ndarray,
    sequences: Sequences,
    split: SplitInfo,
    occurs_N: np.ndarray,
) -> np.ndarray:
    """int64 [2, B]: items above the test target, and others level with it."""
    ends_B = sequences.offsets[users_B + 1]
    starts_B = np.maximum(sequences.offsets[users_B], ends_B - split.keep_last)
    target_B, previous_B = sequences.items[ends_B - 1] - 1, sequences.items[ends_B - 2] - 1
    ranked_BN = np.tile(occurs_N, (len(users_B), 1))
    for row, (start, end) in enumerate(zip(starts_B, ends_B, strict=True)):
        ranked_BN[row, sequences.items[start : end - 1] - 1] = False
    scores_BN = score(users_B, previous_B)
    target_score_B1 = scores_BN[np.arange(len(users_B)), target_B][:, None]
    better_B = ((scores_BN > target_score_B1) & ranked_BN).sum(axis=1)
    return np.stack([better_B, ((scores_BN == target_score_B1) & ranked_BN).sum(axis=1) - 1])


@dataclass(frozen=True)
class _ItemJob:
    """The files of one item."""

    folder: Path
    item: int
    look: Look
    seed: int

    def __str__(self) -> str:
        return f"item {self.item}"


def _write_item(job: _ItemJob) -> str:
    """Writes the item's video and cover; returns its title."""
    rng = np.random.default_rng([job.seed, job.item])
    (job.folder / "videos" / f"{job.item}.mp4").write_bytes(video_bytes(job.look, rng))
    (job.folder / "covers" / f"{job.item}.jpg").write_bytes(cover_bytes(job.look, rng))
    return title(job.look, rng)


def make_synthetic(out: Path, num_users: int, num_items: int, seed: int, workers: int) -> bool:
    """Writes the folder; the same arguments give the same bytes. False where it stands there already.

    Raises:
        ValueError: too few items, or `out` holds something else.
    """
    if num_items < MIN_ITEMS or num_users < 1:
        raise ValueError(
            f"--users {num_users} --items {num_items}: a synthetic data set needs a user and {MIN_ITEMS} items"
        )
    made_of = {"users": num_users, "items": num_items, "seed": seed}
    if out.exists() and any(out.iterdir()):
        if (out / ORACLE_FILE).exists() and json.loads((out / ORACLE_FILE).read_bytes())[
            "model"
        ].items() >= made_of.items():
            return False
        raise ValueError(
            f"{out} is not empty and holds something else; remove it or choose another folder"
        )
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("videos", "covers"):
        (partial / name).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    world = draw_world(num_users, num_items, rng)
    sequences = draw_sequences(world, rng)
    jobs = (_ItemJob(partial, item, look, seed) for item, look in enumerate(world.looks, start=1))
    with closing(map_ordered(_write_item, jobs, workers)) as titles:
        _write_tables(
            partial, world, sequences, list(track(titles, "making up items", num_items)), rng
        )
    split = SplitInfo()
    oracle = {
        "model": {**made_of, **_constants()},
        "split": asdict(split),
        "test": reference_metrics(world, sequences, split),
    }
    (partial / ORACLE_FILE).write_text(json.dumps(oracle, indent=1) + "\n")
    if out.exists():
        out.rmdir()
    os.replace(partial, out)
    return True


def _constants() -> dict[str, object]:
    return {
        "affinity": AFFINITY,
        "popularity_scale": POPULARITY_SCALE,
        "late_share": LATE_SHARE,
        "late_interactions": LATE_INTERACTIONS,
        "min_length": MIN_LENGTH,
        "mean_length": MEAN_LENGTH,
        "choice": "softmax over affinity(ideal, item) + affinity(previous, item) + popularity_scale * N(0, 1) of the item",
    }


def _write_tables(
    folder: Path, world: World, sequences: Sequences, titles: list[str], rng: np.random.Generator
) -> None:
    rows = [f"{item},{text}\n" for item, text in enumerate(titles, start=1)]
    (folder / f"{NAME}_titles.csv").write_text("".join(["item,title\n", *rows]))
    runs = np.split(sequences.items, sequences.offsets[1:-1])
    pairs = [
        f"{user}\t{' '.join(map(str, run.tolist()))}\n"
        for user, run in zip(sequences.users, runs, strict=True)
    ]
    (folder / f"{NAME}_pairs.tsv").write_text("".join(pairs))
    views_N = (1e5 * np.exp(world.weight_N + 0.3 * rng.standard_normal(len(titles)))).astype(int)
    likes_N = (views_N * rng.uniform(0.01, 0.1, size=len(titles))).astype(int)
    counts = [
        f"{item}\t{likes}\t{views}\n"
        for item, (likes, views) in enumerate(zip(likes_N, views_N, strict=True), start=1)
    ]
    (folder / f"{NAME}_likes_and_views.txt").write_text("".join(counts))
