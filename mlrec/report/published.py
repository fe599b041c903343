"""The paper's figures, row by row, and which of our runs belongs to a row.

These figures are in no other place of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
"""Table 2. A second source confirms SASRec, GRU4Rec_V and SASRec_V. Check others before citing."""


@dataclass(frozen=True)
class VideoEncoder:
    """A row of the table of video encoders, each with SASRec."""

    name: str
    """Name in the paper."""
    encoder: str
    """Row of ENCODERS."""
    accuracy: float
    """ACC@5 of the checkpoint on Kinetics-400, in percent."""
    figures: tuple[tuple[float, float] | None, ...] = (None, None, None)
    """HR@10 and NDCG@10 for each of TUNINGS; None if not filled in."""


VIDEO_ENCODERS = (
    VideoEncoder("R3D-r18", "video/r3d_r18", 75.45),
    VideoEncoder("X3D-xs", "video/x3d_xs", 88.63),
    VideoEncoder("C2D-r50", "video/c2d_r50", 89.68),
    VideoEncoder("I3D-r50", "video/i3d_r50", 90.70),
    VideoEncoder("X3D-s", "video/x3d_s", 91.27),
    VideoEncoder("Slow-r50", "video/slow_r50", 91.63),
    VideoEncoder("R3D-r50", "video/r3d_r50", 92.23),
    VideoEncoder("SlowFast-r50", "video/slowfast_r50", 92.69),
    VideoEncoder("X3D-m", "video/x3d_m", 92.72),
    VideoEncoder("CSN-r101", "video/csn_r101", 92.90),
    VideoEncoder("X3D-l", "video/x3d_l", 93.31),
    VideoEncoder("SlowFast-r101", "video/slowfast_r101", 93.61),
    VideoEncoder("MViT-B-16x4", "video/mvit_b_16x4", 93.85),
    VideoEncoder("MViT-B-32x3", "video/mvit_b_32x3", 94.69),
    VideoEncoder("VideoMAE", "video/videomae", 95.10),
)
"""The table of video encoders, ordered by accuracy."""
