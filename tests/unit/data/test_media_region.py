"""Media of steps in memory that loader workers share, and the host memory that this takes."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from mlrec.data import decoders, host_memory, media_region, step_stream
from mlrec.data.cached_items import CachedItems
from mlrec.data.decode import Decoded, decode_items, decode_rows, empty_media, item_bytes
from mlrec.data.host_memory import HostBytes, check_host_memory, check_shared_memory, host_bytes
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.media_region import MediaRegion
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import Batch, InputSpec, Modality
from mlrec.data.step_stream import stream_steps
from mlrec.data.stream import Data, StepDataset
from mlrec.runtime.distributed import shares

VIDEO = InputSpec(Modality.VIDEO, frames=5, size=32)
COVER = InputSpec(Modality.COVER, size=7)
ID = InputSpec(Modality.ID)
STEPS = 8


@pytest.fixture
def plan(data: Data) -> Plan:
    return Plan(data.sequences, 0, 18, Owners((1,)))


@pytest.fixture
def dataset(data: Data, plan: Plan) -> StepDataset:
    return StepDataset(data, plan, 0, [VIDEO], local_negatives=False)


def most_items(plan: Plan) -> int:
    return max(len(plan.step(step).items_U) for step in range(STEPS))


def assert_equal(batch: Batch, expected: Batch) -> None:
    for name, value in vars(expected).items():
        received = getattr(batch, name)
        if isinstance(value, torch.Tensor):
            assert received.equal(value) and received.dtype == value.dtype, name
        elif name == "media":
            assert list(received) == list(value)
            assert all(received[spec].equal(value[spec]) for spec in value)
        else:
            assert received == value, name


def replace_video_decoder(monkeypatch: pytest.MonkeyPatch, decoder: Any) -> None:
    """Replace the decoder of videos in workers that are forked from now on."""
    row = replace(decoders.DECODERS[Modality.VIDEO], decode=decoder)
    monkeypatch.setitem(decoders.DECODERS, Modality.VIDEO, row)


def test_media_region_has_a_place_of_its_own_per_step_and_input() -> None:
    inputs = [COVER, ID, VIDEO]
    region = MediaRegion(inputs, 3, num_steps=2)
    for step in (4, 5):
        for value, tensor in enumerate(region.media(step, slice(None)).values()):
            tensor.fill_(10 * step + value)
    for step in (4, 5, 6):
        media = region.media(step, slice(3))
        written_step = 4 if step == 6 else step
        for value, spec in enumerate(inputs):
            assert media[spec].shape == empty_media(spec, 3).shape
            assert media[spec].dtype == empty_media(spec, 3).dtype
            assert (media[spec] == 10 * written_step + value).all()
    second_row = region.media(4, slice(1, 2))[VIDEO]
    assert second_row.data_ptr() == region.media(4, slice(3))[VIDEO][1].data_ptr()


def test_decode_rows_of_unreadable_items_leaves_zeros_in_used_memory(data: Data) -> None:
    sample = next(iter(data.store.read_many([1], [f"{frame}.jpg" for frame in range(5)])))
    assert not isinstance(sample[1], str)
    damaged = (2, {name: raw[:40] for name, raw in sample[1].items()})
    used = empty_media(VIDEO, 3).fill_(7)
    decoded = Decoded({VIDEO: used}, torch.ones(3, dtype=torch.bool), {})
    decode_rows([sample, damaged], [0, 2], [VIDEO], decoded, data.info.media)
    assert decoded.valid_n.tolist() == [True, True, False] and list(decoded.bad_items) == [2]
    fresh, _, _ = decode_items([sample], 1, [VIDEO], data.info.media)
    assert used[0].equal(fresh[VIDEO][0])
    assert (used[1] == 7).all() and not used[2].any()


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_stream_steps_delivers_what_the_process_itself_decodes(
    data: Data, plan: Plan, num_workers: int
) -> None:
    dataset = StepDataset(data, plan, 0, [VIDEO, ID], local_negatives=False)
    steps = []
    for batch in stream_steps(dataset, 1, STEPS, num_workers, False, most_items(plan)):
        assert_equal(batch, dataset[batch.step])
        assert batch.bytes_read > 0
        steps.append(batch.step)
    assert steps == list(range(1, STEPS))


def test_stream_steps_worker_n_decodes_the_nth_run_of_items(
    dataset: StepDataset, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_worker(
        members: Mapping[str, bytes], spec: InputSpec, media: Any, item: int, out: np.ndarray
    ) -> None:
        worker = get_worker_info()
        assert worker is not None
        out[:] = 1 + worker.id

    replace_video_decoder(monkeypatch, write_worker)
    for batch in stream_steps(dataset, 0, STEPS, 3, False, most_items(plan)):
        expected = np.repeat([1, 2, 3], shares(len(batch.items_O), 3))
        media = batch.media[VIDEO].flatten(1)
        assert media.amin(1).tolist() == media.amax(1).tolist() == expected.tolist()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_stream_steps_never_overwrites_a_step_in_training(
    dataset: StepDataset, plan: Plan, num_workers: int
) -> None:
    for batch in stream_steps(dataset, 0, STEPS, num_workers, False, most_items(plan)):
        # Much longer than the workers take for all further steps.
        time.sleep(0.1)
        assert batch.media[VIDEO].equal(dataset[batch.step].media[VIDEO])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stream_steps_of_a_larger_step_gets_a_larger_region(
    dataset: StepDataset, plan: Plan, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    class CountedRegion(MediaRegion):
        def __init__(self, inputs: Any, most_items: int, num_steps: int) -> None:
            rows.append(most_items)
            super().__init__(inputs, most_items, num_steps)

    monkeypatch.setattr(step_stream, "MediaRegion", CountedRegion)
    for batch in stream_steps(dataset, 0, STEPS, num_workers, False, most_items=3):
        assert_equal(batch, dataset[batch.step])
    first = len(plan.step(0).items_U)
    assert rows[:2] == [3, first + first // step_stream.GROWTH] and len(rows) < 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stream_steps_leaves_rows_of_cached_items_as_they_are(
    data: Data, plan: Plan, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = CachedItems.none_of(data.catalogue.size, frozenset([VIDEO]))
    cached.cached_N1[1::2] = True
    dataset = StepDataset(data, plan, 0, [VIDEO, ID], local_negatives=False, cached_items=cached)
    whole = StepDataset(data, plan, 0, [VIDEO, ID], local_negatives=False)

    class FilledRegion(MediaRegion):
        def __init__(self, inputs: Any, most_items: int, num_steps: int) -> None:
            super().__init__(inputs, most_items, num_steps)
            self._bytes.fill_(7)

    monkeypatch.setattr(step_stream, "MediaRegion", FilledRegion)
    for batch in stream_steps(dataset, 0, 1, num_workers, False, most_items(plan)):
        assert batch.cached_O is not None
        assert batch.cached_O.equal(batch.items_O % 2 == 1)
        video = batch.media[VIDEO]
        expected = whole[batch.step]
        assert (video[batch.cached_O] == 7).all()
        assert video[~batch.cached_O].equal(expected.media[VIDEO][~batch.cached_O])
        assert batch.media[ID].equal(batch.items_O) and batch.valid_O.all()
        assert 0 < batch.bytes_read < expected.bytes_read


def test_stream_steps_replaces_a_killed_worker_with_identical_batches(
    dataset: StepDataset, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = decoders.DECODERS[Modality.VIDEO].decode
    expected = [dataset[step] for step in range(STEPS)]
    decoded = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)
    killed = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)

    def kill_once(
        members: Mapping[str, bytes], spec: InputSpec, media: Any, item: int, out: np.ndarray
    ) -> None:
        worker = get_worker_info()
        assert worker is not None
        if worker.id == 1 and not killed[0]:
            decoded[0] += 1
            if decoded[0] == len(expected[0].items_O):
                # In the middle of a step.
                killed[0] = 1
                os.kill(os.getpid(), signal.SIGKILL)
        original(members, spec, media, item, out)

    replace_video_decoder(monkeypatch, kill_once)
    steps = []
    for batch in stream_steps(dataset, 0, STEPS, 2, False, most_items(plan)):
        assert_equal(batch, expected[batch.step])
        steps.append(batch.step)
    assert killed[0] == 1 and steps == list(range(STEPS))


def test_batch_of_a_worker_has_small_tensors_without_descriptors(
    dataset: StepDataset, plan: Plan
) -> None:
    for batch in stream_steps(dataset, 0, 2, 1, False, most_items(plan)):
        tensors = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
        assert tensors and not any(tensor.is_shared() for tensor in tensors)


def pretend_cuda(monkeypatch: pytest.MonkeyPatch, error: int) -> list[tuple[str, int]]:
    """Replace the CUDA runtime by one that returns `error`, and return the calls of it."""
    calls: list[tuple[str, int]] = []

    def register(address: int, num_bytes: int, flags: int) -> int:
        calls.append(("register", num_bytes))
        return error

    def unregister(address: int) -> int:
        calls.append(("unregister", 0))
        return 0

    def check_error(code: int) -> None:
        if code:
            raise RuntimeError(f"out of memory ({code})")

    runtime = SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=unregister)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch.cuda, "check_error", check_error)
    monkeypatch.setattr(media_region, "_clear_cuda_error", lambda: None)
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: batch)
    return calls


def test_stream_steps_for_a_gpu_locks_the_region_once(
    dataset: StepDataset, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = pretend_cuda(monkeypatch, error=0)
    rows = most_items(plan)
    step_bytes = -(-rows * item_bytes([VIDEO]) // 64) * 64
    batches = stream_steps(dataset, 0, STEPS, 2, True, rows)
    next(batches)
    assert calls == [("register", 2 * step_bytes)]
    for _ in batches:
        pass
    assert calls == [("register", 2 * step_bytes), ("unregister", 0)]


def test_stream_steps_whose_pages_cannot_be_locked_warns_and_goes_on(
    dataset: StepDataset,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = pretend_cuda(monkeypatch, error=2)
    with caplog.at_level(logging.WARNING):
        steps = len(list(stream_steps(dataset, 0, STEPS, 0, True, most_items(plan))))
    assert steps == STEPS and [name for name, _ in calls] == ["register"]
    assert "MB of media in memory (out of memory (2)); copies to the GPU will block" in caplog.text


FRAMES = InputSpec(Modality.VIDEO, frames=16, size=224)


@pytest.mark.parametrize(("ranks", "media_gb"), [(1, 9.63), (8, 1.20)])
def test_host_bytes_of_480_users_with_frames_are_two_steps(ranks: int, media_gb: float) -> None:
    # 480 users of MicroLens have about 2,000 distinct items.
    item = item_bytes([FRAMES])
    assert item == 16 * 224 * 224 * 3
    for workers in (1, 2, 12):
        rank_bytes = host_bytes(item, 2000 // ranks, workers, 19_220 // ranks, 64, on_gpu=True)
        assert rank_bytes.media == 2 * (2000 // ranks) * item
        assert rank_bytes.media / 1e9 == pytest.approx(media_gb, abs=0.005)
        assert rank_bytes.chunks == (2 * workers + 1) * 64 * item
        assert rank_bytes.pinned == (2 * workers + 1) * (256 << 20)
        assert rank_bytes.total == rank_bytes.media + rank_bytes.chunks + rank_bytes.pinned


def test_host_bytes_without_workers_and_gpu_are_one_step() -> None:
    assert host_bytes(100, 20, 0, 50, 8, on_gpu=False) == HostBytes(1, 2000, 0, 0)
    # Chunks hold no more items than there are.
    assert host_bytes(100, 20, 3, 50, 8, on_gpu=False) == HostBytes(2, 4000, 5000, 0)
    assert host_bytes(0, 20, 3, 50, 8, on_gpu=True) == HostBytes(2, 0, 0, 0)


def test_check_host_memory_names_sizes_and_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "free_host_bytes", lambda: 30e9)
    monkeypatch.setattr(host_memory, "check_shared_memory", lambda rank_bytes, ranks: None)
    rank_bytes = HostBytes(steps=2, media=12 * 10**9, chunks=4 * 10**8, pinned=0)
    check_host_memory(rank_bytes, ranks=2)
    with pytest.raises(RuntimeError) as caught:
        check_host_memory(rank_bytes, ranks=3)
    assert str(caught.value) == (
        "Cannot hold the loader's batches in host memory: they take 37.20 GB for 3 ranks of this "
        "machine, and 30.00 GB are free. Each rank takes: 2 steps of media 12.00 GB, "
        "evaluation 400.0 MB of /dev/shm. Lower train.global_batch, data.num_workers or "
        "item.chunk, or spread the ranks over more machines"
    )


def test_check_shared_memory_names_sizes_and_remedies() -> None:
    with pytest.raises(RuntimeError, match=r"up to 2,000,000,000 MB in /dev/shm \(2 ranks\)"):
        check_shared_memory(10**15, ranks=2)


def test_jpeg_is_decoded_to_where_it_is_wanted(data: Data) -> None:
    raw = data.store.read(3, ["0.jpg"])["0.jpg"]
    out = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    assert decode_jpeg(raw, 32, out=out[1]) is not None
    assert not out[0].any() and (out[1] == decode_jpeg(raw, 32)).all()
    smaller = np.zeros((16, 16, 3), dtype=np.uint8)
    assert (decode_jpeg(raw, 32, 16, smaller) == smaller).all() and smaller.any()
