"""Recommendations as rows of pictures: what users watched, and what runs recommend to them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlrec import config as configuration
from mlrec.config.run_files import CONFIG_FILE
from mlrec.report.page import Picture, picture
from mlrec.report.runs import Run
from mlrec.runs.recommendations import Example, Recommended
from mlrec.runtime.progress import track
from mlrec.runtime.redact import scrub
from mlrec.runtime.terminal import say

USERS_SHOWN = 6
RUNS_SHOWN = 3

Draw = Callable[[int], bytes | None]
"""Returns a JPEG file of an item, or None if it has no picture."""


@dataclass(frozen=True)
class Row:
    """What one run recommends to a user."""

    run: str
    rank: str
    """Rank of the item that the user watched next."""
    is_hit: bool
    """Whether that item is among the recommended ones."""
    pictures: list[Picture]


@dataclass(frozen=True)
class User:
    """One user of the examples."""

    id: int | str
    watched: list[Picture]
    """The newest items of the history, then the item that was watched next."""
    rows: list[Row]


@dataclass(frozen=True)
class Examples:
    """Recommendations of the best runs to the same few users."""

    problem: str
    """Why there are titles only; empty if items have pictures."""
    users: list[User]


def examples_of(runs: Sequence[Run]) -> Examples | None:
    """Return examples of the best runs of one data set and split, or None if none was evaluated."""
    evaluated: list[tuple[Run, Recommended]] = []
    for run in runs:
        if run.recommended is not None:
            evaluated.append((run, run.recommended))
    evaluated.sort(key=lambda pair: -(pair[0].metric("hr@10") or 0.0))
    evaluated = evaluated[:RUNS_SHOWN]
    if not evaluated:
        return None
    best_run, best_recommended = evaluated[0]
    draw, problem = _open_pictures(best_run)
    examples = best_recommended.examples
    # evenly spaced, not the first or the best users, so that the page flatters no run
    every = max(1, len(examples) // USERS_SHOWN)
    users = []
    for example in track(examples[::every][:USERS_SHOWN], "drawing recommendations"):
        rows = _rows_of_user(example.user, evaluated, draw)
        is_hit = any(row.is_hit for row in rows)
        users.append(User(example.user, _watched(example, best_recommended, is_hit, draw), rows))
    return Examples(problem, users)


def _rows_of_user(
    user: int | str, evaluated: Sequence[tuple[Run, Recommended]], draw: Draw
) -> list[Row]:
    rows = []
    for run, recommended in evaluated:
        for example in recommended.examples:
            # matched by user, because runs need not have stored examples of the same users
            if example.user == user:
                pictures = _recommended(example, recommended, draw)
                is_hit = example.target in example.items
                rows.append(Row(run.name, f"{example.rank:,}", is_hit, pictures))
    return rows


def _watched(example: Example, recommended: Recommended, is_hit: bool, draw: Draw) -> list[Picture]:
    titles = recommended.titles
    pictures = [picture(draw(item), titles.get(item, "")) for item in example.history]
    caption = f"next: {titles.get(example.target, '')}"
    pictures.append(picture(draw(example.target), caption, "next hit" if is_hit else "next"))
    return pictures


def _recommended(example: Example, recommended: Recommended, draw: Draw) -> list[Picture]:
    pictures = []
    for place, item in enumerate(example.items, start=1):
        caption = f"{place}. {recommended.titles.get(item, '')}"
        kind = "hit" if item == example.target else ""
        pictures.append(picture(draw(item), caption, kind))
    return pictures


def _open_pictures(run: Run) -> tuple[Draw, str]:
    """Return how to draw an item of the run's data set, and why that is impossible, if it is."""

    def draw_nothing(item: int) -> None:
        del item

    try:
        # a report without pictures needs neither torch nor a decoder
        from mlrec.data.pictures import open_pictures

        data = configuration.load_saved(run.path / CONFIG_FILE).data
        say(f"reading frames from {scrub(data.url)}", error=True, flush=True)
        pictures = open_pictures(data)
    except (ValueError, OSError, RuntimeError) as error:
        # reports are often made on a machine that cannot reach the data, and titles are in the run
        reason = f"cannot read the data set from here ({scrub(str(error))})"
        return draw_nothing, f"Titles only: {reason}."
    # in another packing the same item numbers are other items, so pictures would be wrong
    if pictures.fingerprint != run.fingerprint:
        return draw_nothing, (
            f"Titles only: {scrub(data.url)} now holds another data set than the one that "
            f"{run.name} was trained on."
        )
    if not pictures.has_any:
        return draw_nothing, "Titles only: the data set holds neither frames nor covers."
    return functools.cache(pictures.jpeg), ""
