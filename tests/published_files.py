"""Files as MicroLens publishes them, and their download."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from published_server import Site

from shards_tools import cli
from shards_tools.download.manifest import MANIFEST_FILE

ROOT = "MicroLens-50k-Dataset/"
ITEMS = range(1, 8)
PAIRS = "user,item,timestamp\n" + "".join(
    f"{user},{item},{1_600_000_000_000 + 1000 * user + item}\n"
    for user in range(1, 9)
    for item in ITEMS
)
TITLES = "item,title\n" + "".join(f"{item},a clip of kind {item}\n" for item in ITEMS)
LARGE = bytes(range(256)) * 20_000


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def jpeg(shade: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 30, 200)).save(stream, "JPEG")
    return stream.getvalue()


def published() -> dict[str, bytes]:
    """Return files as MicroLens publishes them."""
    names = {
        "MicroLens-50k_pairs.csv": PAIRS.encode(),
        "MicroLens-50k_titles.csv": TITLES.encode(),
        "MicroLens-50k_likes_and_views.txt": b"1\t10\t100\n",
        "MicroLens-50k_covers.zip": zipped(
            {f"MicroLens-50k_covers/{item}.jpg": jpeg(30 * item) for item in ITEMS}
        ),
        "readme.txt": b"columns",
        "extracted_modality_features/MicroLens-50k_image_features.npy": b"npy",
    }
    for item in ITEMS:
        names[f"MicroLens-50k_covers/{item}.jpg"] = jpeg(30 * item)
        names[f"MicroLens-50k_videos/{item}.mp4"] = LARGE[: 3000 * item]
        names[f"MicroLens-50k_audios/{item}.wav"] = b"RIFF"
    return {ROOT + name: content for name, content in names.items()}


def download(site: Site, folder: Path, *options: str) -> int:
    url = f"--base-url={site.url}{ROOT}"
    return cli.main(["download", "50k", str(folder), url, "--workers", "2", *options])


def local_files(folder: Path) -> dict[str, bytes]:
    """Return what was downloaded, by path, without this program's own files."""
    own = {MANIFEST_FILE, ".download.lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in own
    }


def expected(site: Site, *beginnings: str) -> dict[str, bytes]:
    names = {path.removeprefix(ROOT): content for path, content in site.files.items()}
    return {name: content for name, content in names.items() if name.startswith(beginnings)}


DEFAULT = (
    "MicroLens-50k_pairs",
    "MicroLens-50k_titles",
    "MicroLens-50k_likes",
    "MicroLens-50k_covers.zip",
    "MicroLens-50k_videos/",
)
