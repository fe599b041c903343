"""Later sources override earlier ones, and options belong to the row they were set for."""

from pathlib import Path
from typing import Any

import pytest

from mlrec.config import load, load_arguments, save
from mlrec.config.merging import Setting, Source, merge_sources
from mlrec.train.sweep_file import read_sweep

CONFIGS = Path(__file__).parents[3] / "configs"
SASREC = CONFIGS / "recommender" / "sasrec.yaml"
GRU4REC = CONFIGS / "recommender" / "gru4rec.yaml"
TITLE = CONFIGS / "item" / "minilm_title.yaml"

DEFAULTS = {
    "seed": 0,
    "item": {"encoders": ("id",), "options": {}},
    "recommender": {"name": "sasrec", "options": {"heads": 2}},
}


def source(**settings: Any) -> Source:
    """Return a source that sets keys, in whose names __ stands for a dot."""
    paths = [Setting(tuple(key.split("__")), value) for key, value in settings.items()]
    return Source("a test", tuple(paths))


def test_merge_sources_later_source_wins_and_defaults_are_unchanged() -> None:
    merged = merge_sources(DEFAULTS, [source(seed=1), source(seed=2)])
    assert merged["seed"] == 2
    assert DEFAULTS["seed"] == 0


def test_merge_sources_same_recommender_adds_to_its_options() -> None:
    same = source(recommender__name="sasrec", recommender__options__layers=3)
    assert merge_sources(DEFAULTS, [same])["recommender"]["options"] == {"heads": 2, "layers": 3}


def test_merge_sources_recommender_that_comes_back_has_no_options_of_before() -> None:
    changes = [source(recommender__name="gru4rec"), source(recommender__name="sasrec")]
    assert merge_sources(DEFAULTS, changes)["recommender"]["options"] == {}


def test_merge_sources_options_before_the_name_in_the_same_source_stay() -> None:
    change = source(recommender__options__layers=3, recommender__name="gru4rec")
    assert merge_sources(DEFAULTS, [change])["recommender"]["options"] == {"layers": 3}


def test_merge_sources_empty_options_change_nothing() -> None:
    merged = merge_sources(DEFAULTS, [source(recommender__options={})])
    assert merged["recommender"]["options"] == {"heads": 2}


def test_merge_sources_value_replaced_by_a_mapping_is_that_mapping() -> None:
    changes = [source(recommender__options__a=1), source(recommender__options__a__b=2)]
    assert merge_sources(DEFAULTS, changes)["recommender"]["options"] == {"heads": 2, "a": {"b": 2}}


@pytest.fixture
def ids(tmp_path: Path) -> str:
    """A file whose base sets options of SASRec."""
    (tmp_path / "id.yaml").write_text(f"base: [{SASREC}]\nname: id\n")
    return str(tmp_path / "id.yaml")


def test_load_base_then_file_then_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 1\noptim: {lr: 1.0, encoder_lr: 1.0}\n")
    (tmp_path / "run.yaml").write_text("base: [base.yaml]\noptim: {lr: 2.0}\n")
    config = load([tmp_path / "run.yaml"], ["name=x"])
    assert (config.seed, config.optim.lr, config.optim.encoder_lr, config.name) == (
        1,
        2.0,
        1.0,
        "x",
    )


@pytest.mark.parametrize(
    ("arguments", "name", "options"),
    [
        # nothing, or a file after the one of SASRec
        ([], "sasrec", {"layers": 2, "heads": 2, "dropout": 0.1}),
        ([str(GRU4REC)], "gru4rec", {"layers": 1, "dropout": 0.1}),
        ([str(GRU4REC), str(SASREC)], "sasrec", {"layers": 2, "heads": 2, "dropout": 0.1}),
        # a command line is one source: the order of its settings does not matter
        (["recommender.name=gru4rec"], "gru4rec", {}),
        (["recommender.options.layers=3", "recommender.name=gru4rec"], "gru4rec", {"layers": 3}),
        (["recommender.name=gru4rec", "recommender.options.layers=3"], "gru4rec", {"layers": 3}),
        # the last of two names counts, which is the one of the file
        (
            ["recommender.name=gru4rec", "recommender.name=sasrec"],
            "sasrec",
            {"layers": 2, "heads": 2, "dropout": 0.1},
        ),
        (["recommender.options.layers=3"], "sasrec", {"layers": 3, "heads": 2, "dropout": 0.1}),
    ],
)
def test_load_another_recommender_drops_the_options_before(
    arguments: list[str], name: str, options: dict[str, Any], ids: str
) -> None:
    recommender = load_arguments([ids, *arguments]).recommender
    assert (recommender.name, recommender.options) == (name, options)


def test_load_file_with_another_recommender_than_its_base_has_its_own_options(
    tmp_path: Path, ids: str
) -> None:
    (tmp_path / "gru.yaml").write_text(
        "base: [id.yaml]\nrecommender: {options: {layers: 3}, name: gru4rec}\n"
    )
    assert load([tmp_path / "gru.yaml"]).recommender.options == {"layers": 3}


def test_sweep_grid_over_recommenders_drops_options_of_the_base(tmp_path: Path, ids: str) -> None:
    (tmp_path / "study.yaml").write_text(
        "base: [id.yaml]\ngrid: {recommender.name: [gru4rec, sasrec]}\n"
    )
    assert [run.config.recommender.options for run in read_sweep(tmp_path / "study.yaml")] == [
        {},
        {"layers": 2, "heads": 2, "dropout": 0.1},
    ]


def test_load_encoder_that_leaves_the_list_loses_its_options(tmp_path: Path) -> None:
    length = {
        "text/huggingface": {"checkpoint": "sentence-transformers/all-MiniLM-L6-v2", "length": 48}
    }
    assert load([TITLE], ["item.encoders=[id/embedding]"]).item.options == {}
    # options of the same source stay
    dropout = "item.options.id/embedding.dropout=0.3"
    assert load([TITLE], [dropout, "item.encoders=[id/embedding]"]).item.options == {
        "id/embedding": {"dropout": 0.3}
    }
    # an encoder that stays in the list keeps its options
    both = "item.encoders=[id/embedding,text/huggingface]"
    assert load([TITLE], [both]).item.options == length
    # options of an encoder that is chosen later, as a file for one machine may set them
    (tmp_path / "machine.yaml").write_text("item: {options: {video/tiny: {size: 32}}}\n")
    (tmp_path / "tiny.yaml").write_text("item: {encoders: [video/tiny]}\n")
    assert load([tmp_path / "machine.yaml", tmp_path / "tiny.yaml"]).item.options == {
        "video/tiny": {"size": 32}
    }


def test_load_options_of_an_encoder_that_is_not_listed_are_refused(tmp_path: Path) -> None:
    # a misspelt name
    (tmp_path / "wrong.yaml").write_text("item: {options: {video/tinny: {size: 32}}}\n")
    for options in (
        ["item.encoders=[video/tiny]"],
        ["item.encoders=[video/tiny]", "item.options.video/tiny.size=32"],
    ):
        with pytest.raises(
            ValueError,
            match=r"item\.options\.video/tinny is set, but item\.encoders is \['video/tiny'\]",
        ):
            load([tmp_path / "wrong.yaml"], options)
    with pytest.raises(ValueError, match=r"item\.options\.text/huggingface is set, but"):
        load([TITLE], ["item.encoders=[id/embedding]", "item.options.text/huggingface.length=32"])


def test_save_keeps_options_of_any_recommender(tmp_path: Path) -> None:
    config = load([GRU4REC, TITLE])
    save(config, tmp_path / "config.yaml")
    assert load([tmp_path / "config.yaml"]) == config
