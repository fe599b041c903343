"""The simulation of a pass: its memory and arithmetic are those of the real pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_encoders import media_of
from small_towers import CPU, tower_of
from torch.nn.functional import conv2d

from mlrec.config import load
from mlrec.models.building import build_recommender
from mlrec.models.encoder_files import Restored
from mlrec.models.losses import LOSSES
from mlrec.models.pass_cost import Rates
from mlrec.models.recommender import ForwardHooks
from mlrec.models.recommender_simulation import batch_of, drawn_slots, simulate_recommender
from mlrec.models.recommenders.histories import SHORTEST_SPAN
from mlrec.models.simulation import simulate_tower
from mlrec.runtime.flops import FlopCounter


@pytest.mark.parametrize("tuning", ["full", "top"])
@pytest.mark.parametrize(
    "name", ["video/videomae", "video/x3d_xs", "video/mvit_b_16", "image/swin", "id/embedding"]
)
def test_simulate_tower_counts_the_arithmetic_of_the_real_pass(name: str, tuning: str) -> None:
    tower = tower_of(name, tuning=tuning)
    media = media_of(tower.specs[0], 4)
    tower.train()
    with FlopCounter() as counter:
        vectors = tower(media)
        forward_flops = counter.total
        vectors.sum().backward()
    cost = simulate_tower(tower, 4, torch.float32)
    assert cost.forward.flops == forward_flops
    assert cost.backward.flops == counter.total - forward_flops
    assert 0 < cost.trained_forward.kernels <= cost.forward.kernels
    assert cost.peak_bytes >= cost.saved_bytes > 0


@pytest.mark.parametrize("name", ["video/videomae", "video/x3d_xs", "image/resnet50"])
def test_simulate_tower_holds_the_bytes_of_the_real_pass(name: str) -> None:
    tower = tower_of(name)
    tower.train()
    held: dict[int, torch.Tensor] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        tower(media_of(tower.specs[0], 8))
    for tensor in (*tower.parameters(), *tower.buffers()):
        held.pop(tensor.untyped_storage().data_ptr(), None)
    total = sum(tensor.untyped_storage().nbytes() for tensor in held.values())
    assert simulate_tower(tower, 8, torch.float32).saved_bytes == pytest.approx(total, rel=0.1)


def test_simulate_tower_leaves_the_tower_as_it_was() -> None:
    tower = tower_of("video/tiny", tuning="top")
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    trained = [parameter.requires_grad for parameter in tower.parameters()]
    tower.eval()
    simulate_tower(tower, 2, torch.bfloat16)
    assert not tower.training
    assert [parameter.requires_grad for parameter in tower.parameters()] == trained
    assert all(parameter.grad is None for parameter in tower.parameters())
    for name, value in tower.state_dict().items():
        assert value.device == CPU
        assert value.equal(before[name])


def test_simulate_tower_in_bf16_takes_half_the_bytes() -> None:
    tower = tower_of("video/tiny")
    in_fp32 = simulate_tower(tower, 8, torch.float32)
    in_bf16 = simulate_tower(tower, 8, torch.bfloat16)
    assert in_bf16.saved_bytes == pytest.approx(in_fp32.saved_bytes / 2, rel=0.1)
    assert in_bf16.forward.flops == in_fp32.forward.flops


@pytest.mark.parametrize("groups", [1, 4])
def test_flop_counter_counts_as_much_for_each_gradient_of_a_convolution(groups: int) -> None:
    values = torch.randn(2, 8, 6, 6, requires_grad=True)
    weight = torch.randn(8, 8 // groups, 3, 3, requires_grad=True)
    with FlopCounter() as counter:
        out = conv2d(values, weight, groups=groups)
        forward_flops = counter.total
        out.sum().backward()
    assert forward_flops == 2 * 2 * 16 * weight.numel()
    assert counter.total == 3 * forward_flops


def test_work_takes_the_longer_of_arithmetic_traffic_and_launches() -> None:
    work = simulate_tower(tower_of("video/tiny"), 2, torch.float32).forward
    flops_bound = work.seconds(Rates(flops_per_s=1e6, bytes_per_s=1e30, launch_s=0.0))
    assert flops_bound == pytest.approx(work.flops / 1e6)
    launch_bound = work.seconds(Rates(flops_per_s=1e30, bytes_per_s=1e30, launch_s=1.0))
    assert launch_bound == work.kernels
    bytes_bound = work.seconds(Rates(flops_per_s=1e30, bytes_per_s=1e3, launch_s=0.0))
    assert bytes_bound == pytest.approx(work.bytes_K.sum() / 1e3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "nextitnet", "hstu", "decayed_mean"])
def test_simulate_recommender_counts_the_arithmetic_of_the_real_pass(
    name: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real pass is a CPU's, which pads histories to similar lengths.
    monkeypatch.setitem(SHORTEST_SPAN, "meta", SHORTEST_SPAN["cpu"])
    config = load([], [f"recommender.name={name}", f"loss.name={loss}", "recommender.width=8"])
    built_loss = LOSSES[loss](config.loss, 0)
    restored = Restored({}, weights="none")
    model = build_recommender(config, built_loss, 30, 6, 0, restored).train()
    shares_U = np.ones(30)
    batch = batch_of(drawn_slots(np.random.default_rng(0), 20, 6, 3.5, shares_U), 30)
    items_UD = torch.randn(30, 8, requires_grad=True)
    with FlopCounter() as counter:
        loss_sum = model(batch, ForwardHooks(encode=lambda batch: items_UD))
        forward_flops = counter.total
        loss_sum.backward()
    cost = simulate_recommender(model, batch, 8, torch.float32)
    # On a CPU, a GRU's step is one kernel.
    tolerance = 0.05 if name == "gru4rec" else 0
    assert cost.forward.flops == pytest.approx(forward_flops, rel=tolerance)
    assert cost.backward.flops == pytest.approx(counter.total - forward_flops, rel=tolerance)


def test_drawn_slots_have_the_mean_length() -> None:
    slots_BT = drawn_slots(np.random.default_rng(0), 1000, 11, 4.79, np.ones(50))
    assert (slots_BT >= 0).sum() / 1000 == pytest.approx(4.79, abs=0.05)
    assert (slots_BT[:, -4:] >= 0).all()
    assert (slots_BT[:, :-5] < 0).all()
