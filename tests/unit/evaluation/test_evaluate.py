"""Full ranking against a plain implementation: one user at a time, a sort of the catalogue."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from histories import states_of

from mlrec.config import Config, DataConfig, EvaluateConfig, ResumeConfig
from mlrec.config.metric_names import metric_names
from mlrec.config.run_files import RESULTS_FILE
from mlrec.data.catalogue_pass import (
    CataloguePass,
    Chunk,
    pass_of_rank,
    ranked_items,
    stream_catalogue,
)
from mlrec.data.decode import decode_items, members_of
from mlrec.data.format import item_shard
from mlrec.data.schema import InputSpec
from mlrec.data.stream import Data, open_data
from mlrec.evaluation import evaluate as evaluation
from mlrec.evaluation import extract as extraction
from mlrec.evaluation.evaluate import encode_catalogue, evaluate, sample_users
from mlrec.evaluation.extraction import settings_of
from mlrec.evaluation.results import TargetRanks, read_ranks, read_results, write_results
from mlrec.evaluation.run_evaluation import evaluate_run
from mlrec.evaluation.stage_vectors import NO_STAGES, item_vectors
from mlrec.models.building import build_model
from mlrec.runs import checkpoint
from mlrec.runs.checkpoint import TrainingState
from mlrec.runs.record import write_record
from mlrec.runtime.distributed import World, shares
from mlrec.runtime.progress import task

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))


def read(
    data: Data, items: np.ndarray, inputs: Sequence[InputSpec]
) -> dict[InputSpec, torch.Tensor]:
    """Return the media of `items` by random access."""
    names = members_of(inputs, data.info.media)
    samples = ((item, data.store.read(item, names)) for item in items.tolist())
    return decode_items(samples, len(items), inputs, data.info.media)[0]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluate_ranks_as_a_sort_per_user_does(
    video_config: Config, data: Data, split: str
) -> None:
    model = build_model(video_config, data, 0).eval()
    ranked = evaluate(model, data, video_config, ALONE, split)

    items = ranked_items(data)
    with torch.no_grad():
        vectors = model.tower(read(data, items, model.tower.specs))
        row_of = {item: row for row, item in enumerate(items.tolist())}
        hits, gains = [], []
        for user in range(data.sequences.num_users):
            sequence = data.sequences.items[
                data.sequences.offsets[user] : data.sequences.offsets[user + 1]
            ][-13:].tolist()
            *history, target = sequence[: len(sequence) - (split == "validation")]
            rows = torch.tensor([row_of[item] for item in history[-10:]])
            real = torch.ones(1, len(rows), dtype=torch.bool)
            state = states_of(model.sequence_model, vectors[rows][None], real)[0, -1]
            scores = vectors @ state
            scores[[row_of[item] for item in history]] = float("-inf")
            rank = scores.argsort(descending=True).tolist().index(row_of[target]) + 1
            hits.append(rank <= 10)
            gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
    assert ranked.metrics["all"]["hr@10"] == pytest.approx(np.mean(hits), abs=1e-6)
    assert ranked.metrics["all"]["ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert (
        sum(group["users"] for name, group in ranked.metrics.items() if name != "all")
        == data.sequences.num_users
    )
    chance = ranked.baselines["chance"]["all"]["hr@10"]
    assert chance == pytest.approx(10 / (len(items) - 5), rel=0.1)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 3])
def test_stream_catalogue_delivers_every_item_once(
    video_config: Config, data: Data, num_workers: int, world_size: int
) -> None:
    model = build_model(video_config, data, 0)
    items = ranked_items(data)
    expected = read(data, items, model.tower.specs)[model.tower.specs[0]]
    media: list[torch.Tensor] = []
    chunk_counts = set()
    for rank in range(world_size):
        chunks = pass_of_rank(data, model.tower.specs, 7, rank, shares(len(items), world_size))
        pieces = sorted(
            stream_catalogue(chunks, num_workers, pin_memory=False), key=lambda chunk: chunk.start
        )
        chunk_counts.add(len(pieces))
        media += [chunk.media[model.tower.specs[0]] for chunk in pieces]
    assert torch.equal(torch.cat(media), expected)
    assert len(chunk_counts) == 1, "every rank has the same number of chunks"


def test_stream_catalogue_chunks_are_pinned_by_the_loader(
    video_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader_options: list[dict[str, Any]] = []

    def loader(share: CataloguePass, **options: Any) -> CataloguePass:
        loader_options.append(options)
        return share

    monkeypatch.setattr("mlrec.data.workers.DataLoader", loader)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    model = build_model(video_config, data, 0)
    share = pass_of_rank(data, model.tower.specs, 7, 0, (20,))
    chunk = next(stream_catalogue(share, 0, pin_memory=True))
    assert [options["pin_memory"] for options in loader_options] == [True]
    pinned = chunk.pin_memory()
    assert pinned.media.keys() == chunk.media.keys()
    assert all(torch.equal(pinned.media[spec], tensor + 1) for spec, tensor in chunk.media.items())
    assert replace(pinned, media=chunk.media) == chunk


def test_encode_catalogue_pins_media_only_for_a_gpu(
    video_config: Config, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[bool] = []

    def stream(share: CataloguePass, num_workers: int, pin_memory: bool) -> Iterator[Chunk]:
        pinned.append(pin_memory)
        return iter(())

    zeros = torch.zeros
    monkeypatch.setattr(
        torch, "zeros", lambda *size, device=None, **options: zeros(*size, **options)
    )
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor)
    model = build_model(video_config, data, 0)
    for module in (evaluation, extraction):
        monkeypatch.setattr(module, "stream_catalogue", stream)
    for kind in ("cuda", "cpu"):
        world = replace(ALONE, device=torch.device(kind))
        encode_catalogue(model, data, video_config, world)
        encoder = model.tower.encoders[0]
        settings = settings_of(video_config, data, encoder, encoder.spec, NO_STAGES)
        vectors = item_vectors(encoder, "video/tiny", NO_STAGES)
        with task("nothing", 0) as under_way:
            encoding = extraction._Extraction(
                video_config, "", world, data, encoder.spec, vectors, None, settings, chunk=8
            )
            block = extraction._encode(encoding, 0, ranked_items(data), under_way)
        assert set(block.reasons_n) == {"it was not delivered"}
    assert pinned == [True, True, False, False]


@pytest.mark.parametrize("cut", ["between two samples", "inside a member"])
def test_encode_catalogue_of_a_cut_shard_lists_every_lost_item(
    dataset_dir: Path, tmp_path: Path, video_config: Config, cut: str
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache"), num_workers=0))
    start_of_item_10 = opened.catalogue.members(10)[0].offset
    with open(copy / item_shard(0), "r+b") as shard:
        shard.truncate(start_of_item_10 + (5 if cut == "inside a member" else -512))
    model = build_model(video_config, opened, 0)
    catalogue = encode_catalogue(model, opened, video_config, ALONE)
    assert sorted(catalogue.bad_items) == list(range(10, 17)), "items 10 to 16 are behind the cut"
    assert all("the file is cut short" in reason for reason in catalogue.bad_items.values())
    assert len(catalogue.items_ND) == len(ranked_items(opened))


def test_evaluate_with_an_unreadable_item_never_recommends_it(
    dataset_dir: Path, tmp_path: Path, video_config: Config
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset_dir, copy)
    opened = open_data(DataConfig(url=str(copy), cache_dir=str(tmp_path / "cache"), num_workers=0))
    members = opened.catalogue.members(5)
    with open(copy / item_shard(0), "r+b") as shard:
        shard.seek(members[1].offset)
        shard.write(b"no jpeg at all")
    model = build_model(video_config, opened, 0)
    catalogue = encode_catalogue(model, opened, video_config, ALONE)
    assert list(catalogue.bad_items) == [5]
    assert catalogue.readable_N.tolist() == (ranked_items(opened) != 5).tolist()
    ranking = evaluate(model, opened, video_config, ALONE, "test")
    assert ranking.bad_items.keys() == {5}
    assert ranking.metrics["all"]["users"] == opened.sequences.num_users


def test_evaluate_scores_that_are_nan_earn_chance(tiny_config: Config, data: Data) -> None:
    model = build_model(tiny_config, data, 0)
    torch.nn.init.constant_(model.tower.encoders[0].embedding.weight, float("nan"))
    ranking = evaluate(model, data, tiny_config, ALONE, "test")
    assert ranking.metrics["all"]["hr@10"] == pytest.approx(
        ranking.baselines["chance"]["all"]["hr@10"]
    )


def test_evaluate_on_a_sample_ranks_the_same_users_as_all_do(
    tiny_config: Config, data: Data
) -> None:
    model = build_model(tiny_config, data, 0)
    everyone = data.sequences.evaluated_users("validation")
    all_ranks = evaluate(model, data, tiny_config, ALONE, "validation", sampled=True)
    assert not all_ranks.is_sample
    sampled_config = replace(tiny_config, evaluate=EvaluateConfig(users=7))
    ranked = evaluate(model, data, sampled_config, ALONE, "validation", sampled=True)
    users = sample_users(everyone, sampled_config)
    assert ranked.is_sample
    assert len(set(users.tolist())) == 7 == ranked.metrics["all"]["users"]
    places = np.searchsorted(everyone, users)
    assert ranked.ranks.better_B.tolist() == all_ranks.ranks.better_B[places].tolist()


def test_sample_users_depends_on_the_seed_and_may_be_all(tiny_config: Config) -> None:
    everyone = np.arange(5, 305)
    config = replace(tiny_config, evaluate=EvaluateConfig(users=20))
    users = sample_users(everyone, config)
    assert (np.diff(users) > 0).all() and set(users) <= set(everyone)
    assert users.tolist() == sample_users(everyone, config).tolist()
    assert users.tolist() != sample_users(everyone, replace(config, seed=1)).tolist()
    config = replace(tiny_config, evaluate=EvaluateConfig(users=300))
    assert sample_users(everyone, config) is everyone


def test_evaluate_at_other_cutoffs_ranks_alike(tiny_config: Config, data: Data) -> None:
    model = build_model(tiny_config, data, 0)
    usual = evaluate(model, data, tiny_config, ALONE, "test")
    config = replace(tiny_config, evaluate=EvaluateConfig(cutoffs=(1, 10, 50)))
    other = evaluate(model, data, config, ALONE, "test")
    assert list(other.metrics["all"]) == ["users", *metric_names((1, 10, 50))]
    assert other.metrics["all"]["hr@10"] == usual.metrics["all"]["hr@10"]
    assert other.baselines["chance"].keys() == other.metrics.keys()


def trained_elsewhere(config: Config, data: Data) -> None:
    """Save a checkpoint whose weights were trained on another data set."""
    weights = build_model(config, data, 0).state_dict()
    tensors = (
        (index, f"{checkpoint.WEIGHT}{name}", tensor)
        for index, (name, tensor) in enumerate(weights.items())
    )
    checkpoint.save(config.run_path, ALONE, TrainingState(1, 0, "of another data set", 18), tensors)


@pytest.mark.parametrize("force", [False, True])
def test_evaluate_run_on_another_data_set_writes_no_results(
    video_config: Config, data: Data, capsys: pytest.CaptureFixture[str], force: bool
) -> None:
    trained_elsewhere(video_config, data)
    ranking = evaluate_run(
        replace(video_config, resume=ResumeConfig(force=force)), data, ALONE, "test"
    )
    assert ranking.metrics["all"]["users"] == data.sequences.num_users
    assert (
        "is unchanged: the run was trained on another data set than the one at "
        f"{video_config.data.url}" in capsys.readouterr().err
    )
    assert not (video_config.run_path / RESULTS_FILE).exists()


def test_evaluate_run_leaves_results_of_another_data_set(
    video_config: Config, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_elsewhere(video_config, data)
    # A run resumed with resume.force on this data set names it in run.json.
    write_record(video_config.run_path, {"dataset": {"fingerprint": data.info.fingerprint}})
    evaluate_run(video_config, data, ALONE, "validation")
    results = read_results(video_config.run_path)
    assert results is not None and results.fingerprint == data.info.fingerprint
    ranks = read_ranks(video_config.run_path, results)
    assert len(ranks.tied_B) == data.sequences.num_users
    # Each target's popularity tells the groups of results.json apart user by user.
    assert ranks.popularity_B is not None
    num_cold = int((ranks.popularity_B == 0).sum())
    assert num_cold == results.metrics["cold"]["users"] > 0
    no_items = np.zeros(data.sequences.num_users, int)
    elsewhere = replace(results, fingerprint="e" * 64)
    write_results(video_config.run_path, elsewhere, TargetRanks(no_items, no_items))
    before = (video_config.run_path / RESULTS_FILE).read_bytes()
    evaluate_run(video_config, data, ALONE, "test")
    assert (
        "it holds the ranking of another data set (eeeeeeeeeeee). "
        "Remove it to write the next ranking" in capsys.readouterr().err
    )
    assert (video_config.run_path / RESULTS_FILE).read_bytes() == before


def test_evaluate_run_replaces_damaged_results(video_config: Config, data: Data) -> None:
    trained_elsewhere(video_config, data)
    write_record(video_config.run_path, {"dataset": {"fingerprint": data.info.fingerprint}})
    (video_config.run_path / RESULTS_FILE).write_bytes(b"{")
    evaluate_run(video_config, data, ALONE, "test")
    assert read_results(video_config.run_path) is not None


def test_evaluate_run_of_another_split_says_which_results_it_replaces(
    video_config: Config, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_elsewhere(video_config, data)
    run = video_config.run_path
    write_record(run, {"dataset": {"fingerprint": data.info.fingerprint}})
    evaluate_run(video_config, data, ALONE, "validation")
    assert RESULTS_FILE not in capsys.readouterr().err
    evaluate_run(video_config, data, ALONE, "test")
    assert (
        f"{run / RESULTS_FILE} now holds the test split; it held the validation split, which "
        f"mlrec evaluate {run} --split validation writes again" in capsys.readouterr().err
    )
    results = read_results(run)
    assert results is not None and results.split == "test"
    users = [summary["all"]["users"] for summary in (results.metrics, *results.baselines.values())]
    assert [repr(count) for count in users] == [str(data.sequences.num_users)] * len(users)
