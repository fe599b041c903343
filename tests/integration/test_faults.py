"""Transient faults of the network and the storage server leave the loss curve unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import KEY
from launching import free_port
from proxy import Fault, Proxy
from runs import STEPS_PER_EPOCH, TOLERANCE, lines, losses, results, settings
from trainer import Trainer

from mlrec.data.format import DATASET_FILE

ITEMS = r"/items/items-"
PASSING = {
    "500": Fault(500, ITEMS, times=6),
    "503": Fault(503, ITEMS, times=6),
    "slow": Fault("slow", ITEMS, times=4, seconds=1.0),
    "hang": Fault("hang", ITEMS, times=3),
    "reset": Fault("reset", ITEMS, times=6),
    "flip": Fault("flip", ITEMS, times=3),
    "truncate": Fault("truncate", ITEMS, times=2),
    "shard-flip": Fault("flip", ITEMS, times=1, range="bytes=0-"),
    "shard-truncate": Fault("truncate", ITEMS, times=1, range="bytes=0-"),
    "dataset-503": Fault(503, DATASET_FILE, times=2),
    "catalogue-reset": Fault("reset", r"catalogue\.parquet", times=2),
    "catalogue-flip": Fault("flip", r"catalogue\.parquet", times=1),
    "catalogue-truncate": Fault("truncate", r"catalogue\.parquet", times=1),
    "sequences-500": Fault(500, r"/sequences/", times=2),
    "sequences-flip": Fault("flip", r"/sequences/", times=1),
}
OVER_HTTP = ("503", "hang", "reset", "truncate", "dataset-503")
"""Those that are tried over plain http as well."""


@pytest.mark.parametrize(
    ("scheme", "name"),
    [*(("s3", name) for name in PASSING), *(("http", name) for name in OVER_HTTP)],
)
def test_train_transient_fault_keeps_the_loss_curve(
    scheme: str,
    name: str,
    trainer: Trainer,
    s3_data: str,
    proxy: Proxy,
    curve: list[float],
    tmp_path: Path,
) -> None:
    fault = replace(PASSING[name])
    url = s3_data if scheme == "s3" else s3_data.replace("s3:/", proxy.url)
    proxy.rules.append(fault)
    outcome = trainer.train(*settings(url, tmp_path))
    assert outcome.code == 0, outcome.output
    assert losses(tmp_path / "run") == pytest.approx(curve[:STEPS_PER_EPOCH], abs=TOLERANCE)
    assert not lines(tmp_path / "run", "failures.jsonl")
    assert not results(tmp_path / "run")["bad_items"]
    assert fault.times == 0, "all of the faults happened"


def test_train_broken_server_stops_the_run_without_leaking_secrets(
    trainer: Trainer,
    upload: Callable[[Path, str], str],
    dataset_dir: Path,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    proxy.rules.append(Fault(500, "broken/items/"))
    outcome = trainer.train(
        *settings(upload(dataset_dir, "broken"), tmp_path, "data.max_bad_items=10")
    )
    assert outcome.code == 1, outcome.output
    assert "items could not be read, data.max_bad_items is 10" in outcome.output
    assert "Traceback" not in outcome.output
    assert len(lines(tmp_path / "run", "failures.jsonl")) > 10
    assert KEY not in outcome.output
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        assert KEY.encode() not in file.read_bytes(), file


def test_train_unreachable_server_is_one_sentence(trainer: Trainer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/data"
    outcome = trainer.train(*settings(url, tmp_path))
    assert outcome.code == 1, outcome.output
    assert url in outcome.output
    assert len(outcome.output.splitlines()) == 1
