"""Options of encoders, recommenders and ZeRO have types and bounds."""

import re

import pytest

from mlrec.config import load
from mlrec.models.registry import check_rows


@pytest.mark.parametrize(
    ("option", "words"),
    [
        # numbers are as strict as in the sections of a configuration
        ("frames=0", "is 0; it must be a whole number from 1 to 1024"),
        ("frames=05", "is '05'; it must be a whole number"),
        ("frames=true", "is true; it must be a whole number"),
        ("size=32px", "is '32px'; it must be a whole number from 1 to 4096"),
        ("width=64.0", "is 64.0; it must be a whole number"),
        ("length=1e9", "is 1e9; it must be a whole number"),
        ("mean=[0.5,0.5]", "is [0.5, 0.5]; it must be a list of three numbers"),
        ("mean=0.5", "it must be a list of three numbers"),
        ("mean=[0.5,0.5,nan]", "it must be a list of three numbers from -1000 to 1000"),
        ("std=[0.5,0.5,0]", "it must be a list of three numbers from 1e-06 to 1000"),
        ("lr=fast", "is 'fast'; it must be a number from 0 to 1e+38"),
        ("weight_decay=nan", "it must be a number"),
        # options that go to a library: types as in JSON, and no secrets
        ("config=3", "it must be options with their values"),
        ("config={hidden_size: 010}", ".config.hidden_size is '010'; write a number like 8 or 0.5"),
        (
            "config={a: yes}",
            ".config.a is 'yes'; write a number like 8 or 0.5, true, false or null, or put a text",
        ),
        ("config={token: hf_abc}", ".config.token would be saved in the run's folder"),
        # names of a list
        ("output=scores", "is 'scores'; this encoder has pooled features only"),
        ("output=both", "is 'both'; it must be one of pooled, scores"),
        (
            "tuning=deep",
            "is 'deep'; it must be one of frozen, side, lora, top, half, full, scratch",
        ),
        ("projection=relu", "is 'relu'; it must be one of gelu, linear, mlp"),
        ("dropout=1", "is 1; it must be a number from 0 to below 1"),
        ("whiten=2", "is 2; it must be a number from 0 to 1"),
        # unknown names; the licence is a column of the row that options cannot change
        ("framse=3", ": unknown option; did you mean 'frames'?"),
        ("licence=MIT", ": unknown option; an encoder has checkpoint, config, dropout, "),
    ],
)
def test_encoder_option_that_does_not_fit_is_named(option: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{words}")) as error:
        check_rows(load([], ["item.encoders=[video/tiny]", f"item.options.video/tiny.{option}"]))
    assert str(error.value).startswith("item.options.video/tiny.")
    assert "\n" not in str(error.value)


def test_encoder_options_have_their_types() -> None:
    options = [
        "frames=8",
        "mean=[.5, 0, 1]",
        "std=[1,1,1]",
        "lr=null",
        "checkpoint=1.10",
        "config={a: 1e-4, b: '1e-4', c: null}",
    ]
    overrides = [f"item.options.video/tiny.{option}" for option in options]
    config = load([], ["item.encoders=[video/tiny]", *overrides])
    typed_options = {
        "frames": 8,
        "mean": (0.5, 0.0, 1.0),
        "std": (1.0, 1.0, 1.0),
        "lr": None,
        "checkpoint": "1.10",
    }
    assert config.item.options == {
        "video/tiny": {**typed_options, "config": {"a": 1e-4, "b": "1e-4", "c": None}}
    }
    check_rows(config)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["item.encoders=[video/tiny]", "item.options.video/tiny={frames: 1000, size: 4000}"],
            "pixels an item; lower frames or size",
        ),
        (
            ["item.encoders=[text/huggingface]", "item.options.text/huggingface.length=100000"],
            "a title has at most 32,768 tokens",
        ),
        (
            ["recommender.options.layers=100000"],
            "recommender.options.layers is 100000; it must be from 1 to 256",
        ),
        (["recommender.options.layers=02"], "recommender.options.layers is '02'"),
        (
            ["recommender.options.dropout=1"],
            "recommender.options.dropout is 1; it must be from 0 to below 1",
        ),
        (["recommender.options.pre_norm=yes"], "recommender.options.pre_norm is 'yes'"),
        (
            ["recommender.name=nextitnet", "recommender.options.dilations=[]"],
            "recommender.options.dilations is []",
        ),
        (
            ["recommender.name=item_knn", "recommender.options.decay=2"],
            "recommender.options.decay is 2; it must be from 1e-06 to 1",
        ),
        (
            ["recommender.name=item_knn", "recommender.options.k1=inf"],
            "recommender.options.k1 is 'inf'",
        ),
        (
            ["optim.layer_decay=0.8"],
            "optim.layer_decay is 0.8 and has no effect on id/embedding: ids and features have no "
            "stages. Remove it",
        ),
        (["item.tuning=lora"], "item.tuning=lora has no effect on id/embedding"),
    ],
)
def test_row_option_out_of_bounds_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_rows(load([], overrides))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        # names: unknown, or set by another key
        ("overlap_com=true", "unknown option; did you mean 'overlap_comm'?"),
        ("stage=3", "cannot be set: set zero.stage"),
        ("offload_optimizer={device: cpu}", "cannot be set: set zero.offload_optimizer"),
        # values that pydantic would convert
        ("overlap_comm=1", "zero.options.overlap_comm is 1; it must be true or false"),
        (
            "reduce_bucket_size=1e6",
            "zero.options.reduce_bucket_size is 1000000.0; it must be a whole number",
        ),
        ("reduce_bucket_size=99999999999999", "it must be at most 2147483647"),
        # values that DeepSpeed itself refuses
        ("sub_group_size=-1", "DeepSpeed refuses -1"),
        ("offload_param=cpu", "it must be options with their values"),
        (
            "offload_param={device: disk}",
            "zero.options.offload_param.device: DeepSpeed refuses 'disk'",
        ),
    ],
)
def test_zero_option_that_does_not_fit_is_named(option: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        check_rows(load([], [f"zero.options.{option}"]))
    assert str(error.value).startswith("zero.options.")
    assert "\n" not in str(error.value)


def test_zero_options_of_deepspeed_are_accepted() -> None:
    options = "{overlap_comm: true, reduce_bucket_size: 1000, stage3_prefetch_bucket_size: 5}"
    check_rows(load([], [f"zero.options={options}"]))


def test_zero_options_at_stage_0_are_refused() -> None:
    words = "zero.options.overlap_comm has no effect with zero.stage=0. Remove it, or set"
    with pytest.raises(ValueError, match=re.escape(words)):
        check_rows(load([], ["zero.options.overlap_comm=true", "zero.stage=0"]))
