from pathlib import Path

import pytest

from mlrec.runs import lock as locking
from mlrec.runs.lock import run_lock


def test_run_lock_held_by_another_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "WAIT_S", 0.0)
    with run_lock(tmp_path / "run", is_main=True):
        with (
            pytest.raises(RuntimeError, match="run is being written by another process"),
            run_lock(tmp_path / "run", True),
        ):
            pass
        with run_lock(tmp_path / "run", is_main=False):
            pass
    with run_lock(tmp_path / "run", is_main=True):
        pass
