"""The launch scripts parse, and name only files and modules that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch_install import install

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
