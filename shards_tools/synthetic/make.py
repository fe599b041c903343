"""Write a synthetic folder in MicroLens' raw layout, as model.py describes it."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.data.format import ORACLE_FILE, SplitInfo
from mlrec.runtime.progress import track
from shards_tools.pack.pool import map_ordered
from shards_tools.raw.split import Sequences
from shards_tools.synthetic.media import Look, cover_bytes, title, video_bytes
from shards_tools.synthetic.model import CONSTANTS, MIN_ITEMS, World, draw_sequences, draw_world
from shards_tools.synthetic.reference import reference_metrics

NAME = "synthetic"
"""Name of the data set, with which the names of its tables begin."""
MEDIA_FOLDERS = ("videos", "covers")


def make_synthetic(
    out: Path, num_users: int, num_items: int, seed: int, workers: int, has_times: bool = False
) -> bool:
    """Write the folder unless it is complete. The same arguments give the same bytes.

    Args:
        has_times: Interactions have times.

    Returns:
        Whether the folder was written.

    Raises:
        ValueError: there are too few items, or `out` holds something else.
    """
    if num_items < MIN_ITEMS or num_users < 1:
        raise ValueError(
            f"--users {num_users} --items {num_items}: "
            f"a synthetic data set needs a user and {MIN_ITEMS} items"
        )
    arguments = {"users": num_users, "items": num_items, "seed": seed}
    # only if true, so that folders without times keep their bytes
    if has_times:
        arguments["times"] = True
    if out.exists() and any(out.iterdir()):
        _check_same(out, arguments)
        return False
    # under another name until it is complete, which the rename at the end makes visible at once
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _write(partial, arguments, workers)
    # the empty folder may have been made for the result
    if out.exists():
        out.rmdir()
    os.replace(partial, out)
    return True


def _check_same(out: Path, arguments: dict[str, int]) -> None:
    """Check that a folder was made with these arguments.

    Raises:
        ValueError: it holds something else.
    """
    oracle = out / ORACLE_FILE
    recorded: dict[str, Any] = {}
    if oracle.exists():
        # oracle.json is written last but for the rename: a folder that has it is complete
        recorded = json.loads(oracle.read_bytes())["model"]
    is_same = recorded.items() >= arguments.items() and ("times" in recorded) == (
        "times" in arguments
    )
    if not is_same:
        raise ValueError(
            f"{out} is not empty and holds something else. Remove it, or choose another folder"
        )


def _write(folder: Path, arguments: dict[str, int], workers: int) -> None:
    """Write all files of a raw folder."""
    for name in MEDIA_FOLDERS:
        (folder / name).mkdir(parents=True)
    # one generator for all: the order of the draws decides the bytes
    rng = np.random.default_rng(arguments["seed"])
    world = draw_world(arguments["users"], arguments["items"], rng)
    sequences = draw_sequences(world, rng, has_times="times" in arguments)
    titles = _write_items(folder, world, arguments["seed"], workers)
    _write_titles(folder, titles)
    if sequences.times is None:
        _write_pairs(folder, sequences)
    else:
        _write_timed_pairs(folder, sequences, sequences.times)
    _write_counts(folder, world, rng)
    _write_oracle(folder, arguments, world, sequences)


@dataclass(frozen=True)
class _ItemJob:
    """The files of one item."""

    folder: Path
    item: int
    look: Look
    seed: int

    def __str__(self) -> str:
        return f"item {self.item}"


def _write_items(folder: Path, world: World, seed: int, workers: int) -> list[str]:
    """Write all videos and covers, and return the titles."""
    jobs = [_ItemJob(folder, item, look, seed) for item, look in enumerate(world.looks, start=1)]
    with closing(map_ordered(_write_item, jobs, workers)) as titles:
        return list(track(titles, "making up items", len(jobs)))


def _write_item(job: _ItemJob) -> str:
    """Write the item's video and cover, and return its title."""
    # a generator per item, so that the bytes do not depend on the order of the jobs
    rng = np.random.default_rng([job.seed, job.item])
    (job.folder / "videos" / f"{job.item}.mp4").write_bytes(video_bytes(job.look, rng))
    (job.folder / "covers" / f"{job.item}.jpg").write_bytes(cover_bytes(job.look, rng))
    return title(job.look, rng)


def _write_titles(folder: Path, titles: list[str]) -> None:
    lines = ["item,title\n"]
    for item, text in enumerate(titles, start=1):
        lines.append(f"{item},{text}\n")
    (folder / f"{NAME}_titles.csv").write_text("".join(lines))


def _write_pairs(folder: Path, sequences: Sequences) -> None:
    runs = np.split(sequences.items, sequences.offsets[1:-1])
    lines = []
    for user, run in zip(sequences.users, runs, strict=True):
        lines.append(f"{user}\t{' '.join(map(str, run.tolist()))}\n")
    (folder / f"{NAME}_pairs.tsv").write_text("".join(lines))


def _write_timed_pairs(folder: Path, sequences: Sequences, times: np.ndarray) -> None:
    users = np.repeat(sequences.users, sequences.lengths)
    # in the order of time, as a log grows
    order = np.argsort(times, kind="stable")
    rows = np.stack([users, sequences.items, times], axis=1)[order]
    lines = ["user,item,timestamp\n"]
    for user, item, time in rows.tolist():
        lines.append(f"{user},{item},{time}\n")
    (folder / f"{NAME}_pairs.csv").write_text("".join(lines))


def _write_counts(folder: Path, world: World, rng: np.random.Generator) -> None:
    """Draw and write likes and views, which follow popularity."""
    num_items = len(world.looks)
    # views and likes follow popularity loosely, as they come from outside the sample of users
    noise_N = 0.3 * rng.standard_normal(num_items)
    views_N = (1e5 * np.exp(world.weight_N + noise_N)).astype(int)
    likes_N = (views_N * rng.uniform(0.01, 0.1, size=num_items)).astype(int)
    lines = []
    for item, (likes, views) in enumerate(zip(likes_N, views_N, strict=True), start=1):
        lines.append(f"{item}\t{likes}\t{views}\n")
    (folder / f"{NAME}_likes_and_views.txt").write_text("".join(lines))


def _write_oracle(
    folder: Path, arguments: dict[str, int], world: World, sequences: Sequences
) -> None:
    """Write the model and its reference metrics."""
    split = SplitInfo()
    oracle = {
        "model": {**arguments, **CONSTANTS},
        "split": {"keep_last": split.keep_last, "min_interactions": split.min_interactions},
        "test": reference_metrics(world, sequences, split),
    }
    (folder / ORACLE_FILE).write_text(json.dumps(oracle, indent=1) + "\n")
