from pathlib import Path

import pytest
import torch
from torch import nn

from mlrec.config import OptimConfig
from mlrec.train import optim
from mlrec.train.adamw import AdamW
from mlrec.train.optim import parameter_groups, schedule


def test_parameter_groups_of_an_encoder_have_their_rates_and_decay() -> None:
    model = nn.ModuleDict(
        {"encoder": nn.Linear(3, 3), "head": nn.Linear(3, 3), "positions": nn.Embedding(4, 3)}
    )
    groups = parameter_groups(
        model, [model["encoder"]], OptimConfig(lr=2.0, encoder_lr=1.0, weight_decay=0.3)
    )
    rates = {
        group["name"]: (len(group["params"]), group["lr"], group["weight_decay"])
        for group in groups
    }
    assert rates == {
        "recommender/decay": (1, 2.0, 0.3),
        "recommender/no_decay": (2, 2.0, 0.0),
        "encoder/decay": (1, 1.0, 0.0),
        "encoder/no_decay": (1, 1.0, 0.0),
    }


def test_parameter_groups_of_an_encoder_with_own_rates_use_them() -> None:
    model = nn.ModuleDict(
        {"ids": nn.Linear(3, 3), "text": nn.Linear(3, 3), "head": nn.Linear(3, 3)}
    )
    model["text"].lr = 0.1
    encoders = [model["ids"], model["text"]]
    groups = parameter_groups(
        model, encoders, OptimConfig(lr=2.0, encoder_lr=1.0, encoder_weight_decay=1.5)
    )
    rates = {
        group["name"]: (group["lr"], group["weight_decay"])
        for group in groups
        if group["name"].endswith("/decay")
    }
    assert rates == {
        "recommender/decay": (2.0, 0.1),
        "encoder/decay": (1.0, 1.5),
        "encoder_1/decay": (0.1, 1.5),
    }


def test_parameter_groups_leave_frozen_parameters_out() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "head": nn.Linear(3, 3)})
    model["encoder"].requires_grad_(False)
    names = [group["name"] for group in parameter_groups(model, [model["encoder"]], OptimConfig())]
    assert names == ["recommender/no_decay", "recommender/decay"]


class _Staged(nn.Module):
    """An encoder of three stages and a parameter of none."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))
        self.side = nn.Linear(2, 2, bias=False)

    def stages(self) -> list[nn.Module]:
        return list(self.blocks)


def test_parameter_groups_with_layer_decay_lower_the_rate_stage_by_stage() -> None:
    model = nn.ModuleDict({"text": _Staged(), "image": _Staged(), "head": nn.Linear(2, 2)})
    model["image"].lr = 0.1
    model["image"].blocks[0].requires_grad_(False)
    config = OptimConfig(lr=2.0, encoder_lr=1.0, layer_decay=0.5)
    groups = parameter_groups(model, [model["text"], model["image"]], config)
    rates = {group["name"]: (len(group["params"]), group["lr"]) for group in groups}
    assert rates == {
        "recommender/no_decay": (1, 2.0),
        "recommender/decay": (1, 2.0),
        "encoder/decay": (2, 1.0),
        "encoder/stage_00/decay": (1, 0.25),
        "encoder/stage_01/decay": (1, 0.5),
        "encoder_1/decay": (2, 0.1),
        "encoder_1/stage_01/decay": (1, 0.05),
    }


def test_parameter_groups_with_layer_decay_of_a_single_trained_stage_are_refused() -> None:
    encoder = _Staged()
    encoder.blocks[:2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"optim.layer_decay is 0.8 and has no effect"):
        parameter_groups(encoder, [encoder], OptimConfig(layer_decay=0.8))


def test_schedule_after_warmup_follows_its_shape() -> None:
    def factors(name: str) -> list[float]:
        config = OptimConfig(schedule=name, warmup="10 steps")
        return [schedule(config, step, 100, 110) for step in (0, 4, 9, 10, 60, 109)]

    assert factors("constant") == pytest.approx([0.1, 0.5, 1, 1, 1, 1])
    assert factors("cosine") == pytest.approx([0.1, 0.5, 1, 1, 0.5, 0.0], abs=1e-3)
    assert factors("step") == pytest.approx([0.1, 0.5, 1, 1, 0.1, 0.01])


def test_announce_compilation_says_one_line_until_adam_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    optim._announce_compilation()
    assert not capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    optim._announce_compilation()
    assert capsys.readouterr().err.count("DeepSpeed compiles its Adam") == 1
    (tmp_path / "cpu_adam" / "cpu_adam.so").touch()
    optim._announce_compilation()
    assert not capsys.readouterr().err


def test_adamw_steps_equal_those_of_torch_adamw() -> None:
    settings = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.3}
    weights = []
    for adamw in (AdamW, torch.optim.AdamW):
        weight = nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = adamw([weight], **settings)
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.2})
        for _ in range(3):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
        weights.append(weight.detach())
    assert torch.equal(*weights)
