"""Forecast runs of one model: what each configuration and machine makes of the model's costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mlrec.config import Config
from mlrec.config.durations import steps_of
from mlrec.data.decode import item_bytes
from mlrec.data.format import MediaInfo
from mlrec.data.host_memory import loader_bytes
from mlrec.data.schema import InputSpec, Modality
from mlrec.models import chunk_choice
from mlrec.models.building import training_dtype
from mlrec.models.chunk_choice import ChunkChoice
from mlrec.models.formulas import (
    ACTIVATION_SHARE,
    LATER_BYTES,
    Partition,
    RankingBytes,
    StateBytes,
    StepBytes,
    StepSeconds,
    allowance_bytes,
    decode_s,
    exchange_bytes,
    exchange_s,
    host_copy_s,
    optimizer_s,
    ranking_bytes,
    state_bytes,
)
from mlrec.models.pass_cost import PassCost, Rates
from mlrec.runtime.flops import ELEMENTWISE_VALUES
from mlrec.train.deepspeed_config import deepspeed_config, gathered_elements, zero_stage
from mlrec.train.forecast import Forecast, HostMemory, Memory, ModelCost, StepWork, Time
from mlrec.train.machine import Machine
from mlrec.train.workload import Workload


@dataclass(frozen=True)
class Forecaster:
    """Everything that forecasts of one model share, whatever the machine and the chunks."""

    cost: ModelCost
    recommender: Callable[[int], PassCost]
    """Function that returns the cost of a rank's recommender and loss, for a number of ranks."""
    workload: Workload
    specs: tuple[InputSpec, ...]
    media: MediaInfo | None
    """Media of the data set; None if they are those that the encoders read."""
    nominal_rates: Rates
    """Rates by which item.chunk=auto chooses."""
    users: int
    """Users that a validation ranks."""

    def forecast(self, config: Config, machine: Machine) -> Forecast:
        """Return the forecast of a run on these machines.

        Args:
            config: of a run whose model has the costs of this forecaster.
        """
        partition = self._partition(config, machine.ranks)
        state = state_bytes(self.cost.trained, self.cost.total, self.cost.in_tables, partition)
        choice = self._choose(config, machine, state)
        step = self._step_bytes(config, choice, partition)
        ranking = self._ranking_bytes(config, machine, partition)
        most = max(step.most, ranking.most)
        memory = Memory(
            state=state,
            offload_optimizer=config.zero.offload_optimizer and machine.on_gpu,
            step=step,
            ranking=ranking,
            allowance=allowance_bytes(most, machine.ranks, machine.on_gpu),
            device=machine.device,
            device_bytes=machine.memory_bytes,
        )
        later_share = self._later_share(config, machine)
        return Forecast(
            config=config,
            machine=machine,
            workload=self.workload,
            cost=self.cost,
            choice=choice,
            memory=memory,
            host=self._host(config, machine, choice, state),
            cached_share=later_share,
            first_epoch=self._work(machine, choice, 0.0),
            later_epochs=self._work(machine, choice, later_share),
            time=self._time(config, machine, choice, partition, later_share)
            if machine.rates
            else None,
        )

    def _work(self, machine: Machine, choice: ChunkChoice, cached_share: float) -> StepWork:
        """Return the arithmetic and kernels of a mean step.

        Args:
            cached_share: share of the items whose frozen stages are read from the cache.
        """
        items = self.workload.items_per_step / machine.ranks
        passes = _Passes.of(items, choice, self.cost.trains_tower)
        tower = self.cost.tower
        forward_flops = (1 - cached_share) * tower.forward_flops(passes.items)
        forward_flops += cached_share * tower.forward_flops(passes.items, trained_only=True)
        flops = passes.forward * forward_flops
        flops += passes.backward * tower.backward_flops(passes.items)
        forward = tower.large.trained_forward if cached_share == 1 else tower.large.forward
        kernels = passes.forward * forward.kernels + passes.backward * tower.large.backward.kernels
        recommender = self.recommender(machine.ranks)
        own_flops = machine.ranks * (recommender.forward.flops + recommender.backward.flops)
        own_kernels = recommender.forward.kernels + recommender.backward.kernels
        is_known = recommender.counts_work
        return StepWork(
            tower_flops=machine.ranks * flops,
            recommender_flops=own_flops if is_known else None,
            kernels=kernels + own_kernels if is_known else None,
        )

    def _host(
        self, config: Config, machine: Machine, choice: ChunkChoice, state: StateBytes
    ) -> HostMemory:
        items = self.workload.catalogue
        loader = loader_bytes(
            self.specs,
            choice.items,
            config.data.num_workers,
            items,
            machine.ranks,
            choice.chunk,
            machine.on_gpu,
        )
        # A rank caches the items that it owns.
        all_bytes = self.cost.cached_item_bytes * items / machine.ranks
        offloaded = state.optimizer + state.averages
        return HostMemory(
            loader=loader,
            activation_cache=min(config.item.prefix_cache_bytes, all_bytes),
            optimizer=offloaded if config.zero.offload_optimizer else 0,
            ranks_per_node=machine.ranks_per_node,
        )

    def _partition(self, config: Config, ranks: int) -> Partition:
        trained = self.cost.trained - self.cost.in_tables
        zero = deepspeed_config(config, ranks, trained)["zero_optimization"]
        return Partition(
            ranks=ranks,
            stage=zero_stage(config, ranks),
            width=training_dtype(config).itemsize,
            bucket_elements=zero["reduce_bucket_size"],
            gathered_elements=gathered_elements(config, self.cost.largest),
            has_averages=config.train.ema > 0,
            offload_optimizer=config.zero.offload_optimizer,
        )

    def _choose(self, config: Config, machine: Machine, state: StateBytes) -> ChunkChoice:
        """Return the chunks that a run would choose, by the memory that is free at its start."""
        # Gradients and moments come with the first step.
        coming_bytes = LATER_BYTES * (self.cost.trained - self.cost.in_tables)
        context_bytes = allowance_bytes(0.0, machine.ranks, machine.on_gpu)
        free_bytes = machine.free_bytes - context_bytes - state.parameters
        room_bytes = ACTIVATION_SHARE * (free_bytes - coming_bytes)
        items = self.workload.most_items_of_rank(machine.ranks)
        return chunk_choice.choose(config, self.cost.tower, items, room_bytes, self.nominal_rates)

    def _step_bytes(self, config: Config, choice: ChunkChoice, partition: Partition) -> StepBytes:
        tower = self.cost.tower
        largest = -(-choice.items // choice.chunks)
        saved_bytes = tower.saved_bytes(largest)
        peak_bytes = tower.peak_bytes(largest)
        held = choice.held_chunks if self.cost.trains_tower else choice.chunks
        # A chunk in its backward pass is one of the held ones, if there are any.
        chunk_bytes = peak_bytes - saved_bytes if held else peak_bytes
        vector_bytes = self.workload.most_items * config.recommender.width * partition.width
        gradient_sums = 0
        if partition.stage >= 2 and choice.chunks > 1:
            gradient_sums = partition.width * (self.cost.trained_in_tower - self.cost.in_tables)
        # All ranks hold the rows of all items, and their gradient in fp32.
        row_bytes = (partition.width + 4) * self.workload.most_items * self.cost.table_width
        return StepBytes(
            rows=row_bytes,
            held=held * saved_bytes,
            # The gradient of all items' vectors is alive, and that of the rank's own.
            chunk=chunk_bytes + (1 + 1 / partition.ranks) * vector_bytes,
            gradient_sums=gradient_sums,
            recommender=self.recommender(partition.ranks).peak_bytes,
        )

    def _ranking_bytes(
        self, config: Config, machine: Machine, partition: Partition
    ) -> RankingBytes:
        return ranking_bytes(
            users=min(config.evaluate.user_chunk, -(-self.users // partition.ranks)),
            items=self.workload.catalogue,
            vector_width=config.recommender.width,
            width=partition.width,
            compared_values=ELEMENTWISE_VALUES["cuda" if machine.on_gpu else "cpu"],
        )

    def _time(
        self,
        config: Config,
        machine: Machine,
        choice: ChunkChoice,
        partition: Partition,
        later_share: float,
    ) -> Time:
        first = self._step_s(config, machine, choice, partition, 0.0)
        later = self._step_s(config, machine, choice, partition, later_share)
        workload = self.workload
        first_steps = min(workload.total_steps, workload.steps_per_epoch)
        later_steps = workload.total_steps - first_steps
        steps_s = first_steps * first.step + later_steps * later.step
        every = steps_of(
            config.train.evaluate_every, workload.steps_per_epoch, workload.total_steps
        )
        # One more ranks the final split.
        validations = 1 + math.ceil(workload.total_steps / max(1, every))
        cached_share = self._cached_share(config, machine)
        validation_s = self._validation_s(config, machine, choice, cached_share)
        run_s = steps_s + validations * validation_s
        gpu_hours = machine.ranks * run_s / 3600
        return Time(
            first_epoch=first,
            later_epochs=later,
            validation_s=validation_s,
            validations=validations,
            epoch_s=steps_s / max(workload.epochs, 1e-9),
            run_s=run_s,
            gpu_hours=gpu_hours,
            usd=gpu_hours * machine.usd_per_hour,
        )

    def _step_s(
        self,
        config: Config,
        machine: Machine,
        choice: ChunkChoice,
        partition: Partition,
        cached_share: float,
    ) -> StepSeconds:
        """Return the time of a mean step.

        Args:
            cached_share: share of the items whose frozen stages are read from the cache.
        """
        rates = machine.rates
        assert rates is not None
        recommender = self.recommender(machine.ranks)
        recommend_s = recommender.forward.seconds(rates) + recommender.backward.seconds(rates)
        items = self.workload.items_per_step / machine.ranks
        passes = _Passes.of(items, choice, self.cost.trains_tower)
        tower = self.cost.tower
        forward_s = (1 - cached_share) * tower.forward_s(passes.items, rates)
        forward_s += cached_share * tower.forward_s(passes.items, rates, trained_only=True)
        encode_s = passes.forward * forward_s
        encode_s += passes.backward * tower.backward_s(passes.items, rates)
        read_items = (1 - cached_share) * items
        if machine.on_gpu:
            encode_s += host_copy_s(
                read_items * item_bytes(self.specs)
                + cached_share * items * self.cost.cached_item_bytes
            )
        vector_bytes = self.workload.items_per_step * config.recommender.width * partition.width
        received = exchange_bytes(
            vector_bytes,
            gradient_bytes=partition.width * (self.cost.trained - self.cost.in_tables),
            weight_bytes=partition.width * self.cost.total,
            stage=partition.stage,
            passes=passes.forward + passes.backward,
        )
        on_rank = partition.share(self.cost.trained - self.cost.in_tables, 1)
        return StepSeconds(
            encode=encode_s,
            recommend=recommend_s if recommender.counts_work else None,
            exchange=exchange_s(
                received, machine.ranks, machine.nodes, machine.interconnect_bytes_per_s
            ),
            optimizer=optimizer_s(on_rank, rates.bytes_per_s),
            load=decode_s(read_items, self._decoded_pixels(config), config.data.num_workers),
            loads_ahead=config.data.num_workers > 0,
        )

    def _validation_s(
        self, config: Config, machine: Machine, choice: ChunkChoice, cached_share: float
    ) -> float:
        """Return the time to encode the catalogue, without a gradient, and to rank the users."""
        rates = machine.rates
        assert rates is not None
        items = self.workload.catalogue / machine.ranks
        chunk = min(choice.chunk, items)
        tower = self.cost.tower
        chunk_s = (1 - cached_share) * tower.forward_s(chunk, rates)
        chunk_s += cached_share * tower.forward_s(chunk, rates, trained_only=True)
        encode_s = items / chunk * chunk_s
        products = 2.0 * self.users * self.workload.catalogue * config.recommender.width
        rank_s = products / machine.ranks / rates.flops_per_s
        read_items = (1 - cached_share) * items
        load_s = decode_s(read_items, self._decoded_pixels(config), config.data.num_workers)
        if config.data.num_workers:
            return max(encode_s, load_s) + rank_s
        return encode_s + load_s + rank_s

    def _later_share(self, config: Config, machine: Machine) -> float:
        """Return the share of items with cached activations after the first epoch, if any is."""
        if self.workload.total_steps <= self.workload.steps_per_epoch:
            return 0.0
        return self._cached_share(config, machine)

    def _cached_share(self, config: Config, machine: Machine) -> float:
        """Return the share of all items that the ranks' activation caches hold together."""
        if not self.cost.cached_item_bytes:
            return 0.0
        needed = self.cost.cached_item_bytes * self.workload.catalogue
        return min(1.0, machine.ranks * config.item.prefix_cache_bytes / needed)

    def _decoded_pixels(self, config: Config) -> int:
        """Return the pixels of an item's JPEG frames and cover that a loader decodes."""
        if config.data.decode_on == "device":
            return 0
        pixels = 0
        for spec in dict.fromkeys(self.specs):
            # JPEGs that the device decodes cost the loader no time.
            if spec.modality not in (Modality.VIDEO, Modality.COVER) or spec.jpegs is not None:
                continue
            frames = spec.frames
            size = spec.size
            if self.media is not None:
                # A frame that an input repeats is decoded once.
                frames = min(frames, self.media.frames)
                size = self.media.size
            pixels += frames * size**2
        return pixels


@dataclass(frozen=True)
class _Passes:
    """Passes over the chunks of a rank's step."""

    items: float
    """Mean items of a chunk."""
    forward: int
    """Forward passes, with those that are recomputed."""
    backward: int

    @staticmethod
    def of(items: float, choice: ChunkChoice, trains_tower: bool) -> _Passes:
        """Return the passes of a step in which a rank encodes this number of items."""
        chunks = max(1, math.ceil(items / choice.chunk))
        recomputed = max(0, chunks - choice.held_chunks) if trains_tower else 0
        return _Passes(items / chunks, chunks + recomputed, chunks)
