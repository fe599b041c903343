"""The synthetic folder: what its model promises, and that its factors can be seen."""

import json
from pathlib import Path

import numpy as np
import pytest
from packing import tree

from mlrec.data.format import ORACLE_FILE, SplitInfo
from mlrec.data.media.frames import decode_video
from mlrec.data.media.policies import middle, uniform
from shards_tools.raw.cut_offs import find_cut_offs
from shards_tools.raw.folder import open_raw
from shards_tools.raw.pairs.text import read_text
from shards_tools.raw.split import Sequences, training_popularity
from shards_tools.synthetic.make import make_synthetic
from shards_tools.synthetic.media import SHAPES, TEXTURES, Look, video_bytes
from shards_tools.synthetic.model import (
    LATE_SHARE,
    MIN_LENGTH,
    World,
    draw_sequences,
    draw_world,
)
from shards_tools.synthetic.reference import reference_metrics

NUM_USERS = 4000
NUM_ITEMS = 600
SPLIT = SplitInfo()
MIN_SATURATION = 60
"""Pixels below it are background, which is grey up to the noise of H.264."""


@pytest.fixture(scope="module")
def drawn() -> tuple[World, Sequences]:
    rng = np.random.default_rng(0)
    world = draw_world(NUM_USERS, NUM_ITEMS, rng)
    return world, draw_sequences(world, rng)


def test_draw_sequences_has_no_repeats_and_the_lengths_of_microlens(
    drawn: tuple[World, Sequences],
) -> None:
    _, sequences = drawn
    for run in np.split(sequences.items, sequences.offsets[1:-1]):
        assert len(set(run.tolist())) == len(run)
    assert sequences.lengths.min() == MIN_LENGTH
    assert sequences.lengths.mean() == pytest.approx(7.2, abs=0.15)
    # longer than the history that training uses
    assert 0.02 < (sequences.lengths > 13).mean() < 0.05


def test_draw_sequences_late_items_are_targets_but_never_trained_on(
    drawn: tuple[World, Sequences],
) -> None:
    world, sequences = drawn
    popularity_N = training_popularity(sequences, SPLIT, NUM_ITEMS)[1:]
    assert not popularity_N[world.late_N].any()
    assert (popularity_N == 0).mean() == pytest.approx(LATE_SHARE, abs=0.01)
    targets = sequences.items[sequences.offsets[1:] - 1] - 1
    # cold items matter in the test split
    assert (popularity_N[targets] == 0).mean() > 0.05


def test_draw_sequences_with_times_late_items_are_cold_under_a_split_by_time_alone() -> None:
    rng = np.random.default_rng(0)
    world = draw_world(NUM_USERS, NUM_ITEMS, rng)
    sequences = draw_sequences(world, rng, has_times=True)
    assert sequences.times is not None
    for run in np.split(sequences.times, sequences.offsets[1:-1]):
        assert (np.diff(run) >= 0).all()
    cut_offs = find_cut_offs(sequences, "milliseconds", "", "", "the log")
    by_time = SplitInfo(13, 5, "time", *cut_offs)
    late_N1 = np.concatenate([[False], world.late_N])
    assert not training_popularity(sequences, by_time, NUM_ITEMS)[late_N1].any()
    assert training_popularity(sequences, SPLIT, NUM_ITEMS)[late_N1].sum() > 100
    # the reference follows the split: fewer users have a target
    results = reference_metrics(world, sequences, by_time)
    assert results["oracle"]["all"]["users"] < NUM_USERS / 2
    assert results["oracle"]["cold"]["hr@10"] > 0.5
    assert results["popularity"]["cold"]["hr@10"] == 0


