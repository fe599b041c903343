"""The model of a synthetic data set, whose best possible recommendations are known.

An item i has four factors: hue h (angle), shape s (one of 4), texture t (one of 4) and direction of
motion d (angle), each uniform. The affinity of two sets of factors is

    k(x, y) = 3.5 cos(h_x - h_y) + 1.5 [s_x = s_y] + 1.5 [t_x = t_y] + 1.0 cos(d_x - d_y)

A user u has an ideal item z_u, whose factors are drawn like an item's. The next item after p is i
with

    P(i | u, p)  proportional to  exp(k(z_u, i) + k(p, i) + 0.7 g_i),    g_i ~ N(0, 1),

over the published items that u has not watched. The first item of a user is drawn without k(p, i).

Late items: 9 % of the items, drawn without regard to their factors, are published late. Each user
meets them in the last two interactions only. Under leave-one-out no training interaction has them
(cold items).

Times, if wanted: users arrive at any time in the first 90 % of a year, uniformly, and their
interactions are uniform between then and the end of the year. All late items are then published
when 85 % of the interactions are over. So they are cold under a split by time, and some of them are
trained on under leave-one-out.

Lengths: users have 4 + G interactions, where G is geometric with mean 3.2, and at most a quarter of
    the items. That is at least 5, 7.2 on average, and more than 13 for 3 % of the users.

Popularity: exp(0.7 g) is a lognormal with a long tail.

The oracle ranks by this very probability. It knows z_u and all factors, and nothing ranks better on
average.

Shape letters: U users, N items, B users of a chunk, L interactions, F factors as coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlrec.runtime.progress import track
from shards_tools.raw.split import Sequences
from shards_tools.synthetic.media import SHAPES, TEXTURES, Look

AFFINITY = {"hue": 3.5, "shape": 1.5, "texture": 1.5, "direction": 1.0}
"""Weight of each factor in the affinity k."""
POPULARITY_SCALE = 0.7
"""Standard deviation of the items' log popularity."""
LATE_SHARE = 0.09
"""Share of the items that are published late."""
LATE_INTERACTIONS = 2
"""Number of interactions at a user's end in which late items occur."""
FIRST_DAY_MS = 1_672_531_200_000
"""Beginning of the year of the times: 2023 in UTC, in milliseconds since 1970."""
YEAR_MS = 365 * 24 * 3600 * 1000
ARRIVAL_SHARE = 0.9
"""Share of the year in which users arrive."""
PUBLICATION_SHARE = 0.85
"""Share of the interactions that come before the late items, if there are times."""
MIN_LENGTH = 5
MEAN_LENGTH = 7.2
"""Mean number of interactions of a user."""
MIN_ITEMS = 40
"""Least number of items, below which a long sequence would exhaust the items that a user likes."""
USER_CHUNK = 1024
"""Users drawn at a time. A chunk holds USER_CHUNK x items probabilities."""

CONSTANTS: dict[str, object] = {
    "affinity": AFFINITY,
    "popularity_scale": POPULARITY_SCALE,
    "late_share": LATE_SHARE,
    "late_interactions": LATE_INTERACTIONS,
    "min_length": MIN_LENGTH,
    "mean_length": MEAN_LENGTH,
    "choice": "softmax over affinity(ideal, item) + affinity(previous, item) "
    "+ popularity_scale * N(0, 1) of the item",
}
"""The model as oracle.json documents it."""


@dataclass(frozen=True)
class World:
    """Items and users of the model. Items are numbered from 0 here, and from 1 in files."""

    looks: list[Look]
    items_NF: np.ndarray
    """float64: factors as coordinates, such that the dot product of two rows is their affinity."""
    ideals_UF: np.ndarray
    """float64: the users' ideal items, in the same coordinates."""
    weight_N: np.ndarray
    """float64: log popularity."""
    late_N: np.ndarray
    """bool: whether the item is published late."""

    def logits(self, users_B: np.ndarray, previous_B: np.ndarray | None) -> np.ndarray:
        """Return log P(i | u, p) up to a constant, with watched and unpublished items in it.

        Args:
            previous_B: int64, the items p; None for the first interaction.

        Returns:
            float64 [B, N].
        """
        # affinities add up: k(z, i) + k(p, i) is one dot product with z + p
        wanted_BF = self.ideals_UF[users_B]
        if previous_B is not None:
            wanted_BF = wanted_BF + self.items_NF[previous_B]
        return np.asarray(wanted_BF @ self.items_NF.T + self.weight_N)


def user_chunks(num_users: int) -> list[np.ndarray]:
    """Return the users in chunks of USER_CHUNK."""
    return np.split(np.arange(num_users), range(USER_CHUNK, num_users, USER_CHUNK))


