"""`import mlrec`: its names, their laziness, and the help that it prints."""

from __future__ import annotations

import doctest
import pydoc
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mlrec

SCREEN_LINES = 52
WIDTH = 80


def test_import_of_the_package_loads_no_library() -> None:
    script = (
        "import mlrec, sys; dir(mlrec); print([n for n in ('torch', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_names_are_listed_and_documented() -> None:
    assert set(mlrec.__all__) < set(dir(mlrec))
    for name in dir(mlrec):
        if not name.startswith("_"):
            assert getattr(mlrec, name).__doc__, name
    with pytest.raises(AttributeError, match="module 'mlrec' has no attribute 'lod'"):
        mlrec.lod  # noqa: B018


def test_train_stays_the_function_after_imports_of_its_package() -> None:
    script = """
        import mlrec
        from mlrec.train import search_file
        from mlrec.train.sweep_file import read_sweep
        assert mlrec.train.__module__ == "mlrec.api.runs", mlrec.train
    """
    script = textwrap.dedent(script)
    subprocess.run([sys.executable, "-c", script], check=True)


def test_help_fits_two_screens() -> None:
    text = pydoc.plain(pydoc.render_doc(mlrec))
    lines = sum(max(1, -(-len(line) // WIDTH)) for line in text.splitlines())
    assert lines <= 2 * SCREEN_LINES
    for name in dir(mlrec):
        if not name.startswith("_") and name not in ("Batch", "History", "Recommendation"):
            assert name in text, name


def test_help_example_recommends(
    video_run: mlrec.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert mlrec.__doc__ is not None
    block = mlrec.__doc__.split("\n\n")
    example = textwrap.dedent("\n\n".join(block[1:3]))
    assert len(example.splitlines()) <= 11
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart_video").symlink_to(video_run.path)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "help(mlrec)", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    results = video_run.results
    assert results is not None
    assert float(lines[-1]) == results.metrics["all"]["hr@10"]


@pytest.mark.parametrize("name", ["open", "train", "Dataset", "Model", "Run", "Batch"])
def test_examples_are_valid_python(name: str) -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        example for test in finder.find(getattr(mlrec, name), name) for example in test.examples
    ]
    assert examples
    for example in examples:
        compile(example.source, name, "exec")
