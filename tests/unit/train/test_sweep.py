"""mlrec sweep: the runs of a file, started one after the other by a launcher that only pretends to train."""

import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from tiny import tiny_overrides

from mlrec.cli.main import run_command
from mlrec.config import load, load_arguments
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import StepDataset, open_data
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS
from mlrec.report.published import BASELINES, TUNINGS, VIDEO_ENCODERS
from mlrec.train.sweep_file import SweepRun, read_sweep

SHIPPED = Path(__file__).parents[3] / "configs" / "sweep"

TRAINER = """
    # a trainer that stops in the middle of the run "stopped" the first time, and always fails in the run "broken"
    import sys
    from pathlib import Path
    from mlrec import config
    config = config.load([a for a in sys.argv[1:] if "=" not in a], [a for a in sys.argv[1:] if "=" in a])
    run = config.run_path
    began = (run / "checkpoints").exists()
    (run / "checkpoints" / "step-000001").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints" / "step-000001" / "state.json").write_text("{}")
    __import__("mlrec.config").config.save(config, run / "config.yaml")
    if config.name.endswith("broken") or (config.name.endswith("stopped") and not began):
        sys.exit("error: out of memory" if config.name.endswith("broken") else 9)
    if not config.name.endswith("endless"):
        (run / "metrics.jsonl").write_text('{"step": 1, "test/hr@10": 0.25, "test/ndcg@10": 0.125}\\n')
    else:
        import time
        time.sleep(60)
"""


@pytest.fixture
def launcher(tmp_path: Path) -> str:
    """The command that pretends to train."""
    (tmp_path / "trainer.py").write_text(textwrap.dedent(TRAINER))
    return shlex.join([sys.executable, str(tmp_path / "trainer.py")])


def sweep_file(folder: Path, text: str) -> Path:
    """A sweep beside two configurations: base.yaml and other.yaml."""
    (folder / "base.yaml").write_text(f"run_dir: {folder}/runs/{{name}}\nseed: 3\n")
    (folder / "other.yaml").write_text("base: [base.yaml]\nname: other\n")
    (folder / "study.yaml").write_text(textwrap.dedent(text))
    return folder / "study.yaml"


def names(runs: list[SweepRun]) -> list[str]:
    return [run.config.name for run in runs]


