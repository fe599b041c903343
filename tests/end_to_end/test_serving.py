"""What a service loads: exported vectors and index, against the run that they are of."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import call
from tiny import NUM_ITEMS, tiny_overrides

from mlrec import storage
from mlrec.cli.main import run_command
from mlrec.config import Config, RecommenderConfig, load
from mlrec.config.run_files import CONFIG_FILE, WEIGHTS_FILE
from mlrec.data.catalogue_pass import ranked_items
from mlrec.data.features.files import read_features
from mlrec.data.features.info import INFO_FILE, ITEMS_FILE, RAW_IDS_FILE
from mlrec.data.format import DATASET_FILE
from mlrec.data.stream import Data
from mlrec.evaluation.evaluate import EncodedCatalogue, encode_catalogue
from mlrec.models.recommender import Recommender
from mlrec.runtime.distributed import World
from mlrec.serving import ServedModel
from mlrec.serving.export import export
from mlrec.serving.exported import INDEX_FILE, SERVING_FILE
from mlrec.serving.index import check_index
from mlrec.serving.recommend import recommend as recommend_exactly
from mlrec.serving.recommend import recommend_from_index
from mlrec.serving.recommendation import Recommendation

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


@pytest.fixture(scope="module")
def trained(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    cosine = ["recommender.cosine=true", "loss.temperature=0.07"]
    settings = [
        *tiny_overrides(dataset_dir, tmp_path_factory.mktemp("trained")),
        *cosine,
        "train.duration=4 steps",
    ]
    assert call("mlrec", "train", *settings) == 0
    return load([], settings)


@pytest.fixture(scope="module")
def exported(trained: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    assert call("mlrec", "export", str(trained.run_path), str(out), "--index") == 0
    return out


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def test_index_search_matches_exact_search(exported: Path, trained: Config, data: Data) -> None:
    assert json.loads((exported / SERVING_FILE).read_text())["recall@10"] == 1.0, (
        "a graph of so few items is exact"
    )
    for user in map(data.sequences.raw_user, range(3)):
        exact = recommend_exactly(trained.run_path, user, (), 5, ALONE)
        recommendations = recommend_from_index(str(exported), user, (), 5)
        assert [entry.item for entry in recommendations] == [entry.item for entry in exact]
        assert [entry.score for entry in recommendations] == pytest.approx(
            [entry.score for entry in exact], abs=1e-5
        )


def test_served_model_recommends_without_the_data_set(
    exported: Path, trained: Config, data: Data
) -> None:
    served = ServedModel(str(exported))
    raw_ids = data.catalogue.table["raw_id"].to_pylist()
    assert served.raw_ids_N == [raw_ids[item - 1] for item in served.items_N]
    history = served.raw_ids_N[2::-1]
    items, scores = served.recommend([*history, "an unknown one"], count=4)
    exact = recommend_exactly(trained.run_path, None, history, 4, ALONE)
    assert items == [entry.raw_id for entry in exact] and not set(items) & set(history)
    assert scores == pytest.approx([entry.score for entry in exact], abs=1e-5)
    assert len(served.recommend(history, count=10_000)[0]) == len(served.items_N) - len(history)


def test_served_model_accepts_raw_ids_in_any_form_and_order(
    copied: Path, trained: Config, data: Data
) -> None:
    served = ServedModel(str(copied))
    names = [f"clip {len(served.raw_ids_N) - slot} ü" for slot in range(len(served.raw_ids_N))]
    (copied / RAW_IDS_FILE).write_text(json.dumps(names))
    facts = json.loads((copied / SERVING_FILE).read_text())
    facts["sha256"][RAW_IDS_FILE] = storage.sha256_of(str(copied / RAW_IDS_FILE))
    (copied / SERVING_FILE).write_text(json.dumps(facts))
    items, scores = served.recommend(served.raw_ids_N[:3], 5)
    renamed, same_scores = ServedModel(str(copied)).recommend(names[:3], 5)
    assert renamed == [names[served.raw_ids_N.index(item)] for item in items]
    assert scores.tolist() == same_scores.tolist()


def test_recommend_history_needs_only_the_export(
    copied: Path, dataset_dir: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = ServedModel(str(copied)).raw_ids_N[:2]
    with_titles = recommend_from_index(str(copied), None, history, 4)
    config = (copied / CONFIG_FILE).read_text()
    (copied / CONFIG_FILE).write_text(config.replace(str(dataset_dir), str(tmp_path / "gone")))
    capsys.readouterr()
    recommendations = recommend_from_index(str(copied), None, [*history, "nothing"], 4)
    assert [(entry.item, entry.raw_id, entry.score) for entry in recommendations] == [
        (entry.item, entry.raw_id, entry.score) for entry in with_titles
    ]
    assert all((entry.title, entry.popularity) == ("", None) for entry in recommendations) and all(
        entry.title for entry in with_titles
    )
    errors = capsys.readouterr().err
    assert f"ignored, because they have no vector in {copied}: nothing\n" in errors
    assert f"without titles: it cannot be read from {tmp_path}/gone" in errors
    run_command(["recommend", str(copied), "--history", ",".join(history), "-k", "2"])
    assert "–" in capsys.readouterr().out
    user = data.sequences.raw_user(0)
    with pytest.raises(
        ValueError,
        match=rf"look up user {user} in the data set: .*/gone .* append data\.url=URL",
    ):
        recommend_from_index(str(copied), user, (), 4)
    capsys.readouterr()
    run_command(
        [
            "recommend",
            str(copied),
            f"data.url={dataset_dir}",
            "--user",
            str(user),
            "-k",
            "4",
            "--json",
        ]
    )
    assert all(entry["title"] for entry in json.loads(capsys.readouterr().out))
    with pytest.raises(
        ValueError, match=r"cannot override settings fixed at training time \(seed is 7, was 0\)"
    ):
        recommend_from_index(str(copied), None, history, 4, ["seed=7"])


def test_export_files_are_readable_by_other_users(exported: Path) -> None:
    for name in (WEIGHTS_FILE, CONFIG_FILE, RAW_IDS_FILE, SERVING_FILE):
        assert (exported / name).stat().st_mode & 0o777 == 0o644, name


def test_recommend_command_accepts_an_export(
    exported: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(
        ["recommend", str(exported), "--user", str(data.sequences.users[0]), "-k", "2", "--json"]
    )
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_export_vectors_are_readable_as_features(exported: Path, trained: Config) -> None:
    features = read_features(str(exported))
    assert features.vectors_nX.shape == (NUM_ITEMS, trained.recommender.width)
    assert features.raw_ids_n.to_pylist() == json.loads((exported / RAW_IDS_FILE).read_text())


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return three items that encoding the catalogue treats as damaged."""
    items = [1, NUM_ITEMS // 2, NUM_ITEMS]

    def encode(model: Recommender, data: Data, config: Config, world: World) -> EncodedCatalogue:
        catalogue = encode_catalogue(model, data, config, world)
        return replace(
            catalogue,
            readable_N=catalogue.readable_N & torch.from_numpy(~np.isin(ranked_items(data), items)),
        )

    monkeypatch.setattr("mlrec.serving.index.encode_catalogue", encode)
    monkeypatch.setattr("mlrec.serving.trained.encode_catalogue", encode)
    return items


def test_recommend_history_skips_unreadable_items(
    unreadable: list[int], trained: Config, data: Data, tmp_path: Path
) -> None:
    export(trained.run_path, str(tmp_path / "export"), ALONE)
    raw_ids = ["", *data.catalogue.table["raw_id"].to_pylist()]

    def both(*items: int) -> list[list[Recommendation]]:
        history = [raw_ids[item] for item in items]
        return [
            recommend_exactly(trained.run_path, None, history, NUM_ITEMS, ALONE),
            recommend_from_index(str(tmp_path / "export"), None, history, NUM_ITEMS),
        ]

    readable = [7, NUM_ITEMS - 1, 2]
    for recommendations in (
        *both(unreadable[0], 7, unreadable[1], NUM_ITEMS - 1, 2, unreadable[2]),
        *both(*readable),
    ):
        assert sorted(entry.item for entry in recommendations) == sorted(
            {*range(1, NUM_ITEMS + 1)} - {*unreadable, *readable}
        )
        expected = both(*readable)[0]
        assert [entry.score for entry in recommendations] == pytest.approx(
            [entry.score for entry in expected], abs=1e-5
        )


def test_recommend_history_without_a_known_item_is_an_error(
    unreadable: list[int], trained: Config, exported: Path, data: Data, tmp_path: Path
) -> None:
    raw_ids = data.catalogue.table["raw_id"].to_pylist()
    history = [raw_ids[item - 1] for item in unreadable]
    with pytest.raises(
        ValueError, match=f"--history {','.join(history)}: no item of this history could be read"
    ):
        recommend_exactly(trained.run_path, None, history, 3, ALONE)
    export(trained.run_path, str(tmp_path / "export"), ALONE)
    newest = re.escape(str(history))
    with pytest.raises(
        ValueError,
        match=rf"none of its 3 items \(newest {newest}\) has a vector in .* the most popular items",
    ):
        recommend_from_index(str(tmp_path / "export"), None, history, 3)
    served = ServedModel(str(exported))
    with pytest.raises(ValueError, match="after an empty history"):
        served.recommend([], 3)
    for unknown in ([""], ["-5", "999999"], [str(NUM_ITEMS + 1)] * 100):
        with pytest.raises(ValueError, match=f"none of its {len(unknown)} items"):
            served.recommend(unknown, 3)


def test_export_without_index_replaces_one_with_index(copied: Path, trained: Config) -> None:
    export(trained.run_path, str(copied))
    with pytest.raises(
        ValueError,
        match="Write the export with mlrec export RUN OUT --index",
    ):
        ServedModel(str(copied))


@pytest.mark.parametrize("written", [CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, ITEMS_FILE])
def test_served_model_interrupted_export_is_refused(
    written: str, copied: Path, trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = storage.publish

    def stop_after(source: Path, url: str) -> None:
        publish(source, url)
        if url.endswith(written):
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "publish", stop_after)
    with pytest.raises(KeyboardInterrupt):
        export(trained.run_path, str(copied), ALONE)
    assert (copied / ITEMS_FILE).exists() == (written != INDEX_FILE), (
        "old ids do not stand beside new vectors"
    )
    assert (copied / INFO_FILE).exists() == (written in (CONFIG_FILE, WEIGHTS_FILE)), (
        "so they are no features"
    )
    with pytest.raises(ValueError, match=f"has no {SERVING_FILE}"):
        ServedModel(str(copied))


def test_served_model_mixed_export_files_are_refused(copied: Path, trained: Config) -> None:
    facts = json.loads((copied / SERVING_FILE).read_text())
    assert facts["sha256"].keys() == {path.name for path in copied.iterdir()} - {
        CONFIG_FILE,
        SERVING_FILE,
        INFO_FILE,
    }
    for name in facts["sha256"]:
        content = (copied / name).read_bytes()
        (copied / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(
            ValueError,
            match=f"copied/{name} is damaged: it is not the file that {SERVING_FILE} names",
        ):
            ServedModel(str(copied))
        (copied / name).unlink()
        with pytest.raises(ValueError, match=f"copied/{name} is missing"):
            ServedModel(str(copied))
        (copied / name).write_bytes(content)
    ServedModel(str(copied))


def test_recommend_other_data_set_is_not_used_for_an_export(
    copied: Path, dataset_dir: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved, repacked = (
        Path(shutil.copytree(dataset_dir, tmp_path / name)) for name in ("moved", "repacked")
    )
    info = json.loads((repacked / DATASET_FILE).read_text())
    (repacked / DATASET_FILE).write_text(json.dumps(info | {"name": "repacked"}))
    config = (copied / CONFIG_FILE).read_text()

    (copied / CONFIG_FILE).write_text(config.replace(str(dataset_dir), str(moved)))
    (history, user) = ServedModel(str(copied)).raw_ids_N[:1], int(data.sequences.users[0])
    assert all(entry.title for entry in recommend_from_index(str(copied), None, history, 3))
    (copied / CONFIG_FILE).write_text(config.replace(str(dataset_dir), str(repacked)))
    assert [entry.title for entry in recommend_from_index(str(copied), None, history, 3)] == [
        "",
        "",
        "",
    ]
    assert f"without titles: {repacked} holds" in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=rf"user {user} in the data set: {repacked} holds .* append data\.url=URL"
    ):
        recommend_from_index(str(copied), user, (), 3)


def test_recommend_and_export_accept_the_url_of_a_moved_data_set(
    trained: Config,
    dataset_dir: Path,
    data: Data,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(trained.run_path, tmp_path / "run"))
    config = (run / CONFIG_FILE).read_text()
    (run / CONFIG_FILE).write_text(config.replace(str(dataset_dir), str(tmp_path / "gone")))
    user, moved = str(data.sequences.users[0]), f"data.url={dataset_dir}"
    assert call("mlrec", "recommend", str(run), "--user", user) == 2
    capsys.readouterr()
    assert call("mlrec", "recommend", str(run), "--user", user, "-k", "3", moved, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert call("mlrec", "export", str(run), str(tmp_path / "out"), "--index", moved) == 0
    assert load([tmp_path / "out" / CONFIG_FILE]).data.url == str(dataset_dir)
    capsys.readouterr()
    assert call("mlrec", "recommend", str(run), "--user", user, moved, "recommender.width=32") == 2
    assert (
        "cannot override settings fixed at training time (recommender.width is 32, was 16)"
        in capsys.readouterr().err
    )


def test_export_refused_changes_nothing(
    copied: Path, trained: Config, dataset_dir: Path, tmp_path: Path
) -> None:
    settings = [
        setting
        for setting in tiny_overrides(dataset_dir, tmp_path)
        if not setting.startswith("recommender.options")
    ]
    counted = [*settings, "name=counted", "recommender.name=popularity", "train.duration=0 steps"]
    assert call("mlrec", "train", *counted) == 0
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    run = load([], counted).run_path
    assert call("mlrec", "export", str(run), str(copied), "--index") == 2
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    config = (trained.run_path / CONFIG_FILE).read_bytes()
    with pytest.raises(
        ValueError,
        match=rf"Cannot export to {trained.run_path}: it is a run's folder, "
        rf"whose {CONFIG_FILE} the export would overwrite",
    ):
        export(run, str(trained.run_path))
    assert (trained.run_path / CONFIG_FILE).read_bytes() == config


def test_index_missing_or_unsupported_is_an_error(trained: Config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="items of nfm: it does not score by the product"):
        check_index(replace(trained, recommender=RecommenderConfig("nfm", 16, {})))
    with pytest.raises(
        ValueError,
        match="Write the export with mlrec export RUN OUT --index",
    ):
        ServedModel(str(tmp_path))


def test_served_model_edited_configuration_is_refused(copied: Path) -> None:
    config = (copied / CONFIG_FILE).read_text()
    assert "cosine: true" in config
    (copied / CONFIG_FILE).write_text(config.replace("cosine: true", "cosine: false"))
    words = (
        "config.yaml does not describe the model of this export: "
        "recommender.cosine is False, was True. Restore"
    )
    with pytest.raises(ValueError, match=words):
        ServedModel(str(copied))
