"""Clock of a training step: seconds of each part, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from mlrec.data.schema import Batch
from mlrec.models.recommender import ForwardHooks
from mlrec.runtime.distributed import World, max_over_ranks, sum_over_ranks
from mlrec.runtime.flops import now
from mlrec.train.engine import Engine

PARTS = ("wait", "encode", "exchange", "recommend", "optimizer")
"""Parts of a step, in the order of their first use.

wait       the host waits for the batch
encode     the item tower, forward and backward, with the copy of the media to the device
exchange   the exchange of vectors, forward and backward
recommend  recommender and loss, forward and backward
optimizer  the update, with what DeepSpeed does before and after it

Planning is in none of them: it happens in the loader, while the device works on another step.
"""

Encode = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class StepFigures:
    """Figures of the measured steps over all ranks; times are those of the slowest rank."""

    users_per_s: float
    videos_per_s: float
    users_per_step: float
    videos_per_step: float
    slots_per_video: float
    step_s: float
    """Mean seconds per step."""
    cpu_s: float
    """Mean CPU seconds of this process per step, after its batch has arrived."""
    seconds: dict[str, float]
    """Mean seconds per step of each of PARTS."""


@dataclass
class StepTimes:
    """Times and counts of this rank, added up over the measured steps."""

    work_s: list[float] = field(default_factory=list)
    """Seconds of each step after its batch has arrived."""
    cpu_s: list[float] = field(default_factory=list)
    """CPU seconds of this process in the same time, which other work on the cores does not
    change."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    """Seconds of each part."""
    users: int = 0
    videos: int = 0
    """Encoded videos, including padding."""
    slots: int = 0
    """Slots of the users' training sequences, without padding."""
    loss: float = 0.0
    """Loss of the last step."""

    def count(self, batch: Batch, videos: int, loss: torch.Tensor) -> None:
        """Count the users, videos and slots of a step, and keep its loss."""
        self.users += len(batch.users_B)
        self.videos += videos
        self.slots += int((batch.slots() >= 0).sum())
        self.loss = float(loss.detach())

    def reduce(self, world: World) -> StepFigures:
        """Return the figures over all ranks; collective."""
        counts = torch.tensor(
            [self.users, self.videos, self.slots], dtype=torch.float64, device=world.device
        )
        users, videos, slots = sum_over_ranks(counts).tolist()
        # A step ends when its slowest rank is done.
        own_seconds = [sum(self.seconds.values()), *self.seconds.values()]
        slowest = torch.tensor(own_seconds, dtype=torch.float64, device=world.device)
        total_s, *part_seconds = max_over_ranks(slowest).tolist()
        steps = len(self.work_s)
        return StepFigures(
            users_per_s=users / total_s,
            videos_per_s=videos / total_s,
            users_per_step=users / steps,
            videos_per_step=videos / steps,
            slots_per_video=slots / videos,
            step_s=total_s / steps,
            cpu_s=sum(self.cpu_s) / steps,
            seconds={part: s / steps for part, s in zip(PARTS, part_seconds, strict=True)},
        )


class PartClock:
    """Divides the time of a step's work into PARTS."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._times = StepTimes()
        self._last_s = 0.0

    @contextmanager
    def work(self, times: StepTimes) -> Iterator[None]:
        """Add the time of a step, from its batch to its last lap, to `times`."""
        self._times = times
        start_s = self._last_s = now(self.device)
        start_cpu_s = time.process_time()
        yield
        times.work_s.append(self._last_s - start_s)
        times.cpu_s.append(time.process_time() - start_cpu_s)

    def lap(self, part: str) -> None:
        """Add the time since the last lap to `part`."""
        # now() waits for the device first, so that queued kernels count to their own part.
        reached_s = now(self.device)
        self._times.seconds[part] += reached_s - self._last_s
        self._last_s = reached_s


class StepClock(PartClock):
    """Runs optimizer steps of an engine and divides the time of each into PARTS.

    The model calls the clock back where the parts meet: after encoding and after the exchange.
    In the backward pass the gradients of the same two tensors mark the borders.
    """

    def __init__(self, engine: Engine, device: torch.device) -> None:
        super().__init__(device)
        self.engine = engine

    def step(
        self,
        times: StepTimes,
        stream: Iterator[Batch],
        encode: Encode | None = None,
        videos: int | None = None,
    ) -> Batch:
        """Take one optimizer step on the next batch of `stream`, and add its times to `times`.

        Args:
            encode: replacement for the model's own encoding; None for the model's own.
            videos: videos that `encode` encodes; None for the items that this rank owns.
        """
        # A slow loader shows up here, and so does the copy of everything but owned items' media.
        start_s = now(self.device)
        batch = next(stream).to(self.device)
        times.seconds["wait"] += now(self.device) - start_s
        with self.work(times):
            loss = self.engine.forward(batch, ForwardHooks(encode, self._encoded, self._exchanged))
            self.lap("recommend")
            # The hooks of _lap_backward take the laps of recommender and exchange in this call.
            # What is left when it returns is the item tower.
            self.engine.backward(loss)
            self.lap("encode")
            self.engine.update()
            self.lap("optimizer")
        # Reading the loss waits for the device, and therefore comes after the clock.
        times.count(batch, len(batch.valid_O) if videos is None else videos, loss)
        return batch

    def _encoded(self, own_OD: torch.Tensor) -> torch.Tensor:
        self.lap("encode")
        return self._lap_backward("exchange", own_OD)

    def _exchanged(self, items_UD: torch.Tensor) -> torch.Tensor:
        self.lap("exchange")
        return self._lap_backward("recommend", items_UD)

    def _lap_backward(self, part: str, vectors: torch.Tensor) -> torch.Tensor:
        """Return the vectors, with a lap for `part` as soon as their gradient is complete."""
        # On one rank the exchange returns its input. A view keeps the two hooks on two tensors.
        vectors = vectors.view_as(vectors)
        if vectors.requires_grad:
            vectors.register_hook(lambda gradient: self.lap(part))  # type: ignore[no-untyped-call]
        return vectors
