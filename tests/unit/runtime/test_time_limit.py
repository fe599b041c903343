"""A decoder that hangs: its process ends, the item fails, and all others are delivered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlrec.data import decoders
from mlrec.data.catalogue_pass import pass_of_rank, ranked_items, stream_catalogue
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import Data, StepDataset
from mlrec.runtime import time_limit
from shards_tools.pack.items import crashed_item
from shards_tools.pack.pool import map_ordered

VIDEO = InputSpec(Modality.VIDEO, frames=5, size=32)
STUCK_ITEM = 7


def hang_at_three(number: int) -> int:
    """Return the number, or hang at 3."""
    time_limit.LIMIT_S = 0.5
    with time_limit.time_limit(0):
        if number == 3:
            time.sleep(100)
    return number


def test_map_ordered_with_a_job_over_its_time_limit_yields_the_callers_result() -> None:
    def crashed(number: int, is_timeout: bool) -> int:
        return -10 * is_timeout - number

    started_at = time.monotonic()
    results = list(map_ordered(hang_at_three, range(8), 2, crashed=crashed))
    assert results == [0, 1, 2, -13, 4, 5, 6, 7]
    assert time.monotonic() - started_at < 15


def hang_after_a_pause(number: int) -> int:
    """Return the number after a pause of twice the limit, or hang then at 3."""
    time_limit.LIMIT_S = 0.5
    with time_limit.time_limit(0):
        with time_limit.paused_time_limit():
            time.sleep(1)
        if number == 3:
            time.sleep(100)
    return number


def test_paused_time_limit_counts_only_the_time_before_and_after() -> None:
    results = map_ordered(hang_after_a_pause, [2, 3], 2, crashed=lambda number, is_timeout: -1)
    assert list(results) == [2, -1]


def test_map_ordered_closed_early_does_not_wait_for_its_jobs() -> None:
    with closing(map_ordered(time.sleep, [0, 100, 100], 2)) as results:
        next(results)
        closed_at = time.monotonic()
    assert time.monotonic() - closed_at < 5


def test_crashed_item_over_its_time_limit_has_a_repeatable_reason() -> None:
    class Job:
        item = 3
        raw_id = "x"

    _, (failure,) = crashed_item(Job(), is_timeout=True)  # type: ignore[arg-type]
    assert failure.reason == "was not decoded within 40 s and 4 s per MB"


@pytest.fixture
def stuck_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the decoding of STUCK_ITEM hang in loader workers started from now on."""
    original = decoders.DECODERS[Modality.VIDEO]

    def hang(
        members: Mapping[str, bytes], spec: InputSpec, media: Any, item: int, out: np.ndarray
    ) -> None:
        if item == STUCK_ITEM:
            time.sleep(100)
        original.decode(members, spec, media, item, out)

    monkeypatch.setitem(decoders.DECODERS, Modality.VIDEO, replace(original, decode=hang))
    monkeypatch.setattr(time_limit, "LIMIT_S", 0.5)


@pytest.mark.usefixtures("stuck_decoder")
def test_stream_steps_leaves_out_an_item_that_exceeds_its_time_limit(data: Data) -> None:
    dataset = StepDataset(
        data, Plan(data.sequences, 0, 18, Owners((1,))), 0, [VIDEO], local_negatives=False
    )
    batches = list(stream_steps(dataset, 0, 6, 2, False, most_items=30))
    assert [batch.step for batch in batches] == list(range(6))
    with_item = [batch for batch in batches if STUCK_ITEM in batch.items_O.tolist()]
    assert with_item
    for batch in batches:
        expected = {STUCK_ITEM: time_limit.REASON} if batch in with_item else {}
        assert batch.bad_items == expected


@pytest.mark.usefixtures("stuck_decoder")
def test_stream_catalogue_leaves_out_an_item_that_exceeds_its_time_limit(data: Data) -> None:
    items = ranked_items(data)
    share = pass_of_rank(data, [VIDEO], 7, 0, (len(items),))
    chunks = sorted(stream_catalogue(share, 2, pin_memory=False), key=lambda chunk: chunk.start)
    assert [chunk.number for chunk in chunks] == list(range(share.num_chunks))
    assert sum(len(chunk.valid_n) for chunk in chunks) == len(items)
    bad_items: dict[int, str] = {}
    for chunk in chunks:
        bad_items |= chunk.bad_items
    assert bad_items == {STUCK_ITEM: time_limit.REASON}
