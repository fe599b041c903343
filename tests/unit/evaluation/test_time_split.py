"""A split by time: who is trained and ranked, on a log by hand and against plain Python."""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from packed import open_packed
from timed import Log, config_of, pack_log

from mlrec.config import Config, LossConfig, RecommenderConfig
from mlrec.data.format import SPLITS, Split
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.sequences import SequenceTable
from mlrec.data.stream import Data, StepDataset, open_data
from mlrec.evaluation.evaluate import evaluate
from mlrec.models.building import build_model
from mlrec.models.losses import LOSSES
from mlrec.models.recommenders import RECOMMENDERS
from mlrec.runtime.distributed import World
from mlrec.train.dry_run import predict
from shards_tools.check.dataset import check

ALONE = World(rank=0, size=1, device=torch.device("cpu"), nodes=(1,))

# Cut-offs 100 and 200; of a history the last 2 items are the input, the last 4 are excluded.
LOG: Log = {
    "everything": [(10, 1), (20, 2), (30, 3), (40, 4), (110, 5), (120, 6), (210, 7)],
    "training alone": [(50, 1), (60, 2)],
    "one to train on": [(150, 2), (90, 1)],
    "test without history": [(205, 3)],
    "test alone": [(310, 8), (300, 1)],
    "validation without history": [(150, 4)],
    "at the cut-offs": [(10, 2), (99, 1), (100, 3), (200, 4)],
    "fills the catalogue": [(time, time + 8) for time in range(1, 13)],
}
KEEP_LAST = 5
TRAINED = [name for name, row in RECOMMENDERS.items() if row.trained]
COUNTED = [name for name in RECOMMENDERS if name not in TRAINED]
POPULARITY = {1: 3, 2: 3, 3: 1, 4: 1, 18: 1, 19: 1, 20: 1}
"""Of the last 3 training interactions of each user."""


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Pack the log."""
    return pack_log(tmp_path / "by_hand", LOG, "100", "200", KEEP_LAST)


def open_log(data_set: Path, folder: Path) -> Data:
    return open_data(config_of(data_set, folder).data)


def users_named(table: SequenceTable, users: np.ndarray) -> list[str]:
    return [table.raw_user(user) for user in users]


def test_time_split_by_hand_counts_and_popularity(by_hand: Path) -> None:
    info, catalogue = open_packed(by_hand)
    expected = {
        "users": 8,
        "interactions": 31,
        "train": sum(POPULARITY.values()),
        "validation": 3,
        "test": 3,
        "validation_without_history": 1,
        "test_without_history": 1,
    }
    assert {name: info.counts[name] for name in expected} == expected
    popularity = {item: int(catalogue.popularity_N1[item]) for item in range(1, 21)}
    assert {item: count for item, count in popularity.items() if count} == POPULARITY
    assert info.split.in_words() == (
        "users with 1 or more interactions, of which the newest 5 are used: "
        "by time, validation from 100, test from 200"
    )
    assert not list(check(str(by_hand)))


def test_time_split_by_hand_histories_and_targets(by_hand: Path, tmp_path: Path) -> None:
    table = open_log(by_hand, tmp_path).sequences
    expected: dict[Split, dict[str, tuple[list[int], list[int], int]]] = {
        # history, items that ranking excludes, target
        "validation": {
            "everything": ([4, 5], [2, 3, 4, 5], 6),
            "one to train on": ([0, 1], [0, 0, 0, 1], 2),
            "at the cut-offs": ([2, 1], [0, 0, 2, 1], 3),
        },
        "test": {
            "everything": ([5, 6], [3, 4, 5, 6], 7),
            "test alone": ([0, 1], [0, 0, 0, 1], 8),
            "at the cut-offs": ([1, 3], [0, 2, 1, 3], 4),
        },
    }
    for split in SPLITS:
        users = table.evaluated_users(split)
        rows = zip(
            table.history(users, split).tolist(),
            table.seen(users, split).tolist(),
            table.target(users, split).tolist(),
            strict=True,
        )
        assert dict(zip(users_named(table, users), rows, strict=True)) == expected[split]


def test_time_split_by_hand_trains_on_users_with_two_training_items(
    by_hand: Path, tmp_path: Path
) -> None:
    table = open_log(by_hand, tmp_path).sequences
    plan = Plan(table, 0, 2, Owners((1,)))
    assert plan.steps_per_epoch == 2
    users = np.concatenate([plan.users(0), plan.users(1)])
    trained = dict(zip(users_named(table, users), table.train(users).tolist(), strict=True))
    assert trained == {
        "everything": [2, 3, 4],
        "training alone": [0, 1, 2],
        "at the cut-offs": [0, 2, 1],
        "fills the catalogue": [18, 19, 20],
    }


def test_time_split_by_hand_popularity_baseline(by_hand: Path, tmp_path: Path) -> None:
    config = config_of(by_hand, tmp_path)
    data = open_data(config.data)
    model = build_model(config, data, 0)
    # ranks of the targets: 5-16, 1 and 1-5 in validation, 6-16, 7-19 and 1-4 in test
    expected = {"validation": (6 / 12 + 1 + 1) / 3, "test": (5 / 11 + 4 / 13 + 1) / 3}
    for split in SPLITS:
        metrics = evaluate(model, data, config, ALONE, split).baselines["popularity"]["all"]
        assert metrics["users"] == 3
        assert metrics["hr@10"] == pytest.approx(expected[split])


def test_dry_run_of_training_describes_the_split(by_hand: Path, tmp_path: Path) -> None:
    predicted = predict(config_of(by_hand, tmp_path), ranks=1)
    assert any("validation from 100, test from 200" in line for line in predicted.describe())
    assert predicted.as_json()["split"]["validation_from"] == 100


class Reference(NamedTuple):
    """What plain Python reads from a log."""

    trained: dict[str, list[int]]
    popularity: dict[int, int]
    hit_rate: dict[Split, float]
    num_ranked: dict[Split, int]


def reference(log: Log, cut_offs: tuple[int, int], keep_last: int, num_items: int) -> Reference:
    """Compute the split and the popularity baseline one user at a time."""
    ends = {"validation": cut_offs[1], "test": 10**9}
    starts = {"validation": cut_offs[0], "test": cut_offs[1]}
    runs = {user: sorted(pairs, key=lambda pair: pair[0]) for user, pairs in log.items()}
    windows = {}
    popularity = dict.fromkeys(range(1, num_items + 1), 0)
    for user, run in runs.items():
        windows[user] = [item for time, item in run if time < cut_offs[0]][-(keep_last - 2) :]
        for item in windows[user]:
            popularity[item] += 1
    hit_rates: dict[Split, list[float]] = {split: [] for split in SPLITS}
    for run in runs.values():
        for split in SPLITS:
            before_end = [(time, item) for time, item in run if time < ends[split]]
            if len(before_end) < 2 or before_end[-1][0] < starts[split]:
                continue
            target = before_end[-1][1]
            excluded = {item for _, item in before_end[:-1][-(keep_last - 1) :]} - {target}
            rivals = [popularity[item] for item in popularity if item not in excluded | {target}]
            better = sum(count > popularity[target] for count in rivals)
            ties = sum(count == popularity[target] for count in rivals)
            places = range(better + 1, better + ties + 2)
            hit_rates[split].append(sum(place <= 10 for place in places) / len(places))
    return Reference(
        {user: window for user, window in windows.items() if len(window) > 1},
        popularity,
        {split: float(np.mean(values)) for split, values in hit_rates.items()},
        {split: len(values) for split, values in hit_rates.items()},
    )


def random_log(seed: int) -> Log:
    """Return users with 1 to 12 interactions at times of which some are equal."""
    rng = random.Random(seed)
    log: Log = {}
    for user in range(1, 91):
        times = [rng.randrange(100) for _ in range(rng.randint(1, 12))]
        log[str(user)] = [(time, rng.randint(1, 40)) for time in dict.fromkeys(times)]
    # every item occurs in training, which makes its number its raw id
    log["91"] = [(0, item) for item in range(1, 41)]
    return log


@pytest.mark.parametrize("seed", [0, 1])
def test_time_split_of_a_random_log_equals_plain_python(seed: int, tmp_path: Path) -> None:
    log = random_log(seed)
    expected = reference(log, (60, 80), 6, 40)
    data_set = pack_log(tmp_path / "random", log, "60", "80", 6)
    config = config_of(data_set, tmp_path)
    data = open_data(config.data)
    table = data.sequences
    assert data.catalogue.popularity_N1[1:].tolist() == list(expected.popularity.values())
    users = table.train_users(np.arange(table.num_train_users))
    trained = [[item for item in row if item] for row in table.train(users).tolist()]
    assert dict(zip(users_named(table, users), trained, strict=True)) == expected.trained
    model = build_model(config, data, 0)
    for split in SPLITS:
        metrics = evaluate(model, data, config, ALONE, split).baselines["popularity"]["all"]
        assert metrics["users"] == expected.num_ranked[split] == data.info.counts[split]
        assert metrics["hr@10"] == pytest.approx(expected.hit_rate[split])


def losses(config: Config, data: Data, steps: int) -> list[float]:
    """Return the losses of some training steps."""
    model = build_model(config, data, 0)
    plan = Plan(data.sequences, 0, 30, Owners((1,)))
    dataset = StepDataset(data, plan, 0, model.tower.specs, False, model.whole_catalogue)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    values = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(dataset[step])
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def changed_after(log: Log, cut_off: int) -> Log:
    """Return the log with other items from the cut-off on."""
    changed = {}
    for user, interactions in log.items():
        changed[user] = [
            (time, item if time < cut_off else item % 40 + 1) for time, item in interactions
        ]
    return changed


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[Data]:
    """Pack and open two logs that differ in the items from the first cut-off on."""
    folder = tmp_path_factory.mktemp("twins")
    log = random_log(2)
    opened = []
    for name, interactions in (("same", log), ("changed", changed_after(log, 60))):
        opened.append(open_log(pack_log(folder / name, interactions, "60", "80", 6), folder))
    assert not np.array_equal(opened[0].sequences.items, opened[1].sequences.items)
    return opened


@pytest.mark.parametrize(
    ("recommender", "loss"),
    [
        *((name, "in_batch_softmax") for name in TRAINED),
        *(("sasrec", loss) for loss in LOSSES if loss != "in_batch_softmax"),
    ],
)
def test_training_ignores_interactions_from_the_first_cut_off_on(
    recommender: str, loss: str, twins: list[Data]
) -> None:
    config = Config(recommender=RecommenderConfig(recommender, 16), loss=LossConfig(loss))
    same, changed = (losses(config, data, 4) for data in twins)
    assert same == changed
    assert np.isfinite(same).all()


def test_popularity_ignores_interactions_from_the_first_cut_off_on(twins: list[Data]) -> None:
    same, changed = (data.catalogue.popularity_N1.tolist() for data in twins)
    assert same == changed


@pytest.mark.parametrize("recommender", COUNTED)
def test_counting_recommenders_ignore_interactions_from_the_first_cut_off_on(
    recommender: str, twins: list[Data]
) -> None:
    config = Config(recommender=RecommenderConfig(recommender, 16))
    same, changed = (build_model(config, data, 0).sequence_model.state_dict() for data in twins)
    assert same.keys() == changed.keys()
    assert same
    for name, tensor in same.items():
        assert torch.equal(tensor, changed[name]), name
