"""The commands of the READMEs: where each is run, and as which words on the tiny data set."""

from __future__ import annotations

import json
import re
import shlex

from readmes import ROOT, Code, commands

COMMAND = re.compile(
    r"(mlrec|mlrec-shards|sbatch|kubectl|torchrun|deepspeed|pip install) |bash launch/"
)
"""How a command begins."""

RUN_ELSEWHERE = {
    "bash launch/quickstart.sh": "tests/end_to_end/test_quality.py",
    "bash launch/test.sh": ".ci/run",
    "bash launch/multinode.sh": "tests/integration/test_multinode.py",
    "bash launch/local.sh CONFIG": (
        "bash launch/local.sh configs/experiment/microlens_100k_sasrec_v.yaml data.url=OUT"
    ),
    "deepspeed --module mlrec.train": "tests/end_to_end/launching.py",
    "torchrun -m mlrec.train": "tests/end_to_end/launching.py",
    "mlrec-shards make RAW OUT --engine ray": "tests/integration/test_shards_ray.py",
    "mlrec-shards bench RAW --items": "mlrec-shards bench RAW",
    # MicroLens' server cannot be reached from a test.
    "mlrec-shards download": "tests/unit/shards_tools/test_shards_download.py",
    # No test downloads this checkpoint.
    "mlrec extract configs/item/minilm_title.yaml": "mlrec extract CONFIG OUT",
    # Without SLURM and Kubernetes, tests can only check the form of these files.
    "sbatch launch/slurm.sbatch": "tests/unit/runtime/test_launch_scripts.py",
    "kubectl apply -f launch/kubernetes.yaml": "tests/unit/runtime/test_launch_scripts.py",
}
"""Beginnings of commands that this file does not run.

The value is the file that runs and names the command, or another command of the READMEs that runs
the same code.
"""

IS_NAMED_AS = {
    "tests/unit/shards_tools/test_shards_download.py": '"download"',
    "tests/end_to_end/launching.py": "mlrec.train",
    "tests/integration/test_shards_ray.py": '"--engine"',
    "tests/integration/test_multinode.py": "multinode.sh",
}
"""What stands in a file of RUN_ELSEWHERE for the command, where it is not the script's name."""

PLACEHOLDERS = {
    "URL": "data",
    "FRAMES": "data",
    "OUT": "out",
    "RAW": "raw",
    "CONFIG": "tiny.yaml",
    "FILE": "study.yaml",
    "RUN": "runs/tiny",
    "ID": "7",
    "s3://bucket/NAME": "bucket",  # S3 itself: tests/integration
    "--dry-run=RANKS": "--dry-run=2",
    "P": "P",
    "E": "E",
}
"""Placeholders of the READMEs and their values in the folder of a command."""

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
}
SMALL_VIDEO = "item.options=" + json.dumps(
    {"video/videomae": {"checkpoint": "", "frames": 4, "size": 32, "config": SMALL}}
)
TWO_STEPS = (
    "data.num_workers=0",
    "data.cache_dir=cache",
    "train.global_batch=18",
    "train.duration=2 steps",
    "train.save_every=2 steps",
    "train.evaluate_every=2 steps",
    "tracking.wandb=disabled",
)
SHRUNK: dict[str, tuple[str, ...]] = {
    "mlrec train": TWO_STEPS,
    "mlrec train configs/experiment/quickstart_video.yaml": (*TWO_STEPS, "data.url=data"),
    "mlrec train configs/experiment/synthetic_video.yaml": (*TWO_STEPS, "data.url=data"),
    "bash launch/local.sh": (
        *TWO_STEPS,
        SMALL_VIDEO,
        "item.tuning=scratch",
        "recommender.width=16",
    ),
    "mlrec plan": ("train.global_batch=18",),
    "mlrec plan configs/": (SMALL_VIDEO,),
    "mlrec sweep": ("data.url=data",),
    "mlrec extract": (SMALL_VIDEO, "data.num_workers=0", "data.cache_dir=cache"),
    "mlrec extract CONFIG": ("data.num_workers=0",),
    "mlrec recommend OUT": ("--history", "7"),
    "mlrec dashboard": ("--out", "dashboard.json"),
    "mlrec bench step": ("--steps", "1"),
    "mlrec bench step configs/": ("train.global_batch=18", SMALL_VIDEO),
    "mlrec bench step configs/experiment/": ("train.global_batch=18", "--steps", "1"),
    "mlrec bench prefix": ("item.tuning=top", "--steps", "1"),
    "mlrec bench prefix configs/": (SMALL_VIDEO, "--steps", "1"),
    "torchrun -m mlrec bench step": ("--steps", "1"),
    "mlrec bench eval": ("--steps", "1"),
    "mlrec bench loader": ("--steps", "1", "--workers", "1", "--global-batch", "18"),
    "mlrec bench scale": ("tiny.yaml",),
    "mlrec-shards synthetic": ("--users", "30", "--items", "40"),
    "mlrec-shards make": ("--size", "32"),
    "mlrec-shards bench": ("--items", "4"),
}
"""Arguments that shrink a command to seconds, by its beginning; the longest match counts."""

EVERY = commands(COMMAND)
QUICKSTART = [
    Code(line, "launch/quickstart.sh")
    for line in (ROOT / "launch/quickstart.sh").read_text().splitlines()
    if line.startswith("mlrec")
]


def elsewhere(command: str) -> str | None:
    """Return where a command is run, or None for here."""
    return next(
        (place for beginning, place in RUN_ELSEWHERE.items() if command.startswith(beginning)), None
    )


def words_of(command: str) -> list[str]:
    """Return the words of a command, with its placeholders filled in."""
    text = command.replace("[key=value ...]", "train.log_every='1 steps'")
    text = re.sub(r" \[(RUN|CONFIG) \.\.\.\]| \.\.\.", "", text).replace("[", "").replace("]", "")
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(text)]
    words = [re.sub(r"(?<==)(URL|OUT)$", "data", word).replace("*", "tiny") for word in words]
    unknown = [
        word
        for word in words
        if re.fullmatch(r"(.*=)?[A-Z][A-Z,]*", word) and word not in PLACEHOLDERS
    ]
    assert not unknown, f"`{command}`: say in PLACEHOLDERS what {', '.join(unknown)} is"
    if len(words) <= 2 and words[0] in ("mlrec", "mlrec-shards"):  # only named
        return [*words, "--help"]
    beginnings = [beginning for beginning in SHRUNK if command.startswith(beginning)]
    added = SHRUNK[max(beginnings, key=len)] if beginnings else ()
    if added and added[0].startswith("--"):
        return [*words, *added]
    first = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return [*words[:first], *added, *words[first:]]
