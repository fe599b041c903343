"""The kinds of files that are mutated, and who reads each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """Files of one kind."""

    name: str
    pattern: str
    """Below the workspace."""
    needs: tuple[str, ...]
    """Folders of the workspace that a case gets."""
    operations: tuple[str, ...]
    guarded: bool = False
    """Whether a change without new checksums must be found by whoever uses the content."""
    share: int = 1
    """How often it is drawn."""
    sealable: bool = True
    """Whether checksums may be brought up to date: not for a copy of another file."""

    def files(self, workspace: Path) -> list[str]:
        """The files of this kind, sorted, relative to the workspace."""
        return sorted(
            str(path.relative_to(workspace))
            for path in workspace.glob(self.pattern)
            if path.is_file()
        )


_DATA = ("check", "load", "push", "show", "repair")
_RUN = ("data", "cache", "runs")
_EXPORT = ("data", "cache", "export")
_FEATURES = ("data", "cache", "config", "features")

KINDS = [
    Kind("dataset.json", "data/dataset.json", ("data", "raw"), ("load remote", *_DATA), share=3),
    Kind(
        "catalogue.parquet", "data/catalogue.parquet", ("data", "raw"), _DATA, guarded=True, share=3
    ),
    Kind(
        "item shard",
        "data/items/*.tar",
        ("data", "raw"),
        ("check", "load", "push", "repair"),
        guarded=True,
        share=3,
    ),
    Kind(
        "clip shard", "clips/items/*.tar", ("clips",), ("check clips", "load clips"), guarded=True
    ),
    Kind(
        "sequence shard",
        "data/sequences/*.tar",
        ("data", "raw"),
        ("check", "load", "repair"),
        guarded=True,
        share=3,
    ),
    Kind(
        "failures.jsonl of a data set",
        "data/failures.jsonl",
        ("data", "raw"),
        ("check", "show", "repair"),
        guarded=True,
    ),
    Kind("packer's settings", "data/_work/settings.json", ("data", "raw"), ("repair",)),
    Kind("packer's records", "half/_work/*.json", ("half", "raw"), ("make on",), share=2),
    Kind("packer's shard", "half/items/*.tar", ("half", "raw"), ("make on",)),
    Kind("raw table", "tables/*", ("tables",), ("make tables",)),
    Kind(
        "cached table", "cache/sequences/*/*", ("data", "cache"), ("load",), guarded=True, share=2
    ),
    Kind(
        "cached shard",
        "cache/items/*.tar",
        ("data", "cache"),
        ("load remote",),
        guarded=True,
        sealable=False,
    ),
    Kind(
        "checkpoint state",
        "runs/id/checkpoints/*/state.json",
        _RUN,
        ("evaluate", "resume", "export"),
        guarded=True,
        share=2,
    ),
    Kind(
        "checkpoint part",
        "runs/id/checkpoints/*/*.safetensors",
        _RUN,
        ("evaluate", "resume", "export"),
        True,
        share=3,
    ),
    Kind(
        "config.yaml of a run",
        "runs/id/config.yaml",
        _RUN,
        ("evaluate", "resume", "recommend"),
        share=2,
    ),
    Kind(
        "run.json, results.json", "runs/id/*.json", _RUN, ("report", "resume", "evaluate"), share=2
    ),
    Kind("metrics.jsonl, failures.jsonl", "runs/id/*.jsonl", _RUN, ("report", "resume")),
    Kind("ranks.npy", "runs/id/ranks.npy", _RUN, ("report",)),
    Kind("serving.json", "export/serving.json", _EXPORT, ("serve",)),
    Kind("config.yaml of an export", "export/config.yaml", _EXPORT, ("serve",)),
    Kind("export", "export/[!cs]*", _EXPORT, ("serve",), guarded=True, share=3),
    Kind(
        "features",
        "features/*.[np][pa]*",
        _FEATURES,
        ("features", "features.parquet", "extract"),
        share=2,
    ),
    Kind("features' settings", "features/**/*.json*", _FEATURES, ("features", "extract")),
    Kind(
        "pretrained video model",
        "pretrained/videomae/*",
        ("pretrained",),
        ("encode video",),
        share=2,
    ),
    Kind("pretrained text model", "pretrained/bert/*", ("pretrained",), ("encode title",), share=2),
    Kind(
        "configuration",
        "config/*.yaml",
        ("config", "data", "cache"),
        ("config", "dry run"),
        share=2,
    ),
]
