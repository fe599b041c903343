"""Files of others are never replaced by the output of a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from made_runs import make_run

from mlrec.config import Config
from mlrec.config import save as save_config
from mlrec.evaluation.extraction import check_is_place as check_features
from mlrec.report.report import write_report
from mlrec.serving.export import check_is_place as check_export
from mlrec.storage.own_files import check_own_folder

NAMES = ("out.bin", "part-*.bin")


def check(url: str, is_own: bool = True) -> None:
    check_own_folder(url, "mlrec tell", NAMES, lambda: is_own)


@pytest.mark.parametrize(
    "names", [[], [".DS_Store", ".gitkeep"], ["out.bin", "part-1.bin"], ["tmp1.partial", ".hidden"]]
)
def test_own_folder_empty_or_with_own_files_passes(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    check(str(tmp_path))
    check(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("names", "is_own", "words"),
    [
        (
            ["notes.txt"],
            True,
            r"holds notes\.txt, which mlrec tell did not write, "
            r"so nothing is written there\. Choose another",
        ),
        (["out.bin", "notes.txt"], True, r"holds notes\.txt, which"),
        (["out.bin"], False, r"holds out\.bin, which"),
        (
            [f"{number}.csv" for number in range(9)],
            True,
            r"holds 0\.csv, 1\.csv, 2\.csv and 6 more, which",
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["", "memory:/"])
def test_own_folder_with_files_of_others_is_refused(
    scheme: str, names: list[str], is_own: bool, words: str, tmp_path: Path
) -> None:
    url = f"{scheme}{tmp_path}"
    for name in names:
        with fsspec.open(f"{url}/{name}", "wb") as file:
            file.write(b"mine")
    with pytest.raises(ValueError, match=words):
        check(url, is_own)


def test_own_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file, but mlrec tell writes into a folder"):
        check(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("check_place", "name"),
    [
        (check_features, "features.npy"),
        (check_features, "failures.jsonl"),
        (check_features, "metrics.jsonl"),
        (check_features, "_work/lock"),
        (check_export, "model.safetensors"),
        (check_export, "config.yaml"),
        (check_export, "metrics.jsonl"),
        (check_export, "features.json"),
    ],
)
def test_place_with_a_file_of_others_is_refused(
    check_place: Callable[[str], None], name: str, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine: 1")
    entry = name.partition("/")[0]
    with pytest.raises(ValueError, match=rf"holds {entry}, which mlrec \w+ did not write"):
        check_place(str(tmp_path))


def test_export_over_an_export_passes(tmp_path: Path) -> None:
    save_config(Config(), tmp_path / "config.yaml")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    check_export(str(tmp_path))


@pytest.mark.parametrize("name", ["notes.html", "notes.md"])
def test_report_over_a_file_of_others_is_refused(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    out = tmp_path / "notes.html"
    (tmp_path / name).write_text("# my notes")
    with pytest.raises(ValueError, match=rf"holds {name}, which mlrec report did not write"):
        write_report([run], out)
    assert [path.name for path in tmp_path.glob("notes*")] == [name]
    (tmp_path / name).unlink()
    write_report([run], out)
    write_report([run], out)
