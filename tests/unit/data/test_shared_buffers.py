"""Memory of loader workers' batches: two in turn, with nothing left of an earlier one."""

import numpy as np
import pytest
import torch

from mlrec.data.decode import decode_items
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.shared_buffers import BatchMemory
from mlrec.data.stream import Data, StepDataset, stream_steps

VIDEO = InputSpec(Modality.VIDEO, frames=5, size=32)


def test_memory_is_used_again_at_every_second_batch() -> None:
    memory = BatchMemory()
    first, second, third = (
        memory.next_batch().tensor("frames", (4, 3), torch.uint8) for _ in range(3)
    )
    assert first.is_shared() and first.data_ptr() == third.data_ptr() != second.data_ptr()
    larger = memory.next_batch().tensor("frames", (9, 3), torch.int64)
    assert larger.shape == (9, 3) and larger.data_ptr() not in (first.data_ptr(), second.data_ptr())


def test_unreadable_items_leave_zeros_in_used_memory(data: Data) -> None:
    memory = BatchMemory()
    for _ in range(2):
        memory.next_batch().tensor(VIDEO, (2, 5, 32, 32, 3), torch.uint8).fill_(7)
    sample = next(iter(data.store.read_many([1], [f"{frame}.jpg" for frame in range(5)])))
    damaged = (
        (2, {name: raw[:40] for name, raw in sample[1].items()})
        if not isinstance(sample[1], str)
        else sample
    )
    media, valid, _ = decode_items(
        [sample, damaged], 2, [VIDEO], data.info.media, memory.next_batch()
    )
    assert valid.tolist() == [True, False] and not media[VIDEO][1].any()
    fresh, _, _ = decode_items([sample, damaged], 2, [VIDEO], data.info.media)
    assert media[VIDEO].equal(fresh[VIDEO])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_deliver_what_the_process_itself_decodes(data: Data, num_workers: int) -> None:
    dataset = StepDataset(
        data, Plan(data.sequences, 0, 18, Owners((1,))), 0, [VIDEO], local_negatives=False
    )
    for batch in stream_steps(dataset, 0, 8, num_workers, pin_memory=False):
        assert batch.media[VIDEO].is_shared() and batch.media[VIDEO].equal(
            dataset[batch.step].media[VIDEO]
        )


def test_jpeg_is_decoded_to_where_it_is_wanted(data: Data) -> None:
    raw = data.store.read(3, ["0.jpg"])["0.jpg"]
    out = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    assert decode_jpeg(raw, 32, out=out[1]) is not None
    assert not out[0].any() and (out[1] == decode_jpeg(raw, 32)).all()
    smaller = np.zeros((16, 16, 3), dtype=np.uint8)
    assert (decode_jpeg(raw, 32, 16, smaller) == smaller).all() and smaller.any()
