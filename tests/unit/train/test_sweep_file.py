"""The file of a sweep: reading it, its errors, and the sweeps in configs/sweep."""

import textwrap
from pathlib import Path

import pytest
import torch
from tiny import tiny_overrides

from mlrec.config import load_arguments
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import StepDataset, open_data
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS
from mlrec.report.published import BASELINES, TUNINGS, VIDEO_ENCODERS
from mlrec.train.sweep_file import SweepRun, read_content, read_sweep

SHIPPED = Path(__file__).parents[3] / "configs" / "sweep"


def sweep_file(folder: Path, text: str) -> Path:
    """Write a sweep and the two configurations that it may name: base.yaml and other.yaml."""
    (folder / "base.yaml").write_text(f"run_dir: {folder}/runs/{{name}}\nseed: 3\n")
    (folder / "other.yaml").write_text("base: [base.yaml]\nname: other\n")
    (folder / "study.yaml").write_text(textwrap.dedent(text))
    return folder / "study.yaml"


def names(runs: list[SweepRun]) -> list[str]:
    return [run.config.name for run in runs]


def test_read_sweep_of_a_grid_returns_every_combination(tmp_path: Path) -> None:
    file = sweep_file(
        tmp_path,
        """
        base: [base.yaml]
        runs: [other.yaml]
        grid:
          encoder:
            tiny:
              item.encoders: [video/tiny]
              item.options: {video/tiny: {size: 32}}
              optim.lr: 3e-3
            id: {item.encoders: [id/embedding]}
          item.tuning: [frozen, full]
        """,
    )
    runs = read_sweep(file, ["train.duration=3 steps"])
    assert names(runs) == [
        "other",
        "study_tiny_frozen",
        "study_tiny_full",
        "study_id_frozen",
        "study_id_full",
    ]
    tiny = runs[2].config
    assert tiny.item.encoders == ("video/tiny",)
    assert tiny.item.options == {"video/tiny": {"size": 32}}
    assert tiny.item.tuning == "full"
    assert tiny.optim.lr == 3e-3
    assert tiny.seed == 3
    assert tiny.train.duration == "3 steps"
    for run in runs:
        assert load_arguments(run.arguments) == run.config


