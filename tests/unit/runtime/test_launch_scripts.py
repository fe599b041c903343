"""The launch scripts parse, name only files and modules that exist, and install what is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlrec.data.decode import item_bytes
from mlrec.data.host_memory import HostBytes, host_bytes
from mlrec.data.schema import InputSpec, Modality

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted([*ROOT.glob("launch/*.sh"), ROOT / "launch/slurm.sbatch", ROOT / ".ci/run"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_launch_script_parses(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "script", [*SCRIPTS, ROOT / "launch/kubernetes.yaml"], ids=lambda path: path.name
)
def test_launch_script_names_existing_files_and_modules(script: Path) -> None:
    text = script.read_text()
    for name in re.findall(r"\b(?:configs|launch)/[\w/.]+\w", text):
        assert (ROOT / name).exists(), f"{script.name} names {name}"
    for module in re.findall(r"(?:-m|--module|- )\s*(mlrec(?:\.\w+)+)\b", text):
        path = ROOT / module.replace(".", "/")
        is_program = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert is_program, f"{script.name} starts {module}"


def kubernetes(kind: str) -> dict[str, Any]:
    """Return the document of a kind in launch/kubernetes.yaml."""
    documents = list(yaml.safe_load_all((ROOT / "launch/kubernetes.yaml").read_text()))
    return next(document for document in documents if document["kind"] == kind)


def test_kubernetes_pods_have_consistent_names_and_counts() -> None:
    service = kubernetes("Service")
    job = kubernetes("Job")
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    name = job["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert service["metadata"]["name"] == pod["subdomain"]
    assert f"--master-addr={name}-0.{pod['subdomain']}" in container["command"]
    assert f"--nnodes={job['spec']['completions']}" in container["command"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nproc-per-node={gpus}" in container["command"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize(("num_workers", "items"), [(2, 26_000), (10, 15_000)])
def test_kubernetes_memory_holds_the_steps_that_its_comment_states(
    num_workers: int, items: int
) -> None:
    spec = kubernetes("Job")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    limit_bytes = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    (shm,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shm"]
    shm_bytes = int(shm["sizeLimit"].removesuffix("Gi")) << 30
    comment = (ROOT / "launch/kubernetes.yaml").read_text()
    frames = [InputSpec(Modality.VIDEO, frames=16, size=224)]

    def rank_bytes(step_items: int) -> HostBytes:
        return host_bytes(item_bytes(frames), step_items // 8, num_workers, 10**6, 64, on_gpu=True)

    other_bytes = 16 * 10**9
    assert 8 * rank_bytes(items).chunks < shm_bytes
    assert 8 * (rank_bytes(items).total + other_bytes) < limit_bytes
    assert 8 * (rank_bytes(items + 2_000).total + other_bytes) > limit_bytes
    assert f"{items:,}" in comment
    assert f"{items * 480 // 2000 // 100 * 100:,}" in comment


def load_install() -> Any:
    """Return launch/install.py as a module."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "launch/install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load_install()


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


def dockerfile() -> list[list[str]]:
    """Return the words of each instruction of launch/Dockerfile."""
    text = (ROOT / "launch/Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [shlex.split(line) for line in lines.replace("\\\n", " ").splitlines() if line]


def test_dockerfile_copies_existing_files_that_dockerignore_lets_through() -> None:
    instructions = dockerfile()
    assert instructions[0][0] == "FROM"
    assert {words[0] for words in instructions} <= {
        *("FROM", "RUN", "WORKDIR", "COPY", "ARG", "USER", "ENV", "CMD")
    }
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in let_through
    for words in instructions:
        if words[0] == "COPY":
            for source in words[1:-1]:
                assert (ROOT / source).exists()
                assert source == "." or f"!{Path(source).parts[0]}" in let_through
    for line in let_through:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists()


def test_dockerfile_installs_with_constraints_and_ends_as_another_user_than_root() -> None:
    instructions = dockerfile()
    (install_words,) = [words for words in instructions if words[:3] == ["RUN", "pip", "install"]]
    assert install_words[install_words.index("-c") + 1] == "constraints.txt"
    (extras,) = [words[1] for words in instructions if words[0] == "ARG"]
    name, _, value = extras.partition("=")
    assert install_words[-2:] == ["-e", f".[${name}]"]
    install.requirements(install.read_setup(), value.split(","))
    # pip's own parser accepts the options
    command = [sys.executable, "-m", *install_words[1:3], "--help", *install_words[3:-2]]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=ROOT)
    (user,) = [words[1] for words in instructions if words[0] == "USER"]
    spec = kubernetes("Job")["spec"]["template"]["spec"]
    assert user == "{0}:{0}".format(spec["securityContext"]["fsGroup"])
    (workdir,) = [words[1] for words in instructions if words[0] == "WORKDIR"]
    assert spec["containers"][0]["workingDir"] == workdir


def test_kubernetes_image_is_the_one_that_its_comment_builds() -> None:
    text = (ROOT / "launch/kubernetes.yaml").read_text()
    image = kubernetes("Job")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert f"docker build -f launch/Dockerfile -t {image} ." in text
    assert f"docker push {image}" in text
