"""constraints.txt pins all that setup.py's requirements install, and nothing else."""

from __future__ import annotations

import re
import runpy
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
OTHER_EXTRAS = {"nvjpeg", "gs", "az"}
"""Extras that the tests do not install. Their pins are the last part of constraints.txt."""
CUDA_PACKAGES = re.compile("(cuda|nvidia)-.*|triton")
"""Packages whose versions torch chooses."""


@pytest.fixture(scope="module")
def requirements() -> dict[str, list[Requirement]]:
    """Return the requirements in setup.py by extra, with those of mlrec itself under ""."""
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", arguments.update)
        runpy.run_path(str(ROOT / "setup.py"))
    texts = {"": arguments["install_requires"], **arguments["extras_require"]}
    return {extra: [Requirement(text) for text in of_extra] for extra, of_extra in texts.items()}


def constraints() -> tuple[list[Requirement], list[Requirement]]:
    """Return constraints.txt in two parts: what the tests install, and the rest of other extras."""
    parts = (ROOT / "constraints.txt").read_text().split("# The rest of nvjpeg, gs and az:")
    tested, others = (
        [Requirement(line) for line in part.splitlines() if line and not line.startswith("#")]
        for part in parts
    )
    return tested, others


def names(some: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in some}


def requirements_of(package: str, extra: str) -> list[Requirement]:
    """Return what an installed package requires here for an extra; [] if it is not installed."""
    try:
        required = [Requirement(text) for text in requires(package) or []]
    except PackageNotFoundError:
        return []
    return [each for each in required if not each.marker or each.marker.evaluate({"extra": extra})]


def names_of_all_required(roots: list[Requirement]) -> set[str]:
    """Return the names of some requirements, of what these require, and so on."""
    visited: set[tuple[str, str]] = set()
    pending = roots.copy()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in visited:
                visited.add((name, extra))
                pending += requirements_of(name, extra)
    return {name for name, _ in visited}


def test_constraints_are_exact_versions() -> None:
    tested, others = constraints()
    inexact = [
        str(pin) for pin in tested + others if not re.fullmatch(r"==[\w.]+", str(pin.specifier))
    ]
    # pip takes the newest torch in the range, but keeps one that is installed already, and takes
    # the torchvision that belongs to it
    assert inexact == ["torch<=2.13.0", "torchvision<=0.28.0"]


def test_constraints_pin_what_the_tests_install_and_nothing_else(
    requirements: dict[str, list[Requirement]],
) -> None:
    tested, _ = constraints()
    roots = [each for extra in requirements.keys() - OTHER_EXTRAS for each in requirements[extra]]
    required = {name for name in names_of_all_required(roots) if not CUDA_PACKAGES.fullmatch(name)}
    assert required - names(tested) == set(), "required, but not pinned"
    assert names(tested) - required == set(), "pinned, but not required"


def test_constraints_pin_the_other_extras(requirements: dict[str, list[Requirement]]) -> None:
    tested, others = constraints()
    roots = [each for extra in OTHER_EXTRAS for each in requirements[extra]]
    assert names(roots) <= names(others)
    assert not names(tested) & names(others)


def test_constraints_allow_every_supported_torch(
    requirements: dict[str, list[Requirement]],
) -> None:
    pins = {pin.name: pin.specifier for pin in constraints()[0]}
    (torch,) = (each.specifier for each in requirements[""] if each.name == "torch")
    both = torch & pins["torch"]
    assert list(both.filter(["2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.0"])) == [
        "2.11.0",
        "2.12.1",
        "2.13.0",
    ]
    # torch 2.11 and 2.12 require setuptools<82, torch 2.13 setuptools>=77.0.3
    (setuptools_pin,) = pins["setuptools"]
    assert Version("77.0.3") <= Version(setuptools_pin.version) < Version("82")


@pytest.mark.parametrize(
    ("platform", "machine", "expected"),
    [("linux", "x86_64", True), ("linux", "aarch64", False), ("darwin", "x86_64", False)],
)
def test_decord_is_required_where_it_has_a_package(
    requirements: dict[str, list[Requirement]], platform: str, machine: str, expected: bool
) -> None:
    (decord,) = requirements["decord"]
    assert decord in requirements["dev"]
    assert decord.marker is not None
    environment = {"sys_platform": platform, "platform_machine": machine}
    assert decord.marker.evaluate(environment) is expected
    assert "decord" not in names(requirements[""]), "mlrec itself decodes with PyAV"