def test_draw_sequences_popularity_has_a_long_tail(drawn: tuple[World, Sequences]) -> None:
    popularity_N = np.sort(training_popularity(drawn[1], SPLIT, NUM_ITEMS)[1:])[::-1]
    assert popularity_N[: NUM_ITEMS // 5].sum() > 0.4 * popularity_N.sum()


def test_reference_metrics_rank_oracle_popularity_chance(drawn: tuple[World, Sequences]) -> None:
    results = reference_metrics(*drawn, SPLIT)
    oracle = results["oracle"]["all"]
    popularity = results["popularity"]["all"]
    chance = results["chance"]["all"]
    # content is worth learning: popularity alone is far from the best
    assert oracle["hr@10"] > 6 * popularity["hr@10"]
    assert popularity["hr@10"] > 2 * chance["hr@10"]
    assert chance["hr@10"] == pytest.approx(10 / NUM_ITEMS, rel=0.05)
    assert results["popularity"]["cold"]["hr@10"] == 0


def test_draw_sequences_content_of_the_history_reaches_most_of_the_oracle(
    drawn: tuple[World, Sequences],
) -> None:
    world, sequences = drawn
    num_hits = 0
    for user, end in enumerate(sequences.offsets[1:]):
        start = max(sequences.offsets[user], end - SPLIT.keep_last)
        history = sequences.items[start : end - 1] - 1
        # an estimate of the ideal item, plus the item before the target, as in the model
        wanted_F = world.items_NF[history].mean(axis=0) + world.items_NF[history[-1]]
        scores_N = world.items_NF @ wanted_F
        scores_N[history] = -np.inf
        target = sequences.items[end - 1] - 1
        num_hits += int((scores_N > scores_N[target]).sum() < 10)
    assert num_hits / NUM_USERS > 0.6 * reference_metrics(*drawn, SPLIT)["oracle"]["all"]["hr@10"]


def colour_plane(frames: np.ndarray) -> np.ndarray:
    """Return pixels as complex numbers, whose angle is the hue and whose length the saturation."""
    return np.asarray(frames.astype(float) @ np.exp(2j * np.pi * np.arange(3) / 3))


def hues_of(frames: np.ndarray) -> np.ndarray:
    """Return the mean hue of the coloured pixels of each frame in radians."""
    colour = colour_plane(frames)
    colour[np.abs(colour) <= MIN_SATURATION] = 0
    return np.angle(colour.sum(axis=(1, 2)))


@pytest.mark.parametrize("policy", [middle, uniform])
def test_video_bytes_few_small_frames_show_colour_and_motion(policy: object) -> None:
    look = Look(
        hue=2 * np.pi / 3,
        shape=SHAPES.index("circle"),
        texture=TEXTURES.index("checks"),
        direction=0.0,
    )
    for seed in range(5):
        video = video_bytes(look, np.random.default_rng(seed))
        frames = decode_video(video, lambda length: policy(length, 5, 1), 32)  # type: ignore[operator]
        assert hues_of(frames) == pytest.approx(look.hue, abs=0.2)
        is_coloured = np.abs(colour_plane(frames)) > MIN_SATURATION
        # columns lie on a circle, because an object that leaves at one side comes back at the other
        column_angles = np.exp(2j * np.pi * np.arange(32) / 32)
        centres = np.angle((is_coloured.sum(axis=1) * column_angles).sum(axis=1))
        steps = np.diff(np.unwrap(centres))
        # direction 0: always to the right
        assert (steps > 0).all()


def test_make_synthetic_videos_differ_in_size_and_rate(raw_dir: Path) -> None:
    import av

    shapes = set()
    rates = set()
    for path in sorted((raw_dir / "videos").iterdir()):
        with av.open(str(path), "r") as video:
            stream = video.streams.video[0]
            assert stream.codec_context.name == "h264"
            shapes.add((stream.height, stream.width))
            rates.add(stream.average_rate)
    assert len(shapes) >= 4
    assert len(rates) >= 4
    assert any(height > width for height, width in shapes)


def test_make_synthetic_seed_decides_the_bytes(raw_dir: Path, tmp_path: Path) -> None:
    model = json.loads((raw_dir / ORACLE_FILE).read_text())["model"]
    again = tmp_path / "again"
    make_synthetic(again, model["users"], model["items"], model["seed"], workers=1)
    assert tree(again) == tree(raw_dir)
    # the partial folder is gone
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    rng = np.random.default_rng(model["seed"] + 1)
    other = draw_sequences(draw_world(model["users"], model["items"], rng), rng)
    written = read_text(open_raw(str(again)).pairs).sequences
    assert other.items.tolist() != written.items.tolist()


def test_make_synthetic_existing_folder_is_not_replaced(raw_dir: Path, tmp_path: Path) -> None:
    model = json.loads((raw_dir / ORACLE_FILE).read_text())["model"]
    assert not make_synthetic(raw_dir, model["users"], model["items"], model["seed"], workers=1)
    with pytest.raises(ValueError, match="holds something else"):
        make_synthetic(raw_dir, model["users"], model["items"], model["seed"] + 1, workers=1)
    with pytest.raises(ValueError, match="holds something else"):
        arguments = (raw_dir, model["users"], model["items"], model["seed"])
        make_synthetic(*arguments, workers=1, has_times=True)
    with pytest.raises(ValueError, match="needs a user and 40 items"):
        make_synthetic(tmp_path / "small", 10, 5, 0, workers=1)
