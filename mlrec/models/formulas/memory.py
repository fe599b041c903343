"""Formulas for the memory of a rank (bytes)."""

from __future__ import annotations

from dataclasses import dataclass

MOMENTS_BYTES = 8
"""AdamW's two moments of a parameter in fp32 (bytes)."""
MASTER_WEIGHT_BYTES = 4
"""A parameter's fp32 copy, which the optimizer updates (bytes)."""
AVERAGE_BYTES = 4
"""A parameter's moving average in fp32 (bytes)."""
LATER_BYTES = 12
"""Memory that a trained parameter takes from the first step on (bytes): gradient and AdamW's two
moments in fp32, without ZeRO."""
CONTEXT_BYTES = 600 << 20
"""CUDA context with the kernels of torch, cuBLAS and cuDNN (bytes). A nominal figure, since none
was measured: drivers and GPUs differ by some 100 MB."""
COMMUNICATION_BYTES = 400 << 20
"""Buffers of NCCL on several ranks (bytes), nominal as well."""
FRAGMENTATION = 0.06
"""Share of the activations that torch's allocator holds in addition, for blocks that do not fit
and workspaces of convolutions. It is nominal."""


@dataclass(frozen=True)
class StateBytes:
    """Memory that a rank holds between its steps (bytes)."""

    parameters: int
    gradients: int
    bucket: int
    """Buffer for gradients that are sent to the other ranks."""
    optimizer: int
    """Moments, and the fp32 copy of the weights from ZeRO stage 1 on."""
    averages: int
    """Moving averages of the weights (train.ema)."""
    gathered: int
    """Parameters of other ranks that stay gathered at ZeRO stage 3."""

    def on_device(self, offload_optimizer: bool) -> int:
        """Return the part on the device; an offloaded optimizer is in host memory."""
        total = self.parameters + self.gathered + self.gradients + self.bucket
        return total if offload_optimizer else total + self.optimizer + self.averages


@dataclass(frozen=True)
class Partition:
    """How the ranks share parameters, gradients and optimizer state."""

    ranks: int
    stage: int
    """ZeRO stage."""
    width: int
    """Size of a parameter in training (bytes)."""
    bucket_elements: int
    """Gradients that are sent at a time, from stage 1 on."""
    gathered_elements: int
    """Most parameters that stay gathered at stage 3."""
    has_averages: bool
    offload_optimizer: bool

    def share(self, size: int, first_stage: int) -> int:
        """Return a rank's share of what ZeRO partitions from a stage on."""
        return -(-size // self.ranks) if self.stage >= first_stage else size


def state_bytes(trained: int, total: int, in_tables: int, partition: Partition) -> StateBytes:
    """Return what a rank holds between its steps.

    parameters = width * total            partitioned at stage 3
    gradients  = width * trained          partitioned from stage 2 on
    optimizer  = 8 * trained              partitioned from stage 1 on, and then 12 * trained
    averages   = 4 * trained              partitioned as the optimizer
    bucket     = width * bucket_elements  from stage 1 on
    gathered   = width * min(total, gathered_elements) at stage 3

    ZeRO partitions as in Rajbhandari et al., 2020. From stage 1 on DeepSpeed keeps a copy of the
    weights in fp32, in fp32 training too. Rows of shared tables of ids are partitioned at any
    stage, and only those of a step have a gradient: their fp32 weights are all that they have.

    Args:
        trained: number of trained parameters.
        total: number of all parameters.
        in_tables: number of trained parameters in tables of ids that the ranks share.
    """
    trained -= in_tables
    total -= in_tables
    own_rows = -(-in_tables // partition.ranks)
    row_weights = MASTER_WEIGHT_BYTES * own_rows
    row_moments = MOMENTS_BYTES * own_rows
    if partition.offload_optimizer:
        # The weights lie next to their moments.
        row_weights, row_moments = 0, row_weights + row_moments
    optimizer_bytes = MOMENTS_BYTES + (MASTER_WEIGHT_BYTES if partition.stage >= 1 else 0)
    averages = 0
    if partition.has_averages:
        averages = AVERAGE_BYTES * (partition.share(trained, 1) + own_rows)
    gathered = 0
    if partition.stage == 3 and partition.ranks > 1:
        gathered = partition.width * min(total, partition.gathered_elements)
    return StateBytes(
        parameters=partition.share(partition.width * total, 3) + row_weights,
        gradients=partition.share(partition.width * trained, 2),
        bucket=partition.width * partition.bucket_elements if partition.stage >= 1 else 0,
        optimizer=partition.share(optimizer_bytes * trained, 1) + row_moments,
        averages=averages,
        gathered=gathered,
    )


@dataclass(frozen=True)
class StepBytes:
    """Memory that a step takes on a rank, besides the state (bytes)."""

    held: float
    """Activations held until the backward pass."""
    chunk: float
    """A chunk in its forward and backward pass, besides what it holds as one of `held`. The media
    of its items are among it."""
    gradient_sums: float
    """Sums of the item tower's gradients over the chunks, which ZeRO partitions after the last."""
    recommender: float
    """Item vectors, states and the loss in parts, forward and backward."""
    rows: float = 0.0
    """Rows of the step's items in shared tables of ids, and their gradient."""

    @property
    def most(self) -> float:
        """The most at a time.

        The recommender runs after all chunks' forward passes, and before their backward passes.
        """
        return self.rows + self.held + max(self.chunk + self.gradient_sums, self.recommender)


@dataclass(frozen=True)
class RankingBytes:
    """Memory that a validation takes on a rank, besides the state (bytes)."""

    scores: float
    """Scores of a chunk of users for all items, fp32."""
    comparisons: float
    """Buffer in which scores are compared with those of the targets."""
    vectors: float
    """Vectors of all items: in fp32, and as the recommender reads them."""

    @property
    def most(self) -> float:
        """The sum, as all parts are alive at a time."""
        return self.scores + self.comparisons + self.vectors


def ranking_bytes(
    users: int, items: int, vector_width: int, width: int, compared_values: int
) -> RankingBytes:
    """Return what a validation takes while it ranks a chunk of users.

    scores      = 4 * users * items
    comparisons = 4 * max(items, compared_values)
    vectors     = (4 + width) * items * vector_width, and 4 * items * vector_width in bf16

    These are the tensors that mlrec.evaluation.ranking holds. In bf16 the scores' product reads an
    fp32 copy of the recommender's vectors.

    Args:
        users: ranked at a time on a rank (evaluate.user_chunk).
        vector_width: D of the item vectors.
        width: size of a value in training (bytes).
        compared_values: scores that are compared at a time on the device.
    """
    values = items * vector_width
    copy_bytes = 4 if width < 4 else 0
    return RankingBytes(
        scores=4.0 * users * items,
        comparisons=4.0 * max(items, compared_values),
        vectors=float((4 + width + copy_bytes) * values),
    )


def allowance_bytes(most: float, ranks: int, on_gpu: bool) -> float:
    """Return the memory that no tensor takes: context, communication and fragmentation.

    context + (communication, on several ranks) + 6 % of `most`; 0 on a CPU, where the
    interpreter's memory is not the run's.

    Args:
        most: memory of the larger of a step and a validation, besides the state.
    """
    if not on_gpu:
        return 0.0
    communication = COMMUNICATION_BYTES if ranks > 1 else 0
    return CONTEXT_BYTES + communication + FRAGMENTATION * most
