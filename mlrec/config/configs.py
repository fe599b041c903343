"""The configuration: frozen dataclasses, loaded from YAML files and key=value, saved so that it repeats the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_type_hints

from mlrec.config import bounds
from mlrec.config.durations import check_duration
from mlrec.config.encoder_options import EncoderOptions, Tuning
from mlrec.config.values import check_text, check_typed
from mlrec.runtime.credentials import check_no_credentials
from mlrec.runtime.printable import printable
from mlrec.runtime.urls import check_url

_WRITE_DURATION = "write '20 epochs' or '1000 steps'"
"""The length of a run cannot be a share of itself."""


Metric = Literal["hr@10", "hr@20", "ndcg@10", "ndcg@20", "mrr"]
"""What full ranking measures."""


@dataclass(frozen=True)
class DataConfig:
    """Where the data set is and how it is read."""

    url: str = ""
    """The packed data set (file path, s3://, http(s)://, gs://, az://)."""
    cache_dir: str = "~/.cache/mlrec"
    """Folder of this node for the sequence table and remote shards; all processes and jobs of the node share it."""
    cache_bytes: bounds.Bytes = 100 << 30
    """Budget for remote shards; the least recently used go first, but none that this run reads."""
    ownership: Literal["balanced", "home"] = "balanced"
    """Who owns an item: any rank, in equal shares; or one of the node where its shard is at home, so that each is cached once."""
    balance_slack: bounds.Slack = 0.1
    """With home: how much more than its equal share a node may own so that its items stay at home."""
    num_workers: bounds.Workers = 2
    """Loader processes per rank; each builds a whole step, so this many steps are in flight."""
    max_bad_items: bounds.Tolerated = 100
    """The run stops when more distinct items than this could not be read."""


@dataclass(frozen=True)
class ItemConfig:
    """The item tower: encoders, fusion, projection."""

    encoders: tuple[str, ...] = ("id/embedding",)
    """Rows of mlrec list encoders; several are fused. Where a later file or the command line takes one from the list, its
    item.options that were set before go with it."""
    options: dict[str, EncoderOptions] = field(default_factory=dict)
    """Per encoder: what to change in its row, for example {video/videomae: {checkpoint: /models/videomae-base}}."""
    fusion: str = "sum"
    """Row of mlrec list fusions."""
    tuning: Tuning = "full"
    """How much of the encoders is trained: nothing, the last stage, the deeper half, all, or all from random weights."""
    batchnorm: Literal["frozen", "sync"] = "frozen"
    """Batch norms as in the checkpoint, or trained, with the statistics of all ranks' chunks."""
    chunk: bounds.Items = 32
    """Items encoded at a time."""
    checkpoint: Literal["auto", "always", "never"] = "auto"
    """Whether a chunk's activations are computed again backward, so that memory holds one chunk's; auto: unless all fit."""
    prefix_cache_bytes: bounds.Bytes = 4 << 30
    """Host memory of a rank for what the frozen stages make of its items, so that an item goes through them once in a run; 0: in
    each step."""


@dataclass(frozen=True)
class RecommenderConfig:
    """The sequence model."""

    name: str = "sasrec"
    """Row of mlrec list recommenders. Where a later file or the command line names another one, the recommender.options that were
    set before are dropped."""
    width: bounds.Width = 64
    """D: width of item vectors and states."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the row takes beside the width, for example {layers: 2, heads: 2, dropout: 0.1}."""
    cosine: bool = False
    """Whether a sequence model scores by the cosine of state and item, not by their dot product: an item that is watched much
    then has no longer vector. It wants a loss.temperature of about 0.07. dssm and decayed_mean do so in any case."""


@dataclass(frozen=True)
class LossConfig:
    """The training objective."""

    name: str = "in_batch_softmax"
    """Row of mlrec list losses."""
    negatives: Literal["global", "local"] = "global"
    """Candidates: all items of the global batch, or those of the own rank's users (MicroLens' trainer)."""
    multiplicity: bool = False
    """Whether an item that occurs c times counts as c candidates (MicroLens' loss) or as one."""
    logq: bool = True
    """Of both softmaxes over some items: with the correction a score is the item's log-probability, so that what is watched most
    comes first; without, it says how much likelier than by popularity the item is, which lets cold items through."""
    sampled: bounds.Candidates = 100
    """Of sampled_softmax: how many candidates are drawn for each position."""
    temperature: bounds.Temperature = 1.0
    """Scores are divided by it."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with two learning rates and a schedule."""

    lr: bounds.LearningRate = 1e-3
    """Peak learning rate of the recommender."""
    encoder_lr: bounds.LearningRate = 1e-4
    """Peak learning rate of the encoders."""
    weight_decay: bounds.WeightDecay = 0.1
    """For matrices of the recommender; biases, norms and position tables have none."""
    encoder_weight_decay: bounds.WeightDecay = 0.0
    """For matrices of the encoders."""
    betas: tuple[bounds.Decay, bounds.Decay] = (0.9, 0.999)
    """Decays of AdamW's running means of the gradient and of its square."""
    eps: bounds.Epsilon = 1e-8
    """AdamW adds it to the root of the mean square, which it divides by."""
    clip_norm: bounds.Norm = 5.0
    """Largest norm of the whole gradient; 0 switches clipping off."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """After the warm-up: flat, half a cosine to 0, or a tenth from each third of the run to the next."""
    warmup: str = "0 steps"
    """Linear warm-up: "100 steps", "1 epoch" or "5%" of the run."""


@dataclass(frozen=True)
class ZeroConfig:
    """DeepSpeed ZeRO."""

    stage: Literal[0, 1, 2, 3] = 2
    """What is partitioned over ranks: nothing, optimizer, + gradients, + parameters."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in host memory (stages 1 to 3)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further keys of DeepSpeed's zero_optimization section."""


@dataclass(frozen=True)
class TrainConfig:
    """How long, how large, how often."""

    start_from: str = ""
    """Folder of a run whose best weights this one begins with, as far as they have the same names: that on frozen features, for
    one that trains the encoder too."""
    duration: str = "20 epochs"
    """Length of the run: "20 epochs" or "1000 steps"."""
    global_batch: bounds.Users = 512
    """Users per step over all ranks; each epoch is cut into steps of nearly equal size, none above this."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of weights, activations and gradients; with bf16 the optimizer keeps fp32 weights (zero.stage 1, 2 or 3)."""
    log_every: str = "10 steps"
    """How often the loss, the speed and what the loader did are logged; a duration, as of train.duration or "5%" of the run."""
    evaluate_every: str = "1 epoch"
    """How often the validation split is ranked; each new best by evaluate.select_by is saved."""
    save_every: str = "1 epoch"
    """How often a checkpoint is written that a stopped run goes on from."""
    max_skipped_steps: bounds.Steps = 10
    """Consecutive skipped steps after which the run stops. A step whose loss or gradient is not finite is skipped and counted in
    train/skipped_steps."""
    keep_last: bounds.Checkpoints = 2
    """Newest checkpoints to keep; the best by validation is kept beside them."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Full ranking."""

    select_by: Metric = "hr@10"
    """The metric of the validation split that chooses the best checkpoint."""
    user_chunk: bounds.RankedUsers = 256
    """Users scored at a time; a chunk holds user_chunk x N scores."""


@dataclass(frozen=True)
class TrackingConfig:
    """Where figures go beside the console and metrics.jsonl."""

    wandb: Literal["disabled", "auto", "offline", "online"] = "disabled"
    """Weights & Biases; auto is online with a key (wandb login, or WANDB_API_KEY), and offline without. The environment variable
    WANDB_MODE can only restrict it: disabled and offline win over online and auto."""
    project: str = "mlrec"
    """W&B project."""
    entity: str = ""
    """W&B team; empty for the user's own."""


@dataclass(frozen=True)
class ResumeConfig:
    """What a run folder that already holds checkpoints means; given on the command line, for one command, and not saved."""

    force: bool = False
    """Resume or rank although the data set changed; resume although the global batch, the seed or other settings did."""


@dataclass(frozen=True)
class Config:
    """One run."""

    name: str = "run"
    """What the run is called; its folder has this name, if run_dir is not given."""
    run_dir: str = "runs/{name}"
    """The run's folder; {name} stands for the run's name. The same command goes on where the folder's run stopped."""
    seed: bounds.Seed = 0
    """Of all random numbers: first weights, the order of users, drawn negatives, dropout."""
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
        _check_section(self, "")
        _check_name(self.name)
        self._check_places()
        if not self.item.encoders:
            raise ValueError("item.encoders is empty; name one or more, see: mlrec list encoders")
        if unused := sorted(set(self.item.options) - set(self.item.encoders)):
            raise ValueError(
                f"item.options.{unused[0]} is set, but item.encoders is {list(self.item.encoders)}"
            )
        if self.train.precision == "bf16" and self.zero.stage == 0:
            # DeepSpeed's bf16 wrapper without ZeRO runs an optimizer step when it is built: Adam's first update is off.
            raise ValueError(
                "train.precision bf16 needs zero.stage 1, 2 or 3; with stage 0 use fp32"
            )
        if self.zero.offload_optimizer and self.zero.stage == 0:
            raise ValueError("zero.offload_optimizer needs zero.stage 1, 2 or 3")
        self._check_durations()
        self._check_folders()

    def _check_places(self) -> None:
        folders = {"run_dir": self.run_dir, "data.cache_dir": self.data.cache_dir}
        if self.train.start_from:
            folders["train.start_from"] = self.train.start_from
        for key, folder in folders.items():
            if not folder or "://" in folder:
                raise ValueError(f"{key} is {folder!r}; it must be a folder on this machine")
        check_url(self.data.url, "data.url")
        for encoder, options in self.item.options.items():
            check_url(options.get("checkpoint", ""), f"item.options.{encoder}.checkpoint")
            check_url(options.get("features", ""), f"item.options.{encoder}.features")

    def _check_folders(self) -> None:
        run, cache = self.run_path.resolve(), Path(self.data.cache_dir).expanduser().resolve()
        if run == cache or run in cache.parents or cache in run.parents:
            raise ValueError(
                f"data.cache_dir is {cache} and the run's folder {run}: neither may lie in the other, as the cache deletes "
                "files. Choose another data.cache_dir or run_dir"
            )

    def _check_durations(self) -> None:
        if self.train.duration.endswith("%"):
            raise ValueError(
                f"train.duration is {self.train.duration!r}, a share of itself; {_WRITE_DURATION}"
            )
        for key in (
            "train.duration",
            "train.log_every",
            "train.evaluate_every",
            "train.save_every",
            "optim.warmup",
        ):
            check_duration(
                attrgetter(key)(self), key, _WRITE_DURATION if key == "train.duration" else ""
            )

    @property
    def run_path(self) -> Path:
        """The run's folder."""
        return Path(self.run_dir.replace("{name}", self.name)).expanduser()


def _check_section(section: Any, prefix: str) -> None:
    """
    Raises:
        ValueError: a value within the section has another type than its field, is out of bounds, or holds credentials.
    """
    kinds = get_type_hints(type(section), include_extras=True)
    for one in fields(section):
        key, value = prefix + one.name, getattr(section, one.name)
        if is_dataclass(value):
            _check_section(value, f"{key}.")
        else:
            check_typed(value, kinds[one.name], key)
        for place, text in _texts(value, key):
            check_no_credentials(text, place)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """The texts within a value, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(one, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, key)


_MAX_NAME_BYTES = 200
"""File systems take 255; what stands before and after a run's name needs some."""


def _check_name(name: str) -> None:
    check_text(name, "name")
    if (
        any(part in ("", ".", "..") for part in name.split("/"))
        or len(name.encode()) > _MAX_NAME_BYTES
    ):
        raise ValueError(
            f"name is {printable(repr(name), 80)}; it must be a folder's name, of at most {_MAX_NAME_BYTES} bytes"
        )
