"""launch/quickstart.ipynb: every cell runs on the tiny data set, and the file has its outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

import mlrec

NOTEBOOK = Path(__file__).parents[3] / "launch" / "quickstart.ipynb"
MAX_BYTES = 400_000
CELL_S = 120


def test_notebook_runs_from_the_first_to_the_last_cell(
    dataset_dir: Path,
    video_run: mlrec.Run,
    id_run: mlrec.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "launch").mkdir()
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    (tmp_path / "runs" / "quickstart" / "data").symlink_to(dataset_dir)
    (tmp_path / "runs" / "quickstart_video").symlink_to(video_run.path)
    (tmp_path / "runs" / "quickstart_id").symlink_to(id_run.path)
    # the caches of mlrec and IPython
    monkeypatch.setenv("HOME", str(tmp_path))
    before = set(psutil.Process().children(recursive=True))

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path / "launch")}}
    # raises the error of any cell
    NotebookClient(notebook, timeout=CELL_S, kernel_name="python3", resources=place).execute()

    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert set(psutil.Process().children(recursive=True)) == before


def test_notebook_shows_the_outputs_of_a_quickstart() -> None:
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    pictures = 0
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error" and output.get("name") != "stderr"
            pictures += "image/jpeg" in output.get("data", {})
    assert pictures >= 5
