import numpy as np
import pytest

from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan, shuffled
from mlrec.data.stream import Data


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_the_shuffle_is_a_bijection_that_depends_on_the_key(size: int) -> None:
    order = shuffled(np.arange(size), size, key=1)
    assert sorted(order) == list(range(size))
    if size > 60:
        assert (order != shuffled(np.arange(size), size, key=2)).mean() > 0.9


def test_an_epoch_visits_every_user_once_in_steps_of_nearly_equal_size(data: Data) -> None:
    plan = Plan(data.sequences, seed=3, global_batch=50, owners=Owners((2,)))
    steps = [plan.users(step) for step in range(plan.steps_per_epoch)]
    assert sorted(np.concatenate(steps)) == list(range(data.sequences.num_users))
    sizes = [len(users) for users in steps]
    assert max(sizes) <= 50
    assert max(sizes) - min(sizes) <= 1
    assert not np.array_equal(plan.users(0), plan.users(plan.steps_per_epoch))


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_ranks_partition_users_and_items(data: Data, world_size: int) -> None:
    step = Plan(data.sequences, 0, 30, Owners((world_size,))).step(4)
    users = np.concatenate([step.users_G[step.users_of(rank)] for rank in range(world_size)])
    items = np.concatenate([step.items_U[step.items_of(rank)] for rank in range(world_size)])
    assert np.array_equal(users, Plan(data.sequences, 0, 30, Owners((1,))).users(4)), (
        "the global batch does not depend on the ranks"
    )
    assert np.array_equal(items, np.unique(data.sequences.train(users))[1:]), (
        "each distinct item once, no padding"
    )
    assert max(step.owned_W) - min(step.owned_W) <= 1


def test_slots_point_at_the_users_own_items(data: Data) -> None:
    step = Plan(data.sequences, 0, 30, Owners((2,))).step(1)
    items = np.where(step.slots_GT >= 0, step.items_U[step.slots_GT], 0)
    assert np.array_equal(items, data.sequences.train(step.users_G))


def test_fewer_users_per_step_than_ranks_is_refused(data: Data) -> None:
    with pytest.raises(ValueError, match=r"global_batch is 3.*raise it or start fewer ranks"):
        Plan(data.sequences, 0, 3, Owners((4,)))
