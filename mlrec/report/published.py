"""Published figures, row by row, and which of our runs belongs to a row.

These figures are in no other place of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

SOURCE = (
    "Ni et al., A Content-Driven Micro-Video Recommendation Dataset at Scale, 2023 "
    "(arXiv:2309.15379)"
)
DATASET = "MicroLens-100K"
COUNTS = {"users": 100_000, "items": 19_738}
"""Size of the data set."""
METRICS = ("hr@10", "ndcg@10", "hr@20", "ndcg@20")
TUNINGS = ("frozen", "top", "full")

Input = Literal["id", "frozen", "trained"]
"""What an item is made of: its id, features of a frozen encoder, or a trained video encoder."""


@dataclass(frozen=True)
class Baseline:
    """A row of table 2: one system of the paper."""

    name: str
    """Name in the paper."""
    kind: str
    recommender: str
    """Row of RECOMMENDERS."""
    inputs: frozenset[Input]
    figures: tuple[float, float, float, float]
    """Test split, in the order of METRICS."""

    @property
    def config(self) -> str:
        """Name of its file in configs/experiment, and of its run."""
        return f"microlens_100k_{self.name.lower().replace('+', '_')}"


def _baseline(
    name: str, kind: str, recommender: str, inputs: tuple[Input, ...], *figures: float
) -> Baseline:
    hr_10, ndcg_10, hr_20, ndcg_20 = figures
    return Baseline(name, kind, recommender, frozenset(inputs), (hr_10, ndcg_10, hr_20, ndcg_20))


BASELINES = (
    _baseline("DSSM", "IDRec (CF)", "dssm", ("id",), 0.0394, 0.0193, 0.0654, 0.0258),
    _baseline("LightGCN", "IDRec (CF)", "lightgcn", ("id",), 0.0372, 0.0177, 0.0618, 0.0239),
    _baseline("NFM", "IDRec (CF)", "nfm", ("id",), 0.0313, 0.0159, 0.0480, 0.0201),
    _baseline("DeepFM", "IDRec (CF)", "deepfm", ("id",), 0.0350, 0.0170, 0.0571, 0.0225),
    _baseline("NextItNet", "IDRec (SR)", "nextitnet", ("id",), 0.0805, 0.0442, 0.1175, 0.0535),
    _baseline("GRU4Rec", "IDRec (SR)", "gru4rec", ("id",), 0.0782, 0.0423, 0.1147, 0.0515),
    _baseline("SASRec", "IDRec (SR)", "sasrec", ("id",), 0.0909, 0.0517, 0.1278, 0.0610),
    _baseline("YouTube_ID", "VIDRec", "youtube_dnn", ("id",), 0.0461, 0.0229, 0.0747, 0.0301),
    _baseline(
        "YouTube_ID+V", "VIDRec", "youtube_dnn", ("id", "frozen"), 0.0392, 0.0188, 0.0648, 0.0252
    ),
    _baseline("MMGCN_ID", "VIDRec", "mmgcn", ("id",), 0.0141, 0.0065, 0.0247, 0.0092),
    _baseline("MMGCN_ID+V", "VIDRec", "mmgcn", ("id", "frozen"), 0.0214, 0.0103, 0.0374, 0.0143),
    _baseline("GRCN_ID", "VIDRec", "grcn", ("id",), 0.0282, 0.0131, 0.0497, 0.0185),
    _baseline("GRCN_ID+V", "VIDRec", "grcn", ("id", "frozen"), 0.0306, 0.0144, 0.0547, 0.0204),
    _baseline("DSSM_ID+V", "VIDRec", "dssm", ("id", "frozen"), 0.0279, 0.0137, 0.0461, 0.0183),
    _baseline("SASRec_ID+V", "VIDRec", "sasrec", ("id", "frozen"), 0.0799, 0.0415, 0.1217, 0.0520),
    _baseline("NextItNet_V", "VideoRec", "nextitnet", ("trained",), 0.0862, 0.0466, 0.1246, 0.0562),
    _baseline("GRU4Rec_V", "VideoRec", "gru4rec", ("trained",), 0.0954, 0.0517, 0.1377, 0.0623),
    _baseline("SASRec_V", "VideoRec", "sasrec", ("trained",), 0.0948, 0.0515, 0.1364, 0.0619),
)
"""Table 2."""


class Figure(NamedTuple):
    """A metric with its uncertainty."""

    value: float
    error: float | None = None
    """Half-width of the uncertainty; None for a figure that is stated as a number."""


@dataclass(frozen=True)
class VideoEncoder:
    """A bar group of the figure of video encoders, each with SASRec."""

    name: str
    """Name in the paper."""
    encoder: str
    """Row of ENCODERS."""
    accuracy: float
    """ACC@5 of the checkpoint on Kinetics-400, in percent."""
    gflops: tuple[float, float, float]
    """Training cost per video for each of TUNINGS: 10^9 floating-point operations of the forward
    and backward pass without a cache. mlrec plan counts them from the shapes, at the frames and the
    image size of the row. The paper reports no cost."""
    figures: tuple[Figure, Figure, Figure]
    """HR@10 for each of TUNINGS."""


READ_ERROR = 0.0001
"""Accuracy of a figure that is read off the end of a bar."""
_COVERED_READ_ERROR = 0.0003
_ERRORS = {
    # a line or the legend covers the end of the bar
    ("R3D-r18", "top"): _COVERED_READ_ERROR,
    ("R3D-r18", "full"): _COVERED_READ_ERROR,
    ("CSN-r101", "top"): _COVERED_READ_ERROR,
    ("MViT-B-32x3", "top"): _COVERED_READ_ERROR,
    # the text states the figure, and the bar agrees with it
    ("SlowFast-r101", "top"): None,
    ("VideoMAE", "frozen"): None,
}


def _encoder(
    name: str,
    encoder: str,
    accuracy: float,
    gflops: tuple[float, float, float],
    hit_rates: tuple[float, float, float],
) -> VideoEncoder:
    frozen, top, full = (
        Figure(value, _ERRORS.get((name, tuning), READ_ERROR))
        for tuning, value in zip(TUNINGS, hit_rates, strict=True)
    )
    return VideoEncoder(name, f"video/{encoder}", accuracy, gflops, (frozen, top, full))


VIDEO_ENCODERS = (
    _encoder("R3D-r18", "r3d_r18", 75.45, (81.4, 90.4, 241.3), (0.0458, 0.0850, 0.0827)),
    _encoder("X3D-xs", "x3d_xs", 88.63, (1.2, 1.8, 3.6), (0.0062, 0.0705, 0.0716)),
    _encoder("C2D-r50", "c2d_r50", 89.68, (39.0, 50.3, 115.1), (0.0412, 0.0922, 0.0864)),
    _encoder("I3D-r50", "i3d_r50", 90.70, (56.8, 69.8, 161.0), (0.0420, 0.0926, 0.0897)),
    _encoder("X3D-s", "x3d_s", 91.27, (3.9, 5.7, 11.7), (0.0047, 0.0644, 0.0696)),
    _encoder("Slow-r50", "slow_r50", 91.63, (83.5, 116.0, 248.6), (0.0443, 0.0933, 0.0838)),
    _encoder("R3D-r50", "r3d_r50", 92.23, (115.1, 130.9, 341.4), (0.0029, 0.0833, 0.0793)),
    _encoder(
        "SlowFast-r50", "slowfast_r50", 92.69, (100.6, 136.8, 295.3), (0.0415, 0.0949, 0.0883)
    ),
    _encoder("X3D-m", "x3d_m", 92.72, (9.5, 13.7, 28.1), (0.0039, 0.0611, 0.0649)),
    _encoder("CSN-r101", "csn_r101", 92.90, (112.9, 119.6, 316.2), (0.0449, 0.0876, 0.0793)),
    _encoder("X3D-l", "x3d_l", 93.31, (36.7, 54.4, 109.7), (0.0065, 0.0637, 0.0745)),
    _encoder(
        "SlowFast-r101", "slowfast_r101", 93.61, (326.2, 398.5, 965.4), (0.0425, 0.0976, 0.0885)
    ),
    _encoder("MViT-B-16x4", "mvit_b_16x4", 93.85, (141.2, 153.3, 421.5), (0.0231, 0.0897, 0.0702)),
    _encoder("MViT-B-32x3", "mvit_b_32x3", 94.69, (339.9, 366.1, 1015.5), (0.0196, 0.0960, 0.0842)),
    _encoder("VideoMAE", "videomae", 95.10, (360.7, 424.0, 1123.7), (0.0496, 0.0892, 0.0820)),
)
"""The figure of video encoders, ordered by accuracy. HR@10 is read off its bars."""


@dataclass(frozen=True)
class LaterResult:
    """A result that others published later, on the same data set and split."""

    name: str
    items: str
    """What an item is made of."""
    recommender: str
    """Name in the paper."""
    compare_with: str
    """Row of BASELINES or VIDEO_ENCODERS that it is comparable with."""
    figures: tuple[float | None, float | None, float | None, float | None]
    """Test split, in the order of METRICS; None if not known."""


LATER_SOURCE = (
    "Xiao et al., Compressed Video Aggregator, 2026 (arXiv:2605.08810) and its repository LiteFrame"
)
LATER_RESULTS = (
    LaterResult(
        "CVA", "frozen DINOv3, 5 frames", "SASRec", "SASRec_V", (0.1001, None, 0.1439, None)
    ),
    LaterResult(
        "CVA", "frozen DINOv3, 17 frames", "SASRec", "SASRec_V", (0.1016, None, None, None)
    ),
    LaterResult(
        "CVA", "frozen DINOv3, 5 frames", "GRU4Rec", "GRU4Rec_V", (0.0947, 0.0508, 0.1364, 0.0613)
    ),
    LaterResult(
        "CVA",
        "frozen DINOv3, 5 frames",
        "NextItNet",
        "NextItNet_V",
        (0.0905, 0.0480, 0.1332, 0.0587),
    ),
    LaterResult(
        "SlowFast-r50",
        "trained encoder, rerun",
        "SASRec",
        "SlowFast-r50",
        (0.0918, None, None, None),
    ),
    LaterResult(
        "VideoMAE", "trained encoder, rerun", "SASRec", "VideoMAE", (0.0837, None, None, None)
    ),
)
"""CVA trains an aggregator of frozen frame features, and chooses the frames by the title."""
