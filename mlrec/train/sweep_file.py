"""The file of a sweep: its grid and its runs, read and checked before the first run starts."""

from __future__ import annotations

import difflib
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mlrec import config as configuration
from mlrec.config import Config, as_value, bounds, is_setting
from mlrec.config.paths import absolute_settings
from mlrec.config.scalars import Node, Scalar, shown
from mlrec.config.values import typed
from mlrec.config.yaml_files import read_yaml
from mlrec.models.registry import check_rows
from mlrec.train.search_file import Search, read_search

MAX_RUNS = 10_000
"""Maximum number of runs of a grid; more are a mistake."""


@dataclass(frozen=True)
class SweepFile:
    """The content of a sweep's file; paths are relative to it."""

    name: str = ""
    """Start of the names of the grid's runs; empty for the file's own name."""
    base: tuple[str, ...] = ()
    """Configuration files that the grid's runs share."""
    grid: dict[str, Node] = field(default_factory=dict)
    """Axes, of which every combination is a run. A run is named after its points.

    The points of an axis are {name: {key: value, ...}}, or a list of values of the key that the
    axis is named after.
    """
    runs: tuple[str, ...] = ()
    """Configuration files of further runs, one each, which come first."""
    seeds: tuple[int, ...] = ()
    """Seeds that each run is trained with; empty for the seed of its configuration.

    A run's name is followed by its seed: base_seed0.
    """
    search: Search | None = None
    """Search of settings, in place of a grid, runs and seeds."""


@dataclass(frozen=True)
class SweepRun:
    """One run: the arguments of its command line, and the configuration that they mean."""

    arguments: tuple[str, ...]
    config: Config

    @property
    def launch_arguments(self) -> tuple[str, ...]:
        """The arguments for a launcher, which may change the folder: their paths are absolute."""
        words = []
        for word in self.arguments:
            words.append(word if is_setting(word) else os.path.abspath(word))
        return (*words, *absolute_settings(self.config))


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> list[SweepRun]:
    """Return the runs of a sweep's file, with `overrides` ("key=value") last in each.

    Raises:
        ValueError: the file or a configuration does not fit, one names an unknown row, or two runs
            have the same folder. The message names place and remedy.
    """
    content = read_content(path)
    runs = []
    for file in beside(path, content.runs):
        runs.append(read_run(path, (file, *overrides)))
    for settings in _grid_settings(path, content):
        # The command line comes last, and overrides the points.
        runs.append(read_run(path, (*beside(path, content.base), *settings, *overrides)))
    if content.seeds:
        runs = [_with_seed(path, run, seed) for run in runs for seed in content.seeds]

    if not runs:
        raise ValueError(f"{path} has no runs; give it files under runs, or base and grid")
    # In one folder the second run would resume the first.
    for folder, count in Counter(str(run.config.run_path) for run in runs).items():
        if count > 1:
            raise ValueError(f"{path}: two runs have the folder {folder}; give each its own name")
    return runs


def _grid_settings(path: Path, content: SweepFile) -> Iterator[list[str]]:
    """Yield the settings of each run of the grid, as key=value, its name first."""
    # Axes in the order of the file, which is the order of the points in a run's name.
    axes = [list(_points(path, axis, values)) for axis, values in content.grid.items()]
    num_runs = math.prod(map(len, axes)) * max(1, len(content.seeds))
    # Counted before the product is made, which could fill the memory.
    if num_runs > MAX_RUNS:
        raise ValueError(
            f"{path}: the grid has {num_runs:,} runs; it must have at most {MAX_RUNS:,}"
        )
    for points in itertools.product(*axes):
        if not points:  # no grid at all
            continue
        names = [content.name or path.stem]
        settings = []
        for name, keys in points:
            names.append(name)
            if content.seeds and "seed" in keys:
                raise ValueError(f"{path}: the grid and seeds both set the seed; remove one")
            settings += [f"{key}={as_value(value, key)}" for key, value in keys.items()]
        yield [f"name={'_'.join(names)}", *settings]


