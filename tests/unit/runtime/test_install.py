"""launch/install.py and install.sh install what is missing, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from launch_install import install

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("requirement", "installed", "is_missing"),
    [
        ("torch>=2.11", "2.11.0", False),
        ("torch>=2.11", "2.13.0+cu130", False),
        ("torch>=2.11", "2.12.0a0+5228986c39.nv25.6", False),
        ("torch>=2.11", "2.10.0", True),
        ("torch>=2.11", "", True),
        ("decord; sys_platform == 'win32'", "", False),
    ],
)
def test_is_missing_accepts_what_setup_py_allows(
    requirement: str, installed: str, is_missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "installed_version", lambda name: installed)
    assert install.is_missing(requirement, {}) == is_missing


def test_is_missing_checks_the_requirements_of_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "installed_version", lambda name: "1.0" if name == "ray" else "")
    monkeypatch.setattr(install, "requires", lambda name: ['grpcio; extra == "client"', "click"])
    assert install.is_missing("ray[client]", {})
    assert not install.is_missing("ray", {})


def test_constraint_lines_pin_what_is_installed_only_in_the_own_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constraints = install.read_constraints(ROOT / "constraints.txt")
    monkeypatch.setattr(
        install, "installed_version", lambda name: "2.0.0" if name == "numpy" else ""
    )
    (pinned,) = {line for line in install.constraint_lines(constraints, True) if "numpy=" in line}
    assert install.is_missing("numpy>=2", constraints)
    assert not install.is_missing("numpy>=2", {})
    others = install.constraint_lines(constraints, False)
    assert pinned not in others and len(others) == len(constraints) - 1


def test_requirements_name_the_extras_and_refuse_unknown_ones() -> None:
    setup = install.read_setup()
    without = install.requirements(setup, [])
    assert "torch>=2.11" in without
    assert {"pytest", "ruff"} <= {*install.requirements(setup, ["dev"])} - {*without}
    with pytest.raises(SystemExit, match=r"no extra 'tests'\. It has s3, gs"):
        install.requirements(setup, ["tests"])


@pytest.mark.parametrize(
    ("has_torch", "is_complete", "is_managed", "is_usable"),
    [
        # an image with torch, such as NVIDIA's
        (True, False, False, True),
        # a system Python without torch gets a .venv, as on a new machine
        (False, False, False, False),
        # pip refuses to change a Python of the system, which needs no change if all is there
        (True, False, True, False),
        (True, True, True, True),
    ],
)
def test_install_is_usable_takes_a_prepared_python(
    has_torch: bool,
    is_complete: bool,
    is_managed: bool,
    is_usable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_missing(text: str, constraints: object) -> bool:
        return not (has_torch if text.startswith("torch") else is_complete)

    monkeypatch.setattr(install, "is_missing", is_missing)
    monkeypatch.setattr(install, "is_externally_managed", lambda: is_managed)
    assert install.main(["--is-usable", ""]) == (0 if is_usable else 1)


def test_install_calls_pip_only_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def record(options: list[str], packages: list[str]) -> bool:
        calls.append(packages)
        return True

    absent: set[str] = set()
    monkeypatch.setattr(install, "pip_install", record)
    monkeypatch.setattr(install, "is_missing", lambda text, constraints: text in absent)
    monkeypatch.setattr(install, "is_installed_from", lambda folder, current: True)
    assert install.main([""]) == 0
    assert calls == []
    absent.add("pytest")
    assert install.main([""]) == 0
    assert calls == []
    assert install.main(["s3,dev"]) == 0
    assert calls == [["pytest"]]
    monkeypatch.setattr(install, "is_installed_from", lambda folder, current: False)
    assert install.main([""]) == 0
    assert calls[1:] == [[str(ROOT)]]


def run_install_sh(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Source launch/install.sh in a folder where python only prints how it is called."""
    (folder / "launch").mkdir(exist_ok=True)
    (folder / "launch/install.sh").write_bytes((ROOT / "launch/install.sh").read_bytes())
    command = "extras=dev; source launch/install.sh; echo launcher ${launcher[*]}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def write_python(file: Path, says: str, usable: int = 1, version_status: int = 0) -> None:
    """Write a stand-in of a Python that prints `says` when it installs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    script = f"""#!/bin/bash
case "$*" in
    *version_info*) exit {version_status} ;;
    *--is-usable*) exit {usable} ;;
    *device_count*) echo 0 ;;
    "-m venv .venv")
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        sed -i 's/{says}/created/' .venv/bin/python
        echo 'PATH="$PWD/.venv/bin:$PATH"' > .venv/bin/activate ;;
    -V) echo Python 3.9.1 ;;
    *) echo "{says} $*" ;;
esac
"""
    file.write_text(script)
    file.chmod(0o755)


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_install_sh_installs_into_the_active_environment(variable: str, tmp_path: Path) -> None:
    write_python(tmp_path / "active/bin/python", "active")
    write_python(tmp_path / "system/python", "system")
    path = f"{tmp_path}/system:/usr/bin:/bin"
    done = run_install_sh(tmp_path, {"PATH": path, variable: f"{tmp_path}/active"})
    assert done.stdout.splitlines() == [
        "active launch/install.py dev",
        "launcher python -m mlrec.runtime.launcher localhost:2",
    ]
    assert not (tmp_path / ".venv").exists()


def test_install_sh_without_an_environment_takes_a_prepared_python_or_creates_venv(
    tmp_path: Path,
) -> None:
    environment = {"PATH": f"{tmp_path}/system:/usr/bin:/bin"}
    write_python(tmp_path / "system/python", "system", usable=0)
    write_python(tmp_path / "system/python3", "system", usable=0)
    done = run_install_sh(tmp_path, environment)
    assert done.stdout.startswith("system launch/install.py dev\n")
    assert not (tmp_path / ".venv").exists()
    write_python(tmp_path / "system/python", "system", usable=1)
    assert run_install_sh(tmp_path, environment).stdout.startswith("created launch/install.py dev")
    # from then on it is there
    write_python(tmp_path / "system/python3", "system", version_status=1)
    assert run_install_sh(tmp_path, environment).stdout.startswith("created launch/install.py dev")


def test_install_sh_with_an_old_python_names_it_and_the_remedy(tmp_path: Path) -> None:
    write_python(tmp_path / "active/bin/python", "active", version_status=1)
    environment = {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": f"{tmp_path}/active"}
    done = run_install_sh(tmp_path, environment)
    assert done.returncode == 1
    assert done.stderr == (
        f"mlrec needs Python 3.11 or newer, but {tmp_path}/active/bin/python is Python 3.9.1. "
        "Activate another environment, or deactivate this one to use .venv\n"
    )
