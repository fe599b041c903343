"""Figures of GPUs, and their names."""

import pytest

from mlrec.data.schema import lookup
from mlrec.runtime.devices import DEVICES, device_of


def test_device_of_reported_name_is_its_row() -> None:
    assert device_of("NVIDIA H100 80GB HBM3") is DEVICES["h100"]
    assert device_of("NVIDIA A100-SXM4-40GB") is DEVICES["a100-40gb"]
    names = [name for device in DEVICES.values() for name in device.torch_names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce GTX 970"]
)
def test_device_of_product_with_other_figures_is_none(name: str) -> None:
    assert device_of(name) is None


def test_lookup_gpu_misspelt_names_near_gpus() -> None:
    with pytest.raises(
        ValueError, match=r"unknown gpu 'a100'; did you mean 'a100-80gb'.*list gpus$"
    ):
        lookup(DEVICES, "a100", "gpu")


@pytest.mark.parametrize("name", DEVICES)
def test_device_figures_are_plausible(name: str) -> None:
    device = DEVICES[name]
    assert 14e9 < device.memory_bytes < 150e9
    assert 0.1 < device.usd_per_hour < 20
    if device.supports_bf16:
        assert device.supports_tf32
        # vendors list tensor cores at twice their rate in TF32, and that at 1 to 8 times fp32
        assert device.flops_per_s("bf16") == pytest.approx(2 * device.flops_per_s("tf32"), rel=0.02)
        assert device.flops_per_s("tf32") >= device.flops_per_s("fp32")


def test_fp32_slowdown_is_ten_on_h100_and_two_on_rtx4090() -> None:
    assert DEVICES["h100"].fp32_slowdown == pytest.approx(10, rel=0.05)
    assert DEVICES["rtx4090"].fp32_slowdown == pytest.approx(2, rel=0.05)