def _with_seed(path: Path, run: SweepRun, seed: int) -> SweepRun:
    """Return a run with a seed of its own, which its name ends with."""
    for argument in run.arguments:
        if argument.startswith("seed="):
            raise ValueError(
                f"{path}: seeds gives each run its seed, and the command line sets {argument}; "
                "remove one"
            )
    return read_run(path, (*run.arguments, f"name={run.config.name}_seed{seed}", f"seed={seed}"))


def beside(path: Path, files: Sequence[str]) -> list[str]:
    """Return the paths of files that a sweep's file names relative to itself."""
    return [os.path.normpath(path.parent / file) for file in files]


def read_content(path: Path) -> SweepFile:
    """Return the content of a sweep's file; configurations that it names are not read.

    Raises:
        ValueError: the file is missing or does not fit.
    """
    content = read_yaml(path, "sweep")
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is a list; it must hold keys: {', '.join(f.name for f in fields(SweepFile))}"
        )
    kinds: dict[str, tuple[Any, str]] = {
        "name": (Scalar, "text"),
        "base": (list, "list of files"),
        "grid": (dict, "mapping"),
        "runs": (list, "list of files"),
        "seeds": (list, "list of whole numbers"),
        "search": (dict, "mapping"),
    }
    for key, value in content.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"a sweep has {', '.join(kinds)}"
            raise ValueError(f"{path}: unknown key {key!r}; {hint}")
        kind, words = kinds[key]
        if not isinstance(value, kind):
            raise ValueError(f"{path}: {key} is {shown(value)}; it must be a {words}")
    if content.get("seeds") == []:
        raise ValueError(
            f"{path}: seeds is empty; name one or more, such as [0, 1], or remove the key"
        )
    for key in ("grid", "runs", "seeds"):
        if key in content and "search" in content:
            raise ValueError(
                f"{path}: search and {key} are two kinds of sweeps; give each a file of its own"
            )
    name = content.get("name", Scalar("", quoted=True))
    grid = content.get("grid", {})
    assert isinstance(grid, dict)
    seeds = typed(content.get("seeds", []), tuple[bounds.Seed, ...], f"{path}: seeds")
    for seed, count in Counter(seeds).items():
        if count > 1:
            raise ValueError(f"{path}: seeds has {seed} twice; name every seed once")
    return SweepFile(
        name=typed(name, str, f"{path}: name"),
        base=_files(content.get("base", []), f"{path}: base"),
        grid=grid,
        runs=_files(content.get("runs", []), f"{path}: runs"),
        seeds=seeds,
        search=read_search(content["search"], f"{path}: search") if "search" in content else None,
    )


def _files(node: Node, key: str) -> tuple[str, ...]:
    files: tuple[str, ...] = typed(node, tuple[str, ...], key)
    return files


def _points(path: Path, axis: str, values: Node) -> Iterator[tuple[str, dict[str, Node]]]:
    """Yield the points of an axis: the name as it is written, and the keys that it sets."""
    points: list[tuple[str, Node]] = []
    if isinstance(values, list):
        points = [(as_value(value, axis), {axis: value}) for value in values]
    elif isinstance(values, dict):
        points = list(values.items())
    if not points or not all(isinstance(keys, dict) for _, keys in points):
        raise ValueError(
            f"{path}: grid.{axis} must be a list of values of that key, "
            "or {name: {key: value}} for each point"
        )
    for name, keys in points:
        assert isinstance(keys, dict)
        # The name becomes part of a folder's name.
        yield re.sub(r"[^\w.-]+", "-", name), keys


def read_run(path: Path, arguments: tuple[str, ...]) -> SweepRun:
    """Load the configuration of a run, and check its names before any run starts.

    Raises:
        ValueError: the configuration does not fit, or names an unknown row.
    """
    try:
        config = configuration.load_arguments(arguments)
        check_rows(config)
        return SweepRun(arguments, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
