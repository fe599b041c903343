"""The sections of a configuration: frozen dataclasses with the default and meaning of every key.

`mlrec list keys` prints the docstring under each field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlrec.config import bounds
from mlrec.config.checks import check_config
from mlrec.config.encoder_options import EncoderOptions, Tuning
from mlrec.config.metric_names import DEFAULT_CUTOFFS


@dataclass(frozen=True)
class DataConfig:
    """The data set, its cache, and the loader."""

    url: str = ""
    """Location of the packed data set (file path, s3://, http(s)://, gs://, az://)."""
    cache_dir: str = "~/.cache/mlrec"
    """Folder on each node for the sequence table and downloaded shards, shared by all processes
    and jobs of the node."""
    cache_bytes: bounds.Bytes = 100 << 30
    """Disk budget (bytes) for downloaded shards. The least recently used shards are evicted
    first, but never those that the run itself reads."""
    ownership: Literal["balanced", "home"] = "balanced"
    """Rule that assigns the items of a step to ranks. `balanced` gives every rank an equal
    share. `home` prefers the node that caches the item's shard, so each shard is cached on one
    node."""
    balance_slack: bounds.Slack = 0.1
    """Extra share of items that a node may own under ownership=home, as a fraction of its equal
    share."""
    num_workers: bounds.Workers = 2
    """Loader processes per rank. Together they decode the step after the one in training, so host
    memory holds the media of two steps per rank, however many workers there are. Evaluation takes
    two chunks of item.chunk items per worker in /dev/shm. 0 loads in the training process."""
    decode_on: Literal["host", "device"] = "host"
    """Place where JPEG frames and covers are decoded. `device` takes nvJPEG on the GPU, for loaders
    that cannot keep up (mlrec bench loader). It needs pip install 'mlrec[nvjpeg]', and pixels may
    differ by a few levels from those of `host`."""
    max_bad_items: bounds.Tolerated = 100
    """Maximum number of distinct unreadable items; the run stops above it."""


@dataclass(frozen=True)
class ItemConfig:
    """The item tower: encoders, fusion and projection."""

    encoders: tuple[str, ...] = ("id/embedding",)
    """Rows of mlrec list encoders; several encoders are fused. Removing an encoder from the list
    in a later file or on the command line also drops its earlier item.options."""
    options: dict[str, EncoderOptions] = field(default_factory=dict)
    """Changes to each encoder's row, for example {video/videomae: {checkpoint:
    /models/videomae-base}}."""
    fusion: str = "sum"
    """Row of mlrec list fusions, which combines the vectors of several encoders."""
    tuning: Tuning = "full"
    """Trained part of the encoders, a row of mlrec list tunings: `frozen` trains nothing, `side` a
    small network over the hidden states of all stages, `lora` low-rank updates of the weights,
    `top` the last stage, `half` the deeper half, `full` everything, `scratch` everything from
    random weights."""
    inter_modal: bool = False
    """Side network across all encoders with side networks: it mixes their stages of equal depth,
    and its vector joins the fusion."""
    batchnorm: Literal["frozen", "sync"] = "frozen"
    """Mode of batch norms. `frozen` uses the checkpoint's statistics; `sync` trains them with
    statistics over all ranks."""
    chunk: Literal["auto"] | bounds.Items = "auto"
    """Items encoded at a time on each rank. `auto` takes as many as keep the device busier than the
    host that launches its kernels, if their activations fit in memory."""
    checkpoint: Literal["auto", "always", "never"] = "auto"
    """Activation checkpointing per chunk. `auto` holds the activations of as many chunks as fit in
    memory, and recomputes those of the others."""
    prefix_cache_bytes: bounds.Bytes = 4 << 30
    """Host memory per rank (bytes) for cached activations of the frozen stages, which are then
    computed once per item and run; 0 disables the cache."""


@dataclass(frozen=True)
class RecommenderConfig:
    """The recommender, which scores items for users."""

    name: str = "sasrec"
    """Row of mlrec list recommenders. Naming another recommender in a later file or on the
    command line drops the earlier recommender.options."""
    width: bounds.Width = 64
    """Width D of item vectors and user states."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further parameters of the recommender, for example {layers: 2, heads: 2, dropout: 0.1};
    mlrec list recommenders has their defaults."""
    cosine: bool = False
    """Scoring by cosine similarity of user state and item vector instead of their dot product,
    so popular items gain nothing from longer vectors. Use with a loss.temperature near 0.07.
    dssm and decayed_mean always use it."""


@dataclass(frozen=True)
class LossConfig:
    """The training objective."""

    name: str = "in_batch_softmax"
    """Row of mlrec list losses."""
    negatives: Literal["global", "local"] = "global"
    """Source of in-batch negatives. `global` takes the items of all ranks, `local` those of the
    rank's own users, as MicroLens' trainer does."""
    multiplicity: bool = False
    """Counting of an item that occurs c times as c candidates, as MicroLens' loss does; false
    counts it once."""
    logq: bool = True
    """LogQ correction of the in-batch and sampled softmax. With it, scores estimate
    log-probabilities, which favors popular items. Without it, scores are relative to popularity,
    which favors cold-start items."""
    sampled: bounds.Candidates = 100
    """Number of candidates drawn per position by the loss sampled_softmax."""
    temperature: bounds.Temperature = 1.0
    """Divisor of all scores in the loss."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with separate learning rates for recommender and encoders, and a schedule."""

    lr: bounds.LearningRate = 1e-3
    """Peak learning rate of the recommender."""
    encoder_lr: bounds.LearningRate = 1e-4
    """Peak learning rate of the encoders."""
    layer_decay: bounds.LayerDecay = 1.0
    """Factor on the learning rate from each encoder stage to the one before it; 1 disables it.
    The last stage has encoder_lr, and with 0.8 the stage before it 0.8 of that."""
    weight_decay: bounds.WeightDecay = 0.1
    """Weight decay of the recommender's matrices; biases, norms and position tables have none."""
    encoder_weight_decay: bounds.WeightDecay = 0.0
    """Weight decay of the encoders' matrices; 0 disables it."""
    betas: tuple[bounds.Decay, bounds.Decay] = (0.9, 0.999)
    """Decay rates of AdamW's running means of the gradient and of its square."""
    eps: bounds.Epsilon = 1e-8
    """Constant that AdamW adds to the denominator of its update."""
    clip_norm: bounds.Norm = 5.0
    """Maximum norm of the gradient over all parameters; 0 disables clipping."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Learning rate after warm-up: `constant`, `cosine` to 0, or `step`, which divides it by 10
    after each third of the run."""
    warmup: str = "0 steps"
    """Length of the linear warm-up: "100 steps", "1 epoch" or "5%" of the run."""


@dataclass(frozen=True)
class ZeroConfig:
    """DeepSpeed ZeRO."""

    stage: Literal["auto", 0, 1, 2, 3] = "auto"
    """ZeRO stage: 0 partitions nothing over the ranks, 1 the optimizer state, 2 also gradients,
    3 also parameters. auto is 2, or 0 on a single rank in fp32 or tf32, where ZeRO would only copy
    weights and gradients."""
    offload_optimizer: bool = False
    """Placement of the optimizer state in host memory; needs zero.stage 1, 2 or 3."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further keys of DeepSpeed's zero_optimization section."""


@dataclass(frozen=True)
class TrainConfig:
    """Length of the run, size of a step, and what happens how often."""

    start_from: str = ""
    """Folder of a run for a warm start: its best weights initialize the parameters of the same
    names; empty for none. A run on frozen features can warm-start one that also trains the
    encoder."""
    duration: str = "20 epochs"
    """Length of the run: "20 epochs" or "1000 steps"."""
    global_batch: bounds.Users = 512
    """Maximum number of users per step over all ranks; each epoch is split into steps of nearly
    equal size."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Data type of weights, activations and gradients. `auto` is bf16 on GPUs that support it,
    unless zero.stage is 0, and fp32 elsewhere; the run saves what it was. With `bf16` the optimizer
    keeps fp32 weights, which needs zero.stage 1, 2 or 3. `tf32` is fp32 with matrix products and
    convolutions in TF32, on GPUs of compute capability 8.0 or higher."""
    log_every: str = "10 steps"
    """Interval between log lines with loss, speed and loader figures: a number of steps or
    epochs, or "5%" of the run."""
    evaluate_every: str = "1 epoch"
    """Interval between rankings of the validation split; each new best by evaluate.select_by is
    saved."""
    patience: bounds.Patience = 0
    """Number of validations without a new best after which the run stops early and is complete;
    0 disables early stopping. optim.schedule still counts over train.duration, so a cosine
    then ends above 0."""
    save_every: str = "1 epoch"
    """Interval between checkpoints for resuming."""
    max_skipped_steps: bounds.Steps = 10
    """Maximum number of consecutive skipped steps; the run stops when it is reached. Steps with
    a non-finite loss or gradient are skipped and counted in train/skipped_steps."""
    ema: bounds.Decay = 0.0
    """Decay of an exponential moving average of the trained weights, such as 0.999; 0 disables it.
    Validation, test, export and warm starts use the averaged weights. The decay after t updates
    is min(ema, (1 + t) / (10 + t)). Statistics of batch norms are not averaged."""
    keep_last: bounds.Checkpoints = 2
    """Number of newest checkpoints to keep, in addition to the best by validation."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Full ranking."""

    cutoffs: tuple[bounds.CutOff, ...] = DEFAULT_CUTOFFS
    """Cut-offs K of HR@K and NDCG@K, ascending. The paper's tables need 10 and 20."""
    select_by: str = "hr@10"
    """Metric on the validation split that selects the best checkpoint: hr@K or ndcg@K at one of
    evaluate.cutoffs, or mrr."""
    users: bounds.SampledUsers = 0
    """Users ranked by each validation during training, a fixed sample drawn by the seed; 0 ranks
    all. The test split and mlrec evaluate always rank all users."""
    final_split: Literal["test", "validation"] = "test"
    """Split ranked with the best checkpoint at the end of training. `validation` leaves the test
    split unread, for runs that only compare settings."""
    user_chunk: bounds.RankedUsers = 256
    """Users scored at a time on each rank; a chunk holds user_chunk x N scores for N items."""


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases and TensorBoard, in addition to the console and metrics.jsonl."""

    wandb: Literal["disabled", "auto", "offline", "online"] = "disabled"
    """W&B mode. `auto` is online with an API key (wandb login, or WANDB_API_KEY) and offline
    without. The environment variable WANDB_MODE can only restrict it to offline or disabled."""
    project: str = "mlrec"
    """W&B project."""
    entity: str = ""
    """W&B team; empty for your own."""
    tensorboard: bool = False
    """Whether to write event files into the run's folder, for `tensorboard --logdir RUN`. It needs
    pip install 'mlrec[tensorboard]'."""


@dataclass(frozen=True)
class ResumeConfig:
    """Permission to resume after a change, for one command and never saved."""

    force: bool = False
    """Permission to resume although the data set, the global batch, the seed or other settings
    changed, or to evaluate on another data set."""


@dataclass(frozen=True)
class Config:
    """One run."""

    name: str = "run"
    """Name of the run, and of its folder unless run_dir is set."""
    run_dir: str = "runs/{name}"
    """Folder of the run, where {name} stands for its name. The same command resumes the run in
    this folder."""
    seed: bounds.Seed = 0
    """Seed of all random numbers: initial weights, order of users, drawn negatives and dropout."""
    data: DataConfig = field(default_factory=DataConfig)
    item: ItemConfig = field(default_factory=ItemConfig)
    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    resume: ResumeConfig = field(default_factory=ResumeConfig)

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def run_path(self) -> Path:
        """The run's folder."""
        return Path(self.run_dir.replace("{name}", self.name)).expanduser()
