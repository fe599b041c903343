"""Figures of GPUs: memory, peak rates and prices, for plans and for advice on the precision.

Rates are the peaks of the vendor's data sheets for dense matrices, without structured sparsity. A
real step stays below them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "tf32", "bf16"]
"""A precision in which a device computes: train.precision without `auto`."""
GIB = 1 << 30

MATRIX_SHARE = 0.6
"""Share of a bf16 step that matrix products take, for encoders such as VideoMAE.

A well-tuned step reaches about 40 % of the peak over all, and about 70 % within matrix products.
"""


@dataclass(frozen=True)
class Device:
    """A GPU."""

    name: str
    """Product name."""
    torch_names: tuple[str, ...]
    """Names of this product in torch.cuda.get_device_name(). Other forms of a product, such as
    the H100 for PCIe and parts of a shared GPU (MIG), have other figures and are left out."""
    memory_bytes: int
    """Memory that torch reports. It is below that of the product name, because the driver and
    error correction take a part."""
    bf16_tflops: float
    """Peak of matrix products in bf16 with fp32 sums (10^12 FLOP/s); 0 without native bf16."""
    tf32_tflops: float
    """Peak of matrix products in TF32 (10^12 FLOP/s); 0 without TF32."""
    fp32_tflops: float
    """Peak in fp32 (10^12 FLOP/s)."""
    bandwidth_gb_per_s: float
    """Peak bandwidth of the memory (10^9 bytes/s)."""
    interconnect_gb_per_s: float
    """Peak at which a GPU receives data from others of its machine (10^9 bytes/s): NVLink, or PCIe
    without it."""
    usd_per_hour: float
    """Order of magnitude of the on-demand price of one GPU with its share of the machine."""

    def flops_per_s(self, precision: Precision) -> float:
        """Return the peak of matrix products in a precision (FLOP/s); 0 if it lacks it."""
        tflops = {"fp32": self.fp32_tflops, "tf32": self.tf32_tflops, "bf16": self.bf16_tflops}
        return 1e12 * tflops[precision]

    @property
    def supports_bf16(self) -> bool:
        """Whether the GPU computes in bf16."""
        return self.bf16_tflops > 0

    @property
    def supports_tf32(self) -> bool:
        """Whether the GPU computes in TF32."""
        return self.tf32_tflops > 0

    @property
    def fp32_slowdown(self) -> float:
        """Expected time of a step in fp32 divided by its time in bf16; the GPU supports bf16.

        It is for encoders that are mostly matrix products. Other work moves twice the bytes.
        """
        return MATRIX_SHARE * self.bf16_tflops / self.fp32_tflops + (1 - MATRIX_SHARE) * 2

    @property
    def description(self) -> str:
        """The figures in words."""
        rates = {"bf16": self.bf16_tflops, "tf32": self.tf32_tflops, "fp32": self.fp32_tflops}
        supported = [f"{precision} {rate:g}" for precision, rate in rates.items() if rate]
        return (
            f"{self.name}, {self.memory_bytes / GIB:.0f} GiB; {', '.join(supported)} TFLOP/s; "
            f"{self.bandwidth_gb_per_s:,.0f} GB/s; about ${self.usd_per_hour:.2f} per hour"
        )


# Rates and bandwidths are from NVIDIA's data sheets of each product. Those of the RTX 4090 are from
# the Ada GPU architecture whitepaper, and those of the A10G from its data sheet for AWS. Rates that
# a sheet lists only with sparsity were halved.
#
# Prices are rounded from on-demand list prices of mid-2025: AWS in us-east-1, per GPU of the
# instances p5, p5en, p4de, p4d, g6e, g6, g5, p3 and g4dn, and RunPod for the RTX 4090. Prices vary
# with provider, region and date. Smaller providers ask a third to a half for H100 and A100.
DEVICES: dict[str, Device] = {
    "h100": Device(
        name="NVIDIA H100 SXM",
        torch_names=("NVIDIA H100 80GB HBM3",),
        memory_bytes=79 * GIB,
        bf16_tflops=989,
        tf32_tflops=495,
        fp32_tflops=67,
        bandwidth_gb_per_s=3350,
        interconnect_gb_per_s=450,
        usd_per_hour=7,
    ),
    "h200": Device(
        name="NVIDIA H200 SXM",
        torch_names=("NVIDIA H200",),
        memory_bytes=139 * GIB,
        bf16_tflops=989,
        tf32_tflops=495,
        fp32_tflops=67,
        bandwidth_gb_per_s=4800,
        interconnect_gb_per_s=450,
        usd_per_hour=8,
    ),
    "a100-80gb": Device(
        name="NVIDIA A100",
        torch_names=("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
        memory_bytes=79 * GIB,
        bf16_tflops=312,
        tf32_tflops=156,
        fp32_tflops=19.5,
        # SXM; 1,935 for PCIe
        bandwidth_gb_per_s=2039,
        interconnect_gb_per_s=300,
        usd_per_hour=3.5,
    ),
    "a100-40gb": Device(
        name="NVIDIA A100",
        torch_names=(
            "NVIDIA A100-SXM4-40GB",
            "A100-SXM4-40GB",
            "NVIDIA A100-PCIE-40GB",
            "A100-PCIE-40GB",
        ),
        memory_bytes=39 * GIB,
        bf16_tflops=312,
        tf32_tflops=156,
        fp32_tflops=19.5,
        bandwidth_gb_per_s=1555,
        interconnect_gb_per_s=300,
        usd_per_hour=2.7,
    ),
    "l40s": Device(
        name="NVIDIA L40S",
        torch_names=("NVIDIA L40S",),
        memory_bytes=44 * GIB,
        bf16_tflops=362,
        tf32_tflops=183,
        fp32_tflops=91.6,
        bandwidth_gb_per_s=864,
        interconnect_gb_per_s=32,
        usd_per_hour=1.9,
    ),
    "l4": Device(
        name="NVIDIA L4",
        torch_names=("NVIDIA L4",),
        memory_bytes=22 * GIB,
        bf16_tflops=121,
        tf32_tflops=60,
        fp32_tflops=30.3,
        bandwidth_gb_per_s=300,
        interconnect_gb_per_s=32,
        usd_per_hour=0.8,
    ),
    "a10g": Device(
        name="NVIDIA A10G",
        torch_names=("NVIDIA A10G",),
        memory_bytes=22 * GIB,
        bf16_tflops=70,
        tf32_tflops=35,
        fp32_tflops=31.5,
        bandwidth_gb_per_s=600,
        interconnect_gb_per_s=32,
        usd_per_hour=1,
    ),
    "v100": Device(
        name="NVIDIA V100 SXM2",
        torch_names=("Tesla V100-SXM2-16GB",),
        memory_bytes=15 * GIB,
        bf16_tflops=0,
        tf32_tflops=0,
        fp32_tflops=15.7,
        bandwidth_gb_per_s=900,
        interconnect_gb_per_s=150,
        usd_per_hour=3,
    ),
    "rtx4090": Device(
        name="NVIDIA GeForce RTX 4090",
        torch_names=("NVIDIA GeForce RTX 4090",),
        memory_bytes=23 * GIB,
        bf16_tflops=165,
        tf32_tflops=82.6,
        fp32_tflops=82.6,
        bandwidth_gb_per_s=1008,
        interconnect_gb_per_s=32,
        usd_per_hour=0.7,
    ),
    "t4": Device(
        name="NVIDIA T4",
        torch_names=("Tesla T4", "NVIDIA T4"),
        memory_bytes=14 * GIB,
        bf16_tflops=0,
        tf32_tflops=0,
        fp32_tflops=8.1,
        bandwidth_gb_per_s=320,
        interconnect_gb_per_s=16,
        usd_per_hour=0.5,
    ),
}
"""GPUs by the name under which `mlrec list gpus` shows them."""


def device_of(name: str) -> Device | None:
    """Return the GPU of this name; None if its figures are unknown.

    The name is that of the product, or that of torch.cuda.get_device_name().

    Names chosen by a user are looked up with mlrec.data.schema.lookup(DEVICES, name, "gpu").
    """
    for device in DEVICES.values():
        if name in (device.name, *device.torch_names):
            return device
    return None
