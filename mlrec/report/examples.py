"""Recommendations as rows of pictures: what some users watched, and what the runs recommend to them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from mlrec import config as configuration
from mlrec.config.run_files import CONFIG_FILE
from mlrec.report.escape import in_html
from mlrec.report.page import picture, section, soft, strip
from mlrec.report.runs import Run
from mlrec.report.tables import splits
from mlrec.runs.recommendations import Example, Recommended
from mlrec.runtime.progress import track
from mlrec.runtime.redact import scrub
from mlrec.runtime.terminal import say

USERS_SHOWN = 6
RUNS_SHOWN = 3

Draw = Callable[[int], bytes | None]
"""A JPEG file of an item, None where there is none."""


def examples_section(runs: Sequence[Run], heading: str) -> str:
    """Rows of the best runs of one data set and split for the same few users; "" where none has been evaluated."""
    found = [(run, run.recommended) for run in runs if run.recommended is not None]
    found = sorted(found, key=lambda pair: -(pair[0].metric("hr@10") or 0.0))[:RUNS_SHOWN]
    if not found:
        return ""
    draw, problem = _pictures(found[0][0])
    first = found[0][1]
    users = first.examples[:: max(1, len(first.examples) // USERS_SHOWN)][:USERS_SHOWN]
    content = [
        soft(
            f"Users of the {splits(runs)} split, taken evenly and not by result. Green: what the user watched next is among the "
            "recommended items. Rows scroll sideways."
        ),
        soft(problem) if problem else "",
    ]
    for shown in track(users, "drawing recommendations"):
        rows = [
            (run, own, example)
            for run, own in found
            for example in own.examples
            if example.user == shown.user
        ]
        is_hit = any(_is_hit(example) for _, _, example in rows)
        content += [
            f"<h3>User {in_html(shown.user)}</h3>",
            soft("watched"),
            _watched(shown, first, is_hit, draw),
        ]
        for run, own, example in rows:
            content += [_verdict(run, example), _row(example, own, draw)]
    return section(heading, "".join(content))


def _is_hit(example: Example) -> bool:
    return example.target in example.items


def _watched(shown: Example, recommended: Recommended, is_hit: bool, draw: Draw) -> str:
    history = [picture(draw(item), recommended.titles.get(item, "")) for item in shown.history]
    kind = "next hit" if is_hit else "next"
    target = picture(draw(shown.target), f"next: {recommended.titles.get(shown.target, '')}", kind)
    return strip([*history, target])


def _verdict(run: Run, example: Example) -> str:
    text = soft(f"{run.name} recommends; what the user watched next has rank {example.rank:,}")
    return text.replace('class="soft"', 'class="soft hit-text"') if _is_hit(example) else text


def _row(example: Example, recommended: Recommended, draw: Draw) -> str:
    return strip(
        picture(
            draw(item),
            f"{place}. {recommended.titles.get(item, '')}",
            "hit" if item == example.target else "",
        )
        for place, item in enumerate(example.items, start=1)
    )


def _pictures(run: Run) -> tuple[Draw, str]:
    """How to draw an item of the run's data set, and why that cannot be done, if so."""

    def nothing(item: int) -> None:
        del item

    try:
        from mlrec.data.pictures import open_pictures

        data = configuration.load_saved(run.path / CONFIG_FILE).data
        say(f"reading frames from {scrub(data.url)}", error=True, flush=True)
        pictures = open_pictures(data)
    except (ValueError, OSError, RuntimeError) as error:
        return nothing, f"Titles only: the data set cannot be read from here ({scrub(str(error))})."
    if pictures.fingerprint != run.fingerprint:
        return (
            nothing,
            f"Titles only: {scrub(data.url)} now holds another data set than the one that {run.name} was trained on.",
        )
    if not pictures.has_any:
        return nothing, "Titles only: the data set holds neither frames nor covers."
    return functools.cache(pictures.jpeg), ""
