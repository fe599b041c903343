"""The synthetic folder: what its model promises, and that its factors can be seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlrec.data.format import ORACLE_FILE, SplitInfo
from mlrec.data.media.frames import decode_video, middle, uniform
from shards_tools.raw.folder import open_raw
from shards_tools.raw.pairs_tsv import read_pairs_tsv
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

NUM_USERS, NUM_ITEMS = 4000, 600
SPLIT = SplitInfo()


@pytest.fixture(scope="module")
def drawn() -> tuple[World, Sequences]:
    rng = np.random.default_rng(0)
    world = draw_world(NUM_USERS, NUM_ITEMS, rng)
    return world, draw_sequences(world, rng)


def test_users_watch_no_item_twice_and_as_many_as_in_microlens(
    drawn: tuple[World, Sequences],
) -> None:
    _, sequences = drawn
    runs = np.split(sequences.items, sequences.offsets[1:-1])
    assert all(len(set(run.tolist())) == len(run) for run in runs)
    assert sequences.lengths.min() == MIN_LENGTH
    assert sequences.lengths.mean() == pytest.approx(7.2, abs=0.15)
    assert 0.02 < (sequences.lengths > 13).mean() < 0.05


def test_cold_items_are_targets_but_never_trained_on(drawn: tuple[World, Sequences]) -> None:
    world, sequences = drawn
    popularity_N = training_popularity(sequences, SPLIT, NUM_ITEMS)[1:]
    assert not popularity_N[world.late_N].any()
    assert (popularity_N == 0).mean() == pytest.approx(LATE_SHARE, abs=0.01)
    targets = sequences.items[sequences.offsets[1:] - 1] - 1
    assert (popularity_N[targets] == 0).mean() > 0.05


def test_popularity_has_a_long_tail(drawn: tuple[World, Sequences]) -> None:
    popularity_N = np.sort(training_popularity(drawn[1], SPLIT, NUM_ITEMS)[1:])[::-1]
    assert popularity_N[: NUM_ITEMS // 5].sum() > 0.4 * popularity_N.sum()


def test_oracle_far_above_popularity_above_chance(drawn: tuple[World, Sequences]) -> None:
    results = reference_metrics(*drawn, SPLIT)
    oracle, popularity, chance = (
        results[name]["all"] for name in ("oracle", "popularity", "chance")
    )
    assert oracle["hr@10"] > 6 * popularity["hr@10"]
    assert popularity["hr@10"] > 2 * chance["hr@10"]
    assert chance["hr@10"] == pytest.approx(10 / NUM_ITEMS, rel=0.05)
    assert results["popularity"]["cold"]["hr@10"] == 0


def test_content_of_the_history_reaches_most_of_the_oracle(drawn: tuple[World, Sequences]) -> None:
    world, sequences = drawn
    hits = 0.0
    for user, end in enumerate(sequences.offsets[1:]):
        history = sequences.items[max(sequences.offsets[user], end - SPLIT.keep_last) : end - 1] - 1
        scores_N = world.items_NF @ (
            world.items_NF[history].mean(axis=0) + world.items_NF[history[-1]]
        )
        scores_N[history] = -np.inf
        hits += (scores_N > scores_N[sequences.items[end - 1] - 1]).sum() < 10
    assert hits / NUM_USERS > 0.6 * reference_metrics(*drawn, SPLIT)["oracle"]["all"]["hr@10"]


def hues_of(frames: np.ndarray) -> np.ndarray:
    """Mean hue of the coloured pixels of each frame, in radians."""
    pixels = frames.astype(float) @ np.exp(2j * np.pi * np.arange(3) / 3)
    return np.angle([frame[np.abs(frame) > 60].sum() for frame in pixels])


@pytest.mark.parametrize("policy", [middle, uniform])
def test_colour_and_motion_show_in_few_small_frames(policy: object) -> None:
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
        coloured = np.abs(frames.astype(float) @ np.exp(2j * np.pi * np.arange(3) / 3)) > 60
        around = np.exp(2j * np.pi * np.arange(32) / 32)  # the frame's sides meet
        steps = np.diff(np.unwrap(np.angle((coloured.sum(axis=1) * around).sum(axis=1))))
        assert (steps > 0).all()


def test_videos_differ_in_size_and_rate_and_some_are_portrait(raw_dir: Path) -> None:
    import av

    shapes, rates = set(), set()
    for path in sorted((raw_dir / "videos").iterdir()):
        with av.open(str(path), "r") as video:
            stream = video.streams.video[0]
            assert stream.codec_context.name == "h264"
            shapes.add((stream.height, stream.width))
            rates.add(stream.average_rate)
    assert len(shapes) >= 4
    assert len(rates) >= 4
    assert any(height > width for height, width in shapes)


def test_same_seed_same_bytes_and_another_seed_others(raw_dir: Path, tmp_path: Path) -> None:
    model = json.loads((raw_dir / ORACLE_FILE).read_text())["model"]
    again = tmp_path / "again"
    make_synthetic(again, model["users"], model["items"], model["seed"], workers=1)
    files = sorted(path.relative_to(raw_dir) for path in raw_dir.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((raw_dir / path).read_bytes() == (again / path).read_bytes() for path in files)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    rng = np.random.default_rng(model["seed"] + 1)
    other = draw_sequences(draw_world(model["users"], model["items"], rng), rng)
    assert (
        other.items.tolist() != read_pairs_tsv(open_raw(str(again)).pairs).sequences.items.tolist()
    )


def test_a_folder_of_other_settings_is_left_alone(raw_dir: Path, tmp_path: Path) -> None:
    model = json.loads((raw_dir / ORACLE_FILE).read_text())["model"]
    assert not make_synthetic(raw_dir, model["users"], model["items"], model["seed"], workers=1)
    with pytest.raises(ValueError, match="holds something else"):
        make_synthetic(raw_dir, model["users"], model["items"], model["seed"] + 1, workers=1)
    with pytest.raises(ValueError, match="needs a user and 40 items"):
        make_synthetic(tmp_path / "small", 10, 5, 0, workers=1)
