"""A tiny synthetic data set, packed once per test session with the project's own packer."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

# DeepSpeed reads this when it is imported. The ranks of the tests are processes on CPU cores.
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from rich.console import Console
from tiny import NUM_ITEMS, NUM_USERS, VIDEO, tiny_overrides

from mlrec.config import Config, load
from mlrec.data.stream import Data, open_data
from mlrec.runtime.distributed import World, start_world, stop_world
from shards_tools.make import make
from shards_tools.pack.settings import Settings
from shards_tools.synthetic.make import make_synthetic

SLOW_FILES = frozenset(
    {
        "test_activation_cache.py",
        "test_api_model.py",
        "test_api_package.py",
        "test_api_runs.py",
        "test_attention_masks.py",
        "test_bench.py",
        "test_bench_prefix.py",
        "test_bench_step.py",
        "test_decode_on_device.py",
        "test_dropout.py",
        "test_dry_run.py",
        "test_encoder_files.py",
        "test_encoders.py",
        "test_encoders_damaged.py",
        "test_encoders_options.py",
        "test_encoders_other.py",
        "test_encoders_published.py",
        "test_encoders_published_files.py",
        "test_encoders_weights.py",
        "test_ending.py",
        "test_evaluate.py",
        "test_extract.py",
        "test_extract_again.py",
        "test_launcher.py",
        "test_node.py",
        "test_notebook.py",
        "test_prefix.py",
        "test_pretended_gpu.py",
        "test_recommenders.py",
        "test_registry.py",
        "test_report_browser.py",
        "test_report_escape.py",
        "test_shards_check.py",
        "test_shards_engines.py",
        "test_shards_make.py",
        "test_shards_make_failures.py",
        "test_shards_page.py",
        "test_shards_pool.py",
        "test_shards_push.py",
        "test_shards_repair.py",
        "test_shards_synthetic.py",
        "test_sweep.py",
        "test_tensorboard_run.py",
        "test_time_limit.py",
        "test_tower.py",
        "test_training_run.py",
        "test_wandb_mode.py",
        "test_wandb_run.py",
        "test_warm_start.py",
    }
)
"""Files of unit tests that take seconds each. All other unit tests together take a minute."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, so that `pytest -m "not slow"` leaves them out."""
    for item in items:
        if "unit" not in item.path.parts or item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove what commands leave in the temporary folder, such as torchrun's logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        yield


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """Restore the handlers of SIGINT and SIGHUP, by which tests stop commands.

    Under nohup and in a shell's background job all child processes ignore these signals.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


_LAUNCHED = {
    name: os.environ.get(name)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
}
"""The environment variables by which a launcher describes a rank, before the first test."""


@pytest.fixture(autouse=True)
def no_rank_of_an_earlier_test() -> Iterator[None]:
    """Restore the environment variables by which a launcher describes a rank.

    A command that starts a group of one rank sets them, in a test or in a fixture of a module, and
    the next test must not see them.
    """
    _restore_launched()
    yield
    _restore_launched()


def _restore_launched() -> None:
    for name, value in _LAUNCHED.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def raw_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a synthetic raw folder with real video files."""
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    make_synthetic(folder, NUM_USERS, NUM_ITEMS, seed=0, workers=2)
    return folder


@pytest.fixture(scope="session")
def dataset_dir(raw_dir: Path) -> Path:
    """Pack the raw folder: 5 frames of 32 x 32, in shards of 16 items."""
    folder = raw_dir.parent / "data"
    settings = Settings(size=32, items_per_shard=16, users_per_shard=50)
    quiet = Console(file=io.StringIO())
    make(raw_dir, str(folder), settings, 2, None, quiet)
    return folder


@pytest.fixture
def tiny_config(dataset_dir: Path, tmp_path: Path) -> Config:
    """Return the configuration of a small run over item ids."""
    return load([], tiny_overrides(dataset_dir, tmp_path))


@pytest.fixture
def video_config(dataset_dir: Path, tmp_path: Path) -> Config:
    """Return the configuration of a small run over videos."""
    return load([], tiny_overrides(dataset_dir, tmp_path) + VIDEO)


@pytest.fixture
def data(tiny_config: Config) -> Iterator[Data]:
    """Open the tiny data set."""
    yield open_data(tiny_config.data)


@pytest.fixture
def raw_copy(raw_dir: Path, tmp_path: Path) -> Path:
    """Copy the raw folder, for a test that damages it."""
    return Path(shutil.copytree(raw_dir, tmp_path / "raw"))


@pytest.fixture
def world() -> Iterator[World]:
    """Start a group of one rank, as a command does."""
    yield start_world()
    stop_world()


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide every key of W&B from the test and end W&B's service after it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    yield
    import wandb

    wandb.teardown()
