"""Memory of loader workers' batches: two in turn, with nothing left of an earlier one."""

import numpy as np
import pytest
import torch

from mlrec.data.decode import decode_items
from mlrec.data.media.jpeg import decode_jpeg
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.schema import InputSpec, Modality
from mlrec.data.shared_buffers import BatchMemory, ReleasedMemory
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


def test_released_memory_is_used_again_only_when_no_tensor_holds_it() -> None:
    memory = ReleasedMemory()
    first = memory.tensor("frames", (4, 3), torch.int64)
    place = first.data_ptr()
    row = first[2].fill_(7)
    del first
    others = [memory.tensor("frames", (4, 3), torch.int64).fill_(1) for _ in range(5)]
    assert row.tolist() == [7, 7, 7], "a view holds the memory too"
    assert len({row.data_ptr() - 48, *(tensor.data_ptr() for tensor in others)}) == 6
    second = ReleasedMemory()
    place = second.tensor("frames", (4, 3), torch.int64).data_ptr()
    again = second.tensor("frames", (3, 3), torch.int64)
    assert again.data_ptr() == place and again.shape == (3, 3) and not again.is_shared()
    assert second.tensor("frames", (99, 3), torch.int64).shape == (99, 3)
    assert second.tensor("ids", (0,), torch.int64).shape == (0,)


def test_batches_without_workers_keep_their_media_while_they_are_held(data: Data) -> None:
    dataset = StepDataset(
        data, Plan(data.sequences, 0, 18, Owners((1,))), 0, [VIDEO], local_negatives=False
    )
    held = list(stream_steps(dataset, 0, 5, num_workers=0, pin_memory=False))
    for batch in held:
        assert batch.media[VIDEO].equal(dataset[batch.step].media[VIDEO])


def test_batch_pickled_by_a_worker_has_equal_tensors_and_few_descriptors(data: Data) -> None:
    inputs = [VIDEO, InputSpec(Modality.ID)]
    plan = Plan(data.sequences, 0, 18, Owners((1,)))
    dataset = StepDataset(data, plan, 0, inputs, local_negatives=False)
    for batch in stream_steps(dataset, 0, 3, num_workers=1, pin_memory=False):
        expected = dataset[batch.step]
        shared = []
        for name, value in vars(expected).items():
            received = getattr(batch, name)
            if isinstance(value, torch.Tensor):
                assert received.equal(value) and received.dtype == value.dtype
                shared.append(received.is_shared())
            elif name == "media":
                assert list(received) == list(value)
                assert all(received[spec].equal(value[spec]) for spec in value)
                assert batch.media[VIDEO].is_shared() and not batch.media[inputs[1]].is_shared()
            else:
                assert received == value
        assert not any(shared)
