"""A wheel holds all that a user needs, also the files that are not Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: object, **options: object) -> str:
    """Return the output of a command that must succeed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_wheel_installed_renders_a_page(dataset_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    # a copy, because building leaves folders in the tree
    for package in ("mlrec", "shards_tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    shutil.copy(ROOT / "setup.py", source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    run(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    run(*pip, "install", *offline, "--target", installed, wheel)

    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = "import mlrec; print(mlrec.__file__)"
    place = run(sys.executable, "-c", program, cwd=tmp_path, env=environment)
    assert Path(place.strip()).is_relative_to(installed), "not the editable checkout"
    page = tmp_path / "dataset.html"
    command = [sys.executable, "-m", "shards_tools.cli", "show", dataset_dir, "--html", page]
    run(*command, cwd=tmp_path, env=environment)
    text = page.read_text()
    assert "<h2>Items</h2>" in text and "@media" in text
