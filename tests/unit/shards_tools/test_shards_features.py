"""make --features: vectors in the samples, counted where they are missing, and read in training."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from packed import open_packed, samples
from packing import data_set
from rich.console import Console
from tiny import NUM_ITEMS, tiny_overrides

from mlrec.config import load
from mlrec.data.format import DATASET_FILE, item_shard
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import StepDataset, open_data
from mlrec.models.building import build_model
from shards_tools.check.dataset import check
from shards_tools.cli import main
from shards_tools.make import make
from shards_tools.pack.features import digest_of, parse_sources
from shards_tools.pack.inputs import Inputs
from shards_tools.pack.plan import plan
from shards_tools.pack.settings import Settings
from shards_tools.show.facts import describe

QUIET = Console(file=io.StringIO())
SETTINGS = Settings(size=32, items_per_shard=16, users_per_shard=50)
LACKING = ("7", "60")
"""Raw ids without a vector of `image`."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Write features of all items, and others that two items lack."""
    folder = tmp_path_factory.mktemp("features")
    draw = np.random.default_rng(0).normal
    np.save(folder / "text.npy", draw(size=(NUM_ITEMS, 5)).astype(np.float16))
    image = {}
    for raw_id in map(str, range(1, NUM_ITEMS + 11)):
        if raw_id not in LACKING:
            image[raw_id] = draw(size=3).tolist()
    (folder / "image.json").write_text(json.dumps(image))
    return {"image": f"{folder}/image.json", "text": f"{folder}/text.npy"}