def test_a_grid_is_every_combination_of_its_points(tmp_path: Path) -> None:
    file = sweep_file(
        tmp_path,
        """
        base: [base.yaml]
        runs: [other.yaml]
        grid:
          encoder:
            tiny: {item.encoders: [video/tiny], item.options: {video/tiny: {size: 32}}, optim.lr: 3e-3}
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
    assert (tiny.item.encoders, tiny.item.options, tiny.item.tuning) == (
        ("video/tiny",),
        {"video/tiny": {"size": 32}},
        "full",
    )
    assert (tiny.optim.lr, tiny.seed, tiny.train.duration) == (3e-3, 3, "3 steps")
    for run in runs:
        files = [argument for argument in run.arguments if "=" not in argument]
        assert (
            load(files, [argument for argument in run.arguments if "=" in argument]) == run.config
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grids: {}", r"unknown key 'grids'; did you mean 'grid'\?"),
        ("seed: 1", "unknown key 'seed'; a sweep has name, base, grid, runs"),
        ("runs: other.yaml", "runs is 'other.yaml'; it must be a list"),
        ("[base.yaml]", "it must hold keys"),
        ("runs: []", "has no runs"),
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
def test_bad_input_names_the_place_and_the_remedy(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_sweep(sweep_file(tmp_path, text))
    assert "study.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_points_keep_their_text(tmp_path: Path) -> None:
    file = sweep_file(
        tmp_path,
        """
        name: 0123
        base: [base.yaml]
        grid:
          optim.lr: [1e-3, 0.10]
          name_of_point: {1.10: {tracking.project: 007}, yes: {tracking.project: "exp #1", optim.betas: [.9, 0.99]}}
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
def test_a_hostile_sweep_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_sweep(sweep_file(tmp_path, text))
    assert "study.yaml" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_missing_file_names_the_near_one(tmp_path: Path) -> None:
    sweep_file(tmp_path, "runs: [other.yaml]")
    with pytest.raises(ValueError, match=r"there is no sweep .*; did you mean .*study\.yaml"):
        read_sweep(tmp_path / "studi.yaml")


def test_finished_runs_are_left_stopped_ones_go_on_and_failures_come_last(
    tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sweep_file(
        tmp_path, "base: [base.yaml]\ngrid: {run: {broken: {}, stopped: {}, whole: {}}}"
    )
    command = [str(file), "--launcher", launcher]
    with pytest.raises(
        RuntimeError,
        match=r"2 of 3 runs failed: study_broken, study_stopped\. Run the same command",
    ):
        run_command(["sweep", *command])
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 3
    assert first[0].startswith(
        "[1/3] study_broken  failed: exit code 1, error: out of memory; see "
    )
    assert "exit code 9" in first[1]
    assert first[2].startswith("[3/3] study_whole  HR@10 0.2500  NDCG@10 0.1250  0.0 min")
    output = tmp_path / "runs" / "study_whole" / "output.log"
    assert output.read_text().startswith(f"$ {launcher} {tmp_path}/base.yaml name=")

    with pytest.raises(RuntimeError, match=r"1 of 3 runs failed: study_broken\."):
        run_command(["sweep", *command])
    again = capsys.readouterr().out.splitlines()
    assert "HR@10 0.2500" in again[1]
    assert again[2].endswith("finished before")
    assert output.read_text().count("$ ") == 1


def test_a_run_with_other_settings_is_refused_before_anything_starts(
    tmp_path: Path, launcher: str
) -> None:
    file = sweep_file(tmp_path, "base: [base.yaml]\nruns: [other.yaml]\ngrid: {run: {whole: {}}}")
    run_command(["sweep", str(file), "--launcher", launcher])
    outputs = {path: path.read_bytes() for path in tmp_path.glob("runs/*/output.log")}
    with pytest.raises(ValueError, match=r"other holds .*seed is 4, was 3"):
        run_command(["sweep", str(file), "seed=4", "--launcher", launcher])
    shutil.rmtree(
        tmp_path / "runs" / "study_whole" / "checkpoints"
    )  # to save room: its results are still those of its settings
    with pytest.raises(
        ValueError,
        match=r"study_whole holds a run with other settings \(optim\.lr is 0\.5, was 0\.001\)",
    ):
        run_command(
            [
                "sweep",
                str(
                    sweep_file(tmp_path, "base: [base.yaml]\ngrid: {run: {whole: {optim.lr: 0.5}}}")
                ),
                "--launcher",
                launcher,
            ]
        )
    assert {path: path.read_bytes() for path in tmp_path.glob("runs/*/output.log")} == outputs


def test_a_launcher_that_only_submits_or_does_not_exist_is_named(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, "runs: [other.yaml]")
    with pytest.raises(RuntimeError, match="1 of 1 runs failed: other"):
        run_command(["sweep", str(file), "--launcher", "true"])
    with pytest.raises(ValueError, match="--launcher: nowhere cannot be started: No such file"):
        run_command(["sweep", str(file), "--launcher", "nowhere"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sweep_that_is_stopped_takes_its_run_along(
    number: int, tmp_path: Path, launcher: str
) -> None:
    file = sweep_file(tmp_path, "base: [base.yaml]\ngrid: {run: {endless: {}}}")
    shell = f'{launcher} "$@" & echo $! > {tmp_path}/pid; wait'
    (tmp_path / "launch.sh").write_text(shell)
    command = [
        sys.executable,
        "-m",
        "mlrec",
        "sweep",
        str(file),
        "--launcher",
        f"bash {tmp_path}/launch.sh",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs" / "study_endless" / "config.yaml").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    trainer = int((tmp_path / "pid").read_text())
    while (
        Path(f"/proc/{trainer}/stat").exists()
        and Path(f"/proc/{trainer}/stat").read_text().split()[2] != "Z"
    ):
        assert time.monotonic() < deadline, "the trainer runs on without its sweep"
        time.sleep(0.05)


def test_the_shipped_sweeps_are_the_tables_of_the_paper() -> None:
    assert names(read_sweep(SHIPPED / "baselines.yaml")) == [row.config for row in BASELINES]
    encoders = read_sweep(SHIPPED / "video_encoders.yaml")
    expected = [((row.encoder,), tuning) for row in VIDEO_ENCODERS for tuning in TUNINGS]
    assert [(run.config.item.encoders, run.config.item.tuning) for run in encoders] == expected
    assert len(encoders) == 45


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_sweep_names_rows_and_opens_with_what_it_is(file: Path) -> None:
    for run in read_sweep(file):
        assert set(run.config.item.encoders) <= set(ENCODERS), run.config.name
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize(
    "run", read_sweep(SHIPPED / "synthetic_encoders.yaml"), ids=lambda run: run.config.name
)
def test_every_run_of_the_synthetic_sweep_learns(
    run: SweepRun, dataset_dir: Path, tmp_path: Path
) -> None:
    files = [argument for argument in run.arguments if "=" not in argument]
    keys = [argument for argument in run.arguments if "=" in argument]
    here = [key for key in tiny_overrides(dataset_dir, tmp_path) if key.startswith("data.")]
    config = load(files, [*keys, *here, "recommender.options.dropout=0"])
    data = open_data(config.data)
    model = build_model(config, data, 0).train()
    batch = StepDataset(
        data, Plan(data.sequences, 0, 30, Owners((1,))), 0, model.tower.specs, False
    )[0]
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
    assert trained == (config.item.tuning != "frozen")
