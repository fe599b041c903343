"""Configurations are loaded with messages that help, and saved so that they repeat the run."""

import re
from pathlib import Path

import pytest

from mlrec.config import Config, load, load_saved, save

EARLIER = """\
name: '0123'
run_dir: runs/{name}
seed: 0
data:
  url: /data/set
  cache_bytes: 107374182400
  balance_slack: 0.1
item:
  encoders:
  - video/tiny
  options:
    video/tiny:
      size: 32
      mean:
      - 0.5
      - 0.5
      - 0.5
      tuning: null
recommender:
  name: sasrec
  options:
    layers: 2
    dropout: 0.1
optim:
  betas:
  - 0.9
  - 0.999
  eps: 1.0e-08
loss:
  name: in_batch_softmax
zero:
  stage: 2
train:
  duration: 20 epochs
  log_every: 5%
evaluate:
  select_by: hr@10
tracking:
  wandb: disabled
resume:
  force: false
"""


def test_save_and_load_give_an_equal_configuration(tmp_path: Path) -> None:
    config = load(
        [],
        [
            "item.encoders=[video/videomae]",
            "item.options.video/videomae.checkpoint=/weights",
            "optim.lr=1e-4",
        ],
    )
    save(config, tmp_path / "config.yaml")
    assert config.optim.lr == 1e-4
    assert load([tmp_path / "config.yaml"]) == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # misspelt keys
        ("optim.lrr=3", "did you mean 'optim.lr'"),
        ("lr=0.1", "unknown key 'lr'; did you mean 'optim.lr'?"),
        ("options={}", "did you mean 'item.options' or 'recommender.options' or 'zero.options'?"),
        ("optim.temprature=2", "did you mean 'loss.temperature'?"),
        ("item.encoder=id/embedding", "did you mean 'item.encoders'?"),
        (
            "item.encoders=id/embedding",
            "item.encoders is 'id/embedding', which is no list; write item.encoders=[id/embedding]",
        ),
        (
            "optim.betas=[0.9]",
            "optim.betas is [0.9]; it must be a list of two numbers from 0 to below 1, "
            "such as [0.9, 0.999]",
        ),
        ("optim.betas=[a,b]", "optim.betas is ['a', 'b']; it must be a list of two numbers"),
        # values of the wrong kind, or none
        ("item=3", "item is 3; it must be a section with encoders, options, fusion"),
        ("name=", "name has no value; it must be a text; an empty one is"),
        ("data.url=", "data.url has no value; it must be a text; an empty one is"),
        ("optim.lr=", "optim.lr has no value; it must be a number"),
        (
            "item.tuning=",
            "item.tuning has no value; it must be one of frozen, side, lora, top, half, full, "
            "scratch",
        ),
        (
            "evaluate.cutoffs=[5,50]",
            "evaluate.select_by is 'hr@10'; it must be one of hr@5, hr@50, ndcg@5, ndcg@50, mrr. "
            "For another cut-off, add it to evaluate.cutoffs",
        ),
        ("evaluate.cutoffs=[20,10]", "evaluate.cutoffs is [20, 10]; it must be 1 to 100 distinct"),
        (
            "evaluate.cutoffs=[0]",
            "evaluate.cutoffs is [0]; it must be a list of whole numbers from 1",
        ),
        ("evaluate.cutoffs=[10,10]", "evaluate.cutoffs is [10, 10]; it must be 1 to 100 distinct"),
        ("evaluate.cutoffs=[]", "evaluate.cutoffs is []; it must be 1 to 100 distinct"),
        ("seed=1.5", "seed is 1.5; it must be a whole number"),
        (
            "recommender.options=[1]",
            "recommender.options is [1]; it must be options with their values, such as {layers: 2}",
        ),
        (
            "item.options.id/embedding=3",
            "item.options.id/embedding is 3; it must be options with their values",
        ),
        (
            "item.encoders=[[id/embedding]]",
            "item.encoders is [['id/embedding']]; it must be a list of names",
        ),
        (
            "optim.betas=[",
            "optim.betas: the value '[' is not YAML; close its brackets, or put it in quotes",
        ),
        (
            "name=${nowhere}",
            "name is '${nowhere}'; ${...} is not replaced in a configuration, write the value",
        ),
        ("base=[x.yaml]", "unknown key 'base'"),
        ("trian.duration=3 steps", "did you mean 'train.duration'"),
        ("optim.lr=fast", "optim.lr is 'fast'; it must be a number"),
        ("zero.stage=4", "zero.stage is 4; it must be one of auto, 0, 1, 2, 3"),
        # durations
        (
            "train.duration=7 parsecs",
            "train.duration: '7 parsecs' is not a duration; write '20 epochs' or '1000 steps'",
        ),
        (
            "optim.warmup=3",
            "optim.warmup: '3' is not a duration; write '100 steps', '2 epochs' or '5%'",
        ),
        # values that do not fit each other
        ("train.duration=5%", "a share of itself"),
        ("item.encoders=[]", "item.encoders is empty"),
        ("item.options.video/tiny.size=3", "item.options.video/tiny is set, but item.encoders"),
        # numbers out of bounds
        (
            "train.global_batch=0",
            "train.global_batch is 0; it must be a whole number from 1 to 16777216",
        ),
        ("item.chunk=0", "item.chunk is 0"),
        ("recommender.width=-64", "recommender.width is -64"),
        ("evaluate.user_chunk=0", "evaluate.user_chunk is 0"),
        ("train.keep_last=0", "train.keep_last is 0"),
        ("loss.sampled=0", "loss.sampled is 0"),
        ("loss.temperature=0", "loss.temperature is 0; it must be a number from 0.0001 to 10000.0"),
        ("optim.lr=-1", "optim.lr is -1; it must be a number from 0 to 1e+38"),
        ("optim.lr=nan", "optim.lr is 'nan'; it must be a number"),
        ("optim.encoder_lr=-1e-4", "optim.encoder_lr is -1e-4"),
        ("optim.weight_decay=-0.1", "optim.weight_decay is -0.1"),
        ("optim.encoder_weight_decay=inf", "optim.encoder_weight_decay is 'inf'"),
        ("optim.eps=-1", "optim.eps is -1"),
        ("optim.eps=0", "optim.eps is 0; it must be a number from 1e-20 to 1"),
        ("optim.eps=1e-30", "optim.eps is 1e-30; it must be a number from 1e-20 to 1"),
        ("optim.clip_norm=-5", "optim.clip_norm is -5"),
        (
            "optim.betas=[0.9,1]",
            "optim.betas is [0.9, 1]; it must be a list of two numbers from 0 to below 1",
        ),
        (
            "item.options.id/embedding.lr=-1",
            "item.options.id/embedding.lr is -1; it must be a number from 0 to 1e+38, or null",
        ),
        (
            "item.options.id/embedding.weight_decay=much",
            "item.options.id/embedding.weight_decay is 'much'; it must be a number",
        ),
        ("data.num_workers=-1", "data.num_workers is -1; it must be a whole number from 0 to 256"),
        ("data.cache_bytes=-1", "data.cache_bytes is -1"),
        ("data.max_bad_items=-1", "data.max_bad_items is -1"),
        ("data.balance_slack=-0.1", "data.balance_slack is -0.1"),
        ("item.prefix_cache_bytes=-1", "item.prefix_cache_bytes is -1"),
        ("seed=-1", "seed is -1"),
        ("nonsense", "neither a file nor key=value"),
    ],
)
def test_load_bad_override_names_the_value_and_the_remedy(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        load([], [override])
    assert "\n" not in str(error.value)


def test_load_bf16_without_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs zero\.stage 1, 2 or 3"):
        load([], ["train.precision=bf16", "zero.stage=0"])


def test_save_leaves_out_force_and_load_saved_ignores_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yaml"
    save(load([], ["resume.force=true"]), file)
    assert "resume" not in file.read_text()
    # earlier versions saved the section
    with file.open("a") as earlier:
        earlier.write("resume:\n  force: true\n")  # as an earlier version saved it
    assert not load_saved(file).resume.force
    assert "resume.force=true is ignored" in caplog.text
    assert load_saved(file, ["resume.force=true"]).resume.force


def test_load_saved_configuration_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EARLIER)
    config = load_saved(tmp_path / "config.yaml")
    assert (config.name, config.optim.eps, config.optim.betas) == ("0123", 1e-8, (0.9, 0.999))
    assert config.item.options == {
        "video/tiny": {"size": 32, "mean": (0.5, 0.5, 0.5), "tuning": None}
    }
    assert config.recommender.options == {"layers": 2, "dropout": 0.1}
    assert load([tmp_path / "config.yaml"]) == config


@pytest.mark.parametrize(
    "file",
    sorted(set(Path("configs").rglob("*.yaml")) - set(Path("configs/sweep").iterdir())),
    ids=str,
)
def test_load_every_shipped_configuration(file: Path) -> None:
    assert isinstance(load([file]), Config)
    assert file.read_text().startswith("#"), "a configuration opens with what it is"