@pytest.fixture(scope="module")
def packed(
    raw_dir: Path, sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a data set with these features."""
    out = tmp_path_factory.mktemp("packed") / "data"
    make(raw_dir, str(out), SETTINGS, 2, None, QUIET, inputs=Inputs(features=sources))
    return out


def test_make_features_are_members_of_the_samples(packed: Path, sources: dict[str, str]) -> None:
    info, catalogue = open_packed(packed)
    assert info.media.features == {"image": 3, "text": 5}
    text = np.load(sources["text"]).astype(np.float32)
    for item, sample in enumerate(samples(packed, "items"), start=1):
        raw_id = catalogue.table["raw_id"][item - 1].as_py()
        assert np.array_equal(np.load(io.BytesIO(sample["text.npy"])), text[int(raw_id) - 1])
        assert ("image.npy" in sample) == (raw_id not in LACKING)
    assert catalogue.items_with("image.npy") == NUM_ITEMS - 2


def test_make_features_says_the_rule_and_the_missing_vectors(packed: Path) -> None:
    info, _ = open_packed(packed)
    assert info.remarks == (
        f"features image: 2 of {NUM_ITEMS} items have no vector in image.json",
        f"features image: 10 of {NUM_ITEMS + 8} vectors in image.json belong to no item "
        "of the data set",
        "features text: text.npy has a row for each item of the data set, taken in the order of "
        "raw ids",
    )
    described = describe(str(packed))
    assert described["items_with_features"] == {"image": NUM_ITEMS - 2, "text": NUM_ITEMS}


def test_make_features_other_members_are_those_of_a_packing_without(
    packed: Path, dataset_dir: Path
) -> None:
    pairs = zip(samples(packed, "items"), samples(dataset_dir, "items"), strict=True)
    for sample, plain in pairs:
        own_names = {name for name in sample if not name.startswith("__")}
        plain_names = {name for name in plain if not name.startswith("__")}
        assert own_names - plain_names <= {"image.npy", "text.npy"}
        assert all(sample[name] == plain[name] for name in plain_names)


def test_check_features_without_fault_and_with_a_wrong_width(packed: Path, tmp_path: Path) -> None:
    assert list(check(str(packed))) == []
    copy = Path(shutil.copytree(packed, tmp_path / "data"))
    text = (copy / DATASET_FILE).read_text()
    (copy / DATASET_FILE).write_text(text.replace('"text": 5', '"text": 4'))
    faults = list(check(str(copy)))
    assert len(faults) == NUM_ITEMS
    assert faults[0].endswith("text.npy is not a vector of 4 finite values")


def test_check_features_that_dataset_json_does_not_name(packed: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packed, tmp_path / "data"))
    text = (copy / DATASET_FILE).read_text()
    (copy / DATASET_FILE).write_text(text.replace('"text": 5', '"title": 5'))
    (fault,) = check(str(copy))
    assert "a member is called 'text.npy', which no sample holds" in fault


def test_make_features_the_content_of_the_files_decides_whether_it_continues(
    packed: Path, raw_dir: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    copies = {name: shutil.copy(url, tmp_path) for name, url in sources.items()}
    before = data_set(packed)
    make(raw_dir, str(packed), SETTINGS, 2, None, QUIET, inputs=Inputs(features=copies))
    assert data_set(packed) == before
    for other in ({}, {"text": sources["text"]}, {**sources, "text": sources["image"]}):
        with pytest.raises(ValueError, match="was begun with feature_digests"):
            make(raw_dir, str(packed), SETTINGS, 2, None, QUIET, inputs=Inputs(features=other))
    digest = digest_of(copies)
    (tmp_path / "text.ids.txt").write_text("\n".join(map(str, range(NUM_ITEMS, 0, -1))))
    assert digest_of(copies) != digest


def test_repair_features_needs_the_files_that_were_packed(
    packed: Path, raw_dir: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(packed, tmp_path / "data"))
    shard = copy / item_shard(1)
    content = shard.read_bytes()
    shard.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    options = ["--workers", "2"]
    for name, url in sources.items():
        options += ["--features", f"{name}={url}"]
    assert main(["repair", str(raw_dir), str(copy), "--workers", "2"]) == 2
    assert main(["repair", str(raw_dir), str(copy), *options]) == 0
    assert shard.read_bytes() == content


def test_make_features_dry_run_counts_missing_vectors(
    raw_dir: Path, sources: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["make", str(raw_dir), str(tmp_path / "out"), "--size", "32", "--dry-run"]
    assert main([*arguments, "--features", f"image={sources['image']}"]) == 0
    words = f"features image: missing for 2 of {NUM_ITEMS} items, raw ids 7, 60\n"
    assert words in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["text"], "--features text is not NAME=FILE"),
        (["=text.npy"], "is not NAME=FILE"),
        (["a.b=text.npy"], "is not NAME=FILE, with letters, digits, _ and - in NAME"),
        (["text=a.npy", "text=b.npy"], "gives text twice"),
        ([f"f{place}=a.npy" for place in range(33)], "occurs 33 times, at most 32 fit"),
    ],
)
def test_parse_sources_other_forms_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_sources(arguments)


def test_digest_of_a_missing_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2")
    for name, reason in {
        "none.npy": "the file does not exist",
        "x.csv": "it is no folder with features.json",
    }.items():
        words = f"--features text={tmp_path}/{name}: {reason}. Give a file that ends in .parquet, "
        with pytest.raises(ValueError, match=re.escape(words)):
            digest_of({"text": f"{tmp_path}/{name}"})


def test_digest_of_storage_that_cannot_be_opened_names_the_url_of_the_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("fsspec.get_filesystem_class", lambda _: refuse)
    monkeypatch.setattr(refuse, "_get_kwargs_from_urls", lambda _: {}, raising=False)
    words = r"^ftp://host/text\.npy: this storage cannot be opened \(no route to host\)"
    with pytest.raises(RuntimeError, match=words):
        digest_of({"text": "ftp://host/text.npy"})


def test_plan_features_in_the_raw_folder_are_no_unused_files(
    raw_copy: Path, sources: dict[str, str]
) -> None:
    for name in ("mine.npy", "other.npy"):
        shutil.copy(sources["text"], raw_copy / name)
    (raw_copy / "mine.ids.txt").write_text("\n".join(map(str, range(1, NUM_ITEMS + 1))))
    planned = plan(raw_copy, SETTINGS, Inputs(features={"text": f"{raw_copy}/mine.npy"}))
    assert f"features text: {NUM_ITEMS} of {NUM_ITEMS} items, width 5, from mine.npy" in (
        planned.sources
    )
    (unused,) = (line for line in planned.sources if line.startswith("not used"))
    assert unused.startswith("not used: 1 file (") and unused.endswith("1 .npy such as other.npy")


def losses(dataset: Path, folder: Path, *overrides: str) -> list[float]:
    """Return the losses of some steps with three encoders of features on the whole catalogue."""
    config = load([], [*tiny_overrides(dataset, folder), *overrides])
    data = open_data(config.data)
    model = build_model(config, data, 0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    values = []
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    steps = StepDataset(data, plan, 0, model.tower.specs, local_negatives=False)
    for step in range(3):
        optimizer.zero_grad()
        loss = model(steps[step])
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def test_training_on_packed_features_has_the_losses_of_their_files(
    packed: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    encoders = "item.encoders=[features/text, features/image, id/embedding]"
    shared = [
        encoders,
        "item.options.features/image.missing=zeros",
        "item.options.features/text.whiten=0.75",
    ]
    from_shards = losses(packed, tmp_path, *shared)
    files = []
    for name, url in sources.items():
        files.append(f"item.options.features/{name}.checkpoint={url}")
    from_files = losses(packed, tmp_path, *shared, *files)
    assert from_shards == from_files
    assert len(set(from_shards)) == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "item.encoders=[features/image]",
            f"features/image: 2 of {NUM_ITEMS} items of synthetic have no vector. Set "
            r"item\.options\.features/image\.missing=zeros",
        ),
        (
            "item.encoders=[features/txet]",
            "synthetic holds features/image, features/text. Set it to a file of vectors, or pack "
            "one with mlrec-shards make --features txet=FILE",
        ),
    ],
)
def test_build_model_packed_features_that_are_missing_are_named(
    override: str, words: str, packed: Path, tmp_path: Path
) -> None:
    config = load([], [*tiny_overrides(packed, tmp_path), override])
    data = open_data(config.data)
    with pytest.raises(ValueError, match=words):
        build_model(config, data, 0)