def test_read_sweep_with_seeds_trains_each_run_once_per_seed(tmp_path: Path) -> None:
    text = "base: [base.yaml]\nruns: [other.yaml]\ngrid: {optim.lr: [1e-3]}\nseeds: [0, 7]"
    file = sweep_file(tmp_path, text)
    runs = read_sweep(file)
    assert names(runs) == ["other_seed0", "other_seed7", "study_1e-3_seed0", "study_1e-3_seed7"]
    assert [run.config.seed for run in runs] == [0, 7, 0, 7]
    for run in runs:
        assert load_arguments(run.arguments) == run.config
    with pytest.raises(ValueError, match="the command line sets seed=4; remove one"):
        read_sweep(file, ["seed=4"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grids: {}", r"unknown key 'grids'; did you mean 'grid'\?"),
        ("seed: 1", r"unknown key 'seed'; did you mean 'seeds'\?"),
        ("x: 1", "unknown key 'x'; a sweep has name, base, grid, runs, seeds"),
        ("runs: other.yaml", "runs is 'other.yaml'; it must be a list"),
        ("[base.yaml]", "it must hold keys"),
        ("runs: []", "has no runs"),
        (
            "seeds: [0, -1]\nruns: [other.yaml]",
            r"seeds is \[0, -1\]; .* whole numbers from 0 to 4294967295, such as \[0, 1\]",
        ),
        ("seeds: [1]\ngrid: {seed: [1, 2]}", "the grid and seeds both set the seed; remove one"),
        ("seeds: [1, 1]\nruns: [other.yaml]", "seeds has 1 twice; name every seed once"),
        ("seeds: []\nruns: [other.yaml]", r"seeds is empty; name one or more, such as \[0, 1\]"),
        ("runs: [othre.yaml]", r"did you mean .*other\.yaml"),
        ("grid: {item.tunin: [full]}", "unknown key 'item.tunin'; did you mean 'item.tuning'"),
        ("grid: {item.tuning: [deep]}", "item.tuning is 'deep'; it must be one of frozen"),
        ("grid: {encoder: {tiny: [video/tiny]}}", r"grid\.encoder must be a list of values"),
        ("grid: {item.tuning: []}", r"grid\.item\.tuning must be a list"),
        (
            "runs: [other.yaml, other.yaml]",
            r"two runs have the folder .*other; give each its own name",
        ),
        ("grid: [", "is not YAML"),
        (
            "grid: {recommender.name: [gru4rec, sasrek]}",
            "unknown recommender 'sasrek'; did you mean 'sasrec'",
        ),
        (
            "grid: {encoder: {id: {}, tiny: {item.encoders: [id/embeding]}}}",
            "unknown encoder 'id/embeding'; did you mean 'id/emb",
        ),
        (
            "grid: {item.options: [{id/embedding: {size: 1}}, {id/embedding: {sise: 1}}]}",
            r"item\.options\.id/embedding\.sise: ",
        ),
        ("grid: {item.fusion: [sum, summ]}", "unknown fusion 'summ'; did you mean 'sum'"),
        ("grid: {loss.name: [bpr, bcee]}", "unknown loss 'bcee'; did you mean 'bce'"),
        (
            "grid: {loss: {bpr: {loss.name: bpr, loss.multiplicity: true}}}",
            r"loss\.multiplicity=true belongs to",
        ),
        (
            "grid: {evaluate.select_by: [mrr, hr@5]}",
            r"evaluate\.select_by is 'hr@5'",
        ),
    ],
)
def test_read_sweep_of_invalid_input_names_the_place_and_the_remedy(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_sweep(sweep_file(tmp_path, text))
    assert "study.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_read_sweep_of_numbers_keeps_their_text_in_names(tmp_path: Path) -> None:
    file = sweep_file(
        tmp_path,
        """
        name: 0123
        base: [base.yaml]
        grid:
          optim.lr: [1e-3, 0.10]
          name_of_point:
            1.10: {tracking.project: 007}
            yes: {tracking.project: "exp #1", optim.betas: [.9, 0.99]}
        """,
    )
    runs = read_sweep(file)
    assert names(runs) == ["0123_1e-3_1.10", "0123_1e-3_yes", "0123_0.10_1.10", "0123_0.10_yes"]
    assert [run.config.tracking.project for run in runs] == ["007", "exp #1"] * 2
    assert (runs[3].config.optim.lr, runs[3].config.optim.betas) == (0.1, (0.9, 0.99))
    assert load_arguments(runs[1].arguments) == runs[1].config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: {seed: [1, 010]}", r"seed is '010'; it must be a whole number"),
        ("grid: {optim.lr: [1e-3, 1e-3]}", "two runs have the folder"),
        (
            "grid: {data.url: ['${oc.env:HOME}']}",
            r"data\.url is '\$\{oc\.env:HOME\}'; \$\{\.\.\.\} is not replaced",
        ),
        ("grid: {data.url: [s3://a:hunter2@b/c]}", r"data\.url: the URL holds credentials"),
        ("name: ${oc.env:HOME}", r"name is .*is not replaced"),
        ("runs: ['${oc.env:HOME}.yaml']", r"runs is .*is not replaced"),
        ("grid: {recommender.options: [{layers: 02}]}", r"recommender\.options\.layers is '02'"),
        ("grid: &a {seed: [1]}", "anchors and aliases are not supported"),
        ("grid: {seed: [1, 1.5]}", "seed is 1.5; it must be a whole number"),
        (
            f"grid: {{{', '.join(f'a{n}: [1,2,3,4,5,6,7,8,9,0]' for n in range(9))}}}",
            "the grid has 1,000,000,000 runs",
        ),
    ],
)
def test_read_sweep_of_hostile_input_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_sweep(sweep_file(tmp_path, text))
    assert "study.yaml" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_read_sweep_of_a_missing_file_names_a_similar_one(tmp_path: Path) -> None:
    sweep_file(tmp_path, "runs: [other.yaml]")
    with pytest.raises(ValueError, match=r"there is no sweep .*; did you mean .*study\.yaml"):
        read_sweep(tmp_path / "studi.yaml")


def test_read_sweep_of_the_shipped_files_returns_the_tables_of_the_paper() -> None:
    assert names(read_sweep(SHIPPED / "baselines.yaml")) == [row.config for row in BASELINES]
    encoders = read_sweep(SHIPPED / "video_encoders.yaml")
    expected = [((row.encoder,), tuning) for row in VIDEO_ENCODERS for tuning in TUNINGS]
    assert [(run.config.item.encoders, run.config.item.tuning) for run in encoders] == expected
    assert len(encoders) == 45


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_read_sweep_of_a_shipped_file_names_known_encoders_and_opens_with_a_comment(
    file: Path,
) -> None:
    runs = read_sweep(file) if read_content(file).search is None else []
    for run in runs:
        assert set(run.config.item.encoders) <= set(ENCODERS), run.config.name
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize(
    "run",
    [
        run
        for name in ("synthetic_encoders.yaml", "synthetic_lora.yaml")
        for run in read_sweep(SHIPPED / name)
    ],
    ids=lambda run: run.config.name,
)
def test_training_of_each_synthetic_sweep_run_lowers_the_loss(
    run: SweepRun, dataset_dir: Path, tmp_path: Path
) -> None:
    overrides = tiny_overrides(dataset_dir, tmp_path)
    data_overrides = [override for override in overrides if override.startswith("data.")]
    # Without dropout, so that four steps on one batch lower the loss for certain.
    has_dropout = run.config.recommender.name == "sasrec"
    no_dropout = ["recommender.options.dropout=0"] if has_dropout else []
    config = load_arguments([*run.arguments, *data_overrides, *no_dropout])
    data = open_data(config.data)
    model = build_model(config, data, 0).train()
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    batch = StepDataset(data, plan, 0, model.tower.specs, False)[0]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        value = model(batch)
        value.backward()
        losses.append(value.item())
        optimizer.step()
    assert losses[-1] < losses[0], losses
    trained = any(parameter.grad is not None for parameter in model.tower.encoders.parameters())
    assert trained == (config.item.tuning not in ("frozen", "side"))
