"""Install what mlrec lacks into the environment of this Python: python launch/install.py [EXTRAS].

EXTRAS are names of setup.py's extras, separated by commas. Packages that satisfy setup.py stay as
they are, and missing ones get the versions of constraints.txt. In the repository's own .venv all
required packages get those versions. If nothing is missing, pip is not called.
"""

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
except ImportError:
    # a new environment has nothing but pip, which brings its own copy
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]
    from pip._vendor.packaging.specifiers import SpecifierSet  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[1]
BUILD_REQUIREMENT = "setuptools>=70.1"
"""Builds mlrec's own wheel. If it is present, pip need not download it for that."""

Constraints = dict[str, SpecifierSet]
"""Allowed versions by normalized name."""


def main(arguments: list[str]) -> int:
    """Install, or with --is-usable return 0 if this Python is an environment to install into."""
    *flags, extras = arguments or [""]
    setup = read_setup()
    constraints = read_constraints(ROOT / "constraints.txt")
    is_own = Path(sys.prefix) == ROOT / ".venv"
    wanted = requirements(setup, filter(None, extras.split(",")))
    missing = [text for text in wanted if is_missing(text, constraints if is_own else {})]
    if "--is-usable" in flags:
        # A Python with torch is one that somebody prepared, such as a container's.
        return int(is_missing("torch", {}) or (bool(missing) and is_externally_managed()))
    if missing:
        print(f"Installing into {sys.prefix}: {', '.join(missing)}", flush=True)
        if is_missing("torch", {}):
            print("This takes 2 GB, or 6 GB with CUDA, and about two minutes.", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "constraints.txt")
            file.write_text("".join(constraint_lines(constraints, is_own)))
            if not pip_install(["-c", str(file)], missing):
                return 1
    if is_installed_from(ROOT, setup["version"]):
        return 0
    # dependencies are there by now, and so is what builds it
    return 0 if pip_install(["--no-deps", "--no-build-isolation", "-e"], [str(ROOT)]) else 1


def read_setup() -> dict[str, Any]:
    """Return the arguments of setup.py's call of setup."""
    values: dict[str, Any] = {}
    # in place of setuptools, which a new environment lacks
    stand_in = SimpleNamespace(setup=values.update, find_packages=lambda **_: [])
    with mock.patch.dict(sys.modules, {"setuptools": stand_in}):  # type: ignore[dict-item]
        runpy.run_path(str(ROOT / "setup.py"))
    return values


def requirements(setup: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """Return what mlrec requires with some extras.

    Raises:
        SystemExit: there is no such extra.
    """
    wanted = [BUILD_REQUIREMENT, *setup["install_requires"]]
    for extra in extras:
        if extra not in setup["extras_require"]:
            known = ", ".join(setup["extras_require"])
            raise SystemExit(f"setup.py has no extra {extra!r}. It has {known}")
        wanted += setup["extras_require"][extra]
    return list(dict.fromkeys(wanted))


def read_constraints(file: Path) -> Constraints:
    """Return the versions of a constraints file."""
    constraints = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            constraint = Requirement(line)
            constraints[normalized(constraint.name)] = constraint.specifier
    return constraints


def constraint_lines(constraints: Constraints, is_own: bool) -> list[str]:
    """Return the lines of a constraints file for pip.

    Outside of .venv what is installed keeps its version, unless a missing package forbids it.
    """
    lines = []
    for name, versions in constraints.items():
        if is_own or not installed_version(name):
            lines.append(f"{name}{versions}\n")
    return lines


def normalized(name: str) -> str:
    """Return the spelling of a package's name that all its spellings share."""
    return name.lower().replace("_", "-").replace(".", "-")


def installed_version(name: str) -> str:
    """Return the version of an installed package, "" if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def is_missing(text: str, constraints: Constraints) -> bool:
    """Return whether a requirement is not met, or not in a version of the constraints."""
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return False
    present = installed_version(requirement.name)
    allowed = requirement.specifier & constraints.get(normalized(requirement.name), SpecifierSet())
    if not present or not allowed.contains(present, prereleases=True):
        return True
    for extra in requirement.extras:
        for other in map(Requirement, requires(requirement.name) or []):
            if other.marker is None or not other.marker.evaluate({"extra": extra}):
                continue
            other.marker = None
            if is_missing(str(other), {}):
                return True
    return False


def is_externally_managed() -> bool:
    """Return whether pip refuses to change this Python (PEP 668)."""
    in_environment = sys.prefix != sys.base_prefix
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return not in_environment and marker.exists()


def is_installed_from(folder: Path, current: str) -> bool:
    """Return whether version `current` of mlrec is installed as a link to a folder."""
    if installed_version("mlrec") != current:
        return False
    source = json.loads(distribution("mlrec").read_text("direct_url.json") or "{}")
    is_link = source.get("dir_info", {}).get("editable", False)
    return bool(is_link) and source["url"] == folder.as_uri()


def pip_install(options: list[str], packages: list[str]) -> bool:
    """Run pip install, and return whether it succeeded."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--quiet"]
    command += ["--disable-pip-version-check", *options, *packages]
    # With DS_BUILD_OPS set, DeepSpeed would compile all of its operators now. Without it, DeepSpeed
    # compiles the few that are used on demand.
    environment = {key: value for key, value in os.environ.items() if key != "DS_BUILD_OPS"}
    if subprocess.run(command, env=environment).returncode == 0:
        return True
    print(
        f"Cannot install {', '.join(packages)} into {sys.prefix}: pip failed, as reported above. "
        "Without a network, install from files: pip install --no-index --find-links FOLDER",
        file=sys.stderr,
    )
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
