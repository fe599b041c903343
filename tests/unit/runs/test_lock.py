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


def test_run_lock_removes_only_folders_that_it_created_and_that_stay_empty(tmp_path: Path) -> None:
    run = tmp_path / "new" / "deep" / "run"
    with pytest.raises(ValueError, match="refused"), run_lock(run, is_main=True):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []

    with run_lock(run, is_main=True):
        (run / "config.yaml").touch()
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.yaml"]

    (tmp_path / "existing").mkdir()
    with run_lock(tmp_path / "existing", is_main=True):
        pass
    assert (tmp_path / "existing").is_dir()
