import numpy as np
import pytest

from mlrec.config import DataConfig
from mlrec.data.ownership import Owners, owners_of
from mlrec.data.stream import Data


def test_shares_are_equal_without_homes() -> None:
    assert Owners((2, 2)).split(np.arange(1, 12)) == (2, 3, 3, 3)


def test_items_stay_at_home_within_the_slack() -> None:
    owners = Owners((1, 2), first_items=(41,), slack=0.5)
    items = np.arange(1, 91)
    assert owners.split(items) == (40, 25, 25)
    assert owners.split(items[::2]) == (20, 12, 13)


def test_what_is_over_the_slack_goes_to_the_neighbour() -> None:
    items = np.arange(1, 91)
    assert Owners((1, 1, 1), first_items=(61, 62), slack=0.1).split(items) == (33, 28, 29)
    assert Owners((1, 1, 1), first_items=(3, 4), slack=0.1).split(items) == (24, 33, 33)
    assert Owners((1, 1, 1), first_items=(80, 81), slack=0.0).split(items) == (30, 30, 30)


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_is_complete_and_within_its_limit(seed: int) -> None:
    generator = np.random.default_rng(seed)
    nodes = tuple(generator.integers(1, 9, generator.integers(2, 6)).tolist())
    firsts = tuple(np.sort(generator.integers(1, 300, len(nodes) - 1)).tolist())
    items = np.sort(generator.choice(np.arange(1, 300), generator.integers(0, 200), replace=False))
    slack = float(generator.uniform(0, 0.5))
    owned = Owners(nodes, firsts, slack).split(items)
    assert sum(owned) == len(items)
    assert len(owned) == sum(nodes)
    assert min(owned) >= 0
    assert max(owned) <= np.ceil((1 + slack) * len(items) / sum(nodes)) + 1


def test_homes_are_whole_shards_of_equal_load(data: Data) -> None:
    config = DataConfig(ownership="home")
    owners = owners_of(config, data.catalogue, data.sequences.num_users, 18, (1, 1))
    shards = data.catalogue.shard_N1
    (first,) = owners.first_items
    assert shards[first] != shards[first - 1]
    assert owners_of(DataConfig(), data.catalogue, 120, 18, (1, 1)) == Owners((1, 1))
    assert owners_of(config, data.catalogue, 120, 18, (4,)) == Owners((4,))
    many = owners_of(config, data.catalogue, 120, 18, (1,) * 9)
    assert sum(many.split(np.arange(1, data.catalogue.size + 1))) == data.catalogue.size
