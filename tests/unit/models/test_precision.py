"""train.precision: what auto is on a device, TF32, and the notice on fp32."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from mlrec.config import Config, load
from mlrec.models import precision
from mlrec.models.precision import (
    Support,
    foresee_precision,
    precision_notices,
    resolve_precision,
    with_precision,
)
from mlrec.train.deepspeed_config import zero_stage

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
H100 = "NVIDIA H100 80GB HBM3"
V100 = "Tesla V100-SXM2-16GB"


@pytest.fixture
def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return a function that makes torch report a GPU of this name and compute capability."""

    def pretend(name: str, major: int) -> None:
        def is_bf16_supported(including_emulation: bool = True) -> bool:
            return including_emulation or major >= 8

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)

    return pretend


@pytest.fixture(autouse=True)
def tf32_restored() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def is_tf32_allowed() -> set[bool]:
    return {torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32}


def resolved(device: torch.device, *overrides: str) -> str:
    return resolve_precision(load([], list(overrides)), device).train.precision


def test_resolve_precision_auto_is_fp32_on_cpu_and_bf16_on_gpu_with_bf16(
    pretend_gpu: Callable[[str, int], None],
) -> None:
    assert resolved(CPU) == "fp32"
    pretend_gpu(V100, 7)
    assert resolved(GPU) == "fp32"
    pretend_gpu(H100, 9)
    assert resolved(GPU) == "bf16"
    assert zero_stage(resolve_precision(load([], []), GPU), 1) == 2


def test_resolve_precision_auto_with_zero_stage_0_is_fp32(
    pretend_gpu: Callable[[str, int], None],
) -> None:
    pretend_gpu(H100, 9)
    assert resolved(GPU, "zero.stage=0") == "fp32"


@pytest.mark.parametrize("value", ["fp32", "bf16"])
def test_resolve_precision_keeps_set_value_on_any_device(
    value: str, pretend_gpu: Callable[[str, int], None]
) -> None:
    assert resolved(CPU, f"train.precision={value}") == value
    pretend_gpu(V100, 7)
    assert resolved(GPU, f"train.precision={value}") == value


def test_resolve_precision_one_rank_without_bf16_gives_all_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supports = [Support(H100, bf16=True, tf32=True), Support(V100, bf16=False, tf32=False)]
    monkeypatch.setattr(precision, "gather_objects", lambda support: supports)
    assert resolved(CPU) == "fp32"
    with pytest.raises(ValueError, match="tf32, which Tesla V100"):
        resolved(CPU, "train.precision=tf32")


def test_resolve_precision_alone_decides_on_tf32(pretend_gpu: Callable[[str, int], None]) -> None:
    pretend_gpu(H100, 9)
    for value, allowed in [("tf32", True), ("fp32", False), ("tf32", True), ("auto", False)]:
        resolved(GPU, f"train.precision={value}")
        assert is_tf32_allowed() == {allowed}


@pytest.mark.parametrize(("device", "name"), [(CPU, "the CPU"), (GPU, V100)])
def test_resolve_precision_tf32_on_device_without_it_names_the_remedy(
    device: torch.device, name: str, pretend_gpu: Callable[[str, int], None]
) -> None:
    pretend_gpu(V100, 7)
    with pytest.raises(
        ValueError,
        match=rf"^train\.precision is tf32, which {name} does not support\. TF32 needs a GPU of "
        r"compute capability 8\.0 or higher\. Set train\.precision to auto or fp32$",
    ):
        resolved(device, "train.precision=tf32")


def notices_of(device: torch.device, *overrides: str) -> list[str]:
    return list(precision_notices(load([], list(overrides)), device))


def test_precision_notices_fp32_on_gpu_with_bf16_state_the_slowdown(
    pretend_gpu: Callable[[str, int], None],
) -> None:
    pretend_gpu(H100, 9)
    (notice,) = notices_of(GPU, "train.precision=fp32")
    assert notice == (
        f"train.precision is fp32 on {H100}, where steps of large encoders such as VideoMAE are "
        "expected to take about 10 times as long as in bf16. Set train.precision to bf16, or to "
        "tf32, which keeps fp32 weights"
    )
    (notice,) = notices_of(GPU, "train.precision=fp32", "zero.stage=0")
    assert "to bf16 and zero.stage to auto, or to tf32" in notice
    pretend_gpu("NVIDIA New GPU", 12)
    (notice,) = notices_of(GPU, "train.precision=fp32")
    assert "expected to take much longer than in bf16" in notice


def test_precision_notices_are_none_where_fp32_is_best_or_not_used(
    pretend_gpu: Callable[[str, int], None],
) -> None:
    assert notices_of(CPU, "train.precision=fp32") == []
    pretend_gpu(H100, 9)
    assert notices_of(GPU, "train.precision=bf16") == []
    assert notices_of(GPU, "train.precision=tf32") == []
    pretend_gpu(V100, 7)
    assert notices_of(GPU, "train.precision=fp32") == []
    assert notices_of(CPU, "train.precision=bf16") == []


def test_precision_notices_bf16_on_gpu_without_it_state_the_emulation(
    pretend_gpu: Callable[[str, int], None],
) -> None:
    pretend_gpu(V100, 7)
    assert notices_of(GPU, "train.precision=bf16") == [
        f"train.precision is bf16, which {V100} does not support: torch emulates it, slower than "
        "fp32. Set train.precision=fp32"
    ]


def test_foresee_precision_auto_on_cpu_names_gpus(pretend_gpu: Callable[[str, int], None]) -> None:
    config = load([], [])
    foreseen, notices = foresee_precision(config, CPU)
    assert foreseen.train.precision == "fp32"
    assert notices == [
        "train.precision=auto is fp32 on this machine, and bf16 on GPUs that support it"
    ]
    assert foresee_precision(foreseen, CPU) == (foreseen, [])
    pretend_gpu(H100, 9)
    foreseen, notices = foresee_precision(config, GPU)
    assert (foreseen.train.precision, notices) == ("bf16", [])
    fp32 = replace(config, train=replace(config.train, precision="fp32"))
    _, notices = foresee_precision(fp32, GPU)
    assert notices == list(precision_notices(fp32, GPU))


def test_with_precision_changes_nothing_else() -> None:
    config: Config = load([], ["train.global_batch=7"])
    changed = with_precision(config, Support(H100, bf16=True, tf32=True))
    assert changed == replace(config, train=replace(config.train, precision="bf16"))
