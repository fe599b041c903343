"""Packaging of mlrec; constraints.txt holds the exact versions of all packages."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Return the version in mlrec/__init__.py, without importing the package."""
    text = (HERE / "mlrec" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("mlrec/__init__.py defines no __version__. Add one")
    return match[1]


DASHBOARD = ["wandb-workspaces>=0.4.13"]
# A second reader of clips, for tests. It has no package for other platforms.
DECORD = ["decord; sys_platform == 'linux' and platform_machine == 'x86_64'"]
INDEX = ["faiss-cpu>=1.15"]
# For JPEGs decoded on a GPU. Each version requires one version of torch.
NVJPEG = ["torchvision"]
SEARCH = ["optuna>=5"]
TENSORBOARD = ["tensorboard>=2.20"]
# The client connects to clusters from outside, by ray:// URLs.
RAY = ["ray[client]"]

setup(
    name="mlrec",
    version=version(),
    description="Joint training of video encoders and recommenders on streamed MicroLens shards",
    license="Apache-2.0",
    author="The mlrec authors",
    python_requires=">=3.11",
    packages=find_packages(include=["mlrec", "mlrec.*", "shards_tools", "shards_tools.*"]),
    package_data={"mlrec.report": ["templates/*"], "shards_tools": ["templates/*"]},
    entry_points={
        "console_scripts": ["mlrec = mlrec.cli.main:main", "mlrec-shards = shards_tools.cli:main"]
    },
    install_requires=[
        "argcomplete>=3.5",
        "av",
        "charset-normalizer",
        "deepspeed>=0.19",
        "filelock",
        "fsspec",
        "jinja2",
        "markupsafe",
        "matplotlib",
        "numpy>=2",
        "peft>=0.21",
        "pillow",
        "psutil",
        "pyarrow",
        "pydantic>=2",
        "pytorchvideo",
        "pyyaml",
        "rich",
        "safetensors",
        "simplejpeg",
        "tokenizers",
        "torch>=2.11",
        "transformers>=5",
        "wandb>=0.31",
        "webdataset>=1.0",
    ],
    extras_require={
        # One extra per storage; mlrec/runtime/urls.py names the schemes of each.
        "s3": ["s3fs"],
        "gs": ["gcsfs"],
        "az": ["adlfs"],
        "http": ["aiohttp"],
        "ray": RAY,
        "dashboard": DASHBOARD,
        "decord": DECORD,
        "index": INDEX,
        "nvjpeg": NVJPEG,
        "search": SEARCH,
        "tensorboard": TENSORBOARD,
        "dev": [
            "axe-core-python",
            "boto3",
            "import-linter",
            "ipykernel",
            "moto[server]",
            "mypy",
            "nbclient",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            *DASHBOARD,
            *DECORD,
            *INDEX,
            *RAY,
            *SEARCH,
            *TENSORBOARD,
        ],
    },
)