def draw_world(num_users: int, num_items: int, rng: np.random.Generator) -> World:
    """Draw factors, tastes and popularity weights."""
    # The order of the draws decides the bytes of the data set.
    looks = _draw_looks(num_items, rng)
    ideals = _draw_looks(num_users, rng)
    late_N = np.zeros(num_items, dtype=bool)
    late_N[rng.choice(num_items, size=round(LATE_SHARE * num_items), replace=False)] = True
    weight_N = POPULARITY_SCALE * rng.standard_normal(num_items)
    return World(looks, _coordinates(looks), _coordinates(ideals), weight_N, late_N)


def _draw_looks(count: int, rng: np.random.Generator) -> list[Look]:
    hues, directions = rng.uniform(0, 2 * np.pi, size=(2, count)).tolist()
    shapes = rng.integers(len(SHAPES), size=count).tolist()
    textures = rng.integers(len(TEXTURES), size=count).tolist()
    return [Look(*factors) for factors in zip(hues, shapes, textures, directions, strict=True)]


def _coordinates(looks: list[Look]) -> np.ndarray:
    """Return the factors as float64 [N, F], such that the dot product of two rows is k."""
    hue = np.array([look.hue for look in looks])
    direction = np.array([look.direction for look in looks])
    shape = np.array([look.shape for look in looks])
    texture = np.array([look.texture for look in looks])
    parts = {
        "hue": _on_circle(hue),
        "shape": np.eye(len(SHAPES))[shape],
        "texture": np.eye(len(TEXTURES))[texture],
        "direction": _on_circle(direction),
    }
    # the square root, because both sides of a dot product have it
    weighted = [np.sqrt(AFFINITY[name]) * part for name, part in parts.items()]
    return np.concatenate(weighted, axis=1)


def _on_circle(angle: np.ndarray) -> np.ndarray:
    """Return unit vectors, whose dot product is the cosine of the angle between them."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def draw_sequences(world: World, rng: np.random.Generator, has_times: bool = False) -> Sequences:
    """Draw every user's items, numbered from 1, and their times if wanted."""
    num_users = len(world.ideals_UF)
    num_items = len(world.looks)
    # geometric starts at 1, so that its mean is 1 more than that of the extra length
    extra_U = rng.geometric(1 / (MEAN_LENGTH - MIN_LENGTH + 1), size=num_users) - 1
    length_U = np.minimum(MIN_LENGTH + extra_U, num_items // 4)
    offsets = np.concatenate([[0], np.cumsum(length_U)])
    times = _draw_times(length_U, rng) if has_times else None
    early_U = length_U - LATE_INTERACTIONS
    if times is not None:
        is_early = times < np.quantile(times, PUBLICATION_SHARE)
        early_U = np.add.reduceat(is_early, offsets[:-1], dtype=np.int64)
    runs = []
    for users_B in track(user_chunks(num_users), "drawing users"):
        runs.append(_draw_chunk(world, users_B, length_U[users_B], early_U[users_B], rng))
    items = np.concatenate(runs).astype(np.int32)
    return Sequences(np.arange(1, num_users + 1), offsets, items, times)


def _draw_times(length_U: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the times of all interactions in milliseconds since 1970, ascending for each user."""
    arrivals_U = rng.uniform(0, ARRIVAL_SHARE, size=len(length_U))
    runs = []
    for length, arrival in zip(length_U.tolist(), arrivals_U.tolist(), strict=True):
        runs.append(np.sort(rng.uniform(arrival, 1, size=length)))
    elapsed_ms = (np.concatenate(runs) * YEAR_MS).astype(np.int64)
    return np.asarray(FIRST_DAY_MS + elapsed_ms)


def _draw_chunk(
    world: World,
    users_B: np.ndarray,
    length_B: np.ndarray,
    early_B: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw the items of some users, one run per user.

    Args:
        early_B: int64, interactions before the late items are published.

    Returns:
        int64 [sum of lengths], numbered from 1.
    """
    max_length = length_B.max()
    drawn_BL = np.zeros((len(users_B), max_length), dtype=np.int64)
    watched_BN = np.zeros((len(users_B), len(world.looks)), dtype=bool)
    # all users of the chunk take their next item at once
    for position in range(max_length):
        rows = np.flatnonzero(length_B > position)
        # the first item has no item before it
        previous = drawn_BL[rows, position - 1] if position else None
        logits = world.logits(users_B[rows], previous)
        is_early = position < early_B[rows]
        is_unpublished = is_early[:, None] & world.late_N
        logits[watched_BN[rows] | is_unpublished] = -np.inf
        # the maximum of logits plus Gumbel noise is a draw from their softmax
        choice = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        drawn_BL[rows, position] = choice
        watched_BN[rows, choice] = True
    is_drawn_BL = np.arange(max_length) < length_B[:, None]
    return np.asarray(drawn_BL[is_drawn_BL] + 1)
