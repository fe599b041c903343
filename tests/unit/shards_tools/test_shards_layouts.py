"""make on other layouts of raw folders: flat, images as frames, zip archives, parts left out."""

import io
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packed import SETTINGS, open_packed, pack, samples
from PIL import Image
from rich.console import Console

from mlrec.data.format import DATASET_FILE
from shards_tools.cli import main
from shards_tools.dry_run import describe, figures
from shards_tools.pack.raw_files import MAX_IMAGE_BYTES
from shards_tools.pack.settings import Settings
from shards_tools.repair.dataset import repair

ITEMS = 6
SIZE = 32
SMALL = Settings(size=SIZE, frames=5)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Write the interactions of 6 items, and nothing else."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [f"{user}\t1 2 3 4 5 6\n" for user in range(1, 4)]
    (folder / "x_pairs.tsv").write_text("".join(rows))
    return folder


def color(item: int, frame: int) -> tuple[int, int, int]:
    """Return the color of a frame."""
    return 40 * item, 40 * frame, 0


def image_bytes(rgb: tuple[int, int, int]) -> bytes:
    """Return an image of one color as PNG."""
    sink = io.BytesIO()
    Image.new("RGB", (48, 40), rgb).save(sink, "PNG")
    return sink.getvalue()


def put_frames(folder: Path, name: str, frames: int = 5) -> None:
    """Write frames of all items; `name` is a format of item and frame."""
    for item in range(1, ITEMS + 1):
        for frame in range(1, frames + 1):
            path = folder / name.format(item=item, frame=frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(color(item, frame)))


def packed_colors(out: Path) -> list[list[int]]:
    """Return the frame numbers that each item's packed frames show."""
    shown = []
    for sample in samples(out, "items"):
        numbers = []
        for index in range(5):
            pixels = np.asarray(Image.open(io.BytesIO(sample[f"{index}.jpg"])))
            assert pixels.shape == (SIZE, SIZE, 3)
            numbers.append(round(pixels[..., 1].mean() / 40))
        shown.append(numbers)
    return shown


def shard_bytes(out: Path) -> list[bytes]:
    """Return the content of all shards."""
    return [path.read_bytes() for path in sorted(out.glob("*/*.tar"))]


@pytest.mark.parametrize(
    "name",
    [
        "{item}-{frame}.png",
        "x_frames/{item}_{frame}.png",
        "x_frames/{item}/{frame}.png",
        "X_FRAMES/X_FRAMES/{item}-{frame}.png",
    ],
)
def test_make_frames_of_any_layout_are_packed_in_order(
    raw: Path, tmp_path: Path, name: str
) -> None:
    put_frames(raw, name)
    info = pack(raw, tmp_path / "out", SMALL)
    assert info.media.kind == "frames"
    assert packed_colors(tmp_path / "out") == ITEMS * [[1, 2, 3, 4, 5]]


def test_make_tables_with_names_in_other_encodings_are_packed(raw: Path, tmp_path: Path) -> None:
    root = os.fsencode(raw)
    os.rename(root + b"/x_pairs.tsv", root + b"/\xe9_pairs.tsv")
    with open(root + b"/\xe9_titles.csv", "wb") as file:
        file.write(b"item,title\n1,one\n")
    pack(raw, tmp_path / "out", SMALL)
    info, _ = open_packed(tmp_path / "out")
    assert info.name == r"\udce9"
    assert any(r"no title in \udce9_titles.csv" in remark for remark in info.remarks)


def test_make_zipped_frames_give_the_bytes_of_loose_ones(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png")
    pack(raw, tmp_path / "loose", SMALL)
    shutil.make_archive(str(raw / "x_frames"), "zip", raw, "x_frames")
    shutil.rmtree(raw / "x_frames")
    pack(raw, tmp_path / "zipped", SMALL)
    assert shard_bytes(tmp_path / "zipped") == shard_bytes(tmp_path / "loose")


def test_make_few_images_repeat_the_ends(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png", frames=3)
    pack(raw, tmp_path / "out", SMALL)
    assert packed_colors(tmp_path / "out")[0] == [1, 1, 2, 3, 3]


def test_make_policy_scenes_chooses_among_images(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png")
    for item in range(1, ITEMS + 1):
        # as the first frame looks
        (raw / f"x_frames/{item}-2.png").write_bytes(image_bytes(color(item, 1)))
    pack(raw, tmp_path / "out", replace(SMALL, policy="scenes", frames=4))
    first = samples(tmp_path / "out", "items")[0]
    greens = [Image.open(io.BytesIO(first[f"{index}.jpg"])).getpixel((9, 9)) for index in range(4)]
    assert len({pixel[1] // 20 for pixel in greens if isinstance(pixel, tuple)}) == 4


def test_make_damaged_frame_fails_its_item_and_names_the_frame(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png")
    (raw / "x_frames/2-4.png").write_bytes(b"no image")
    info = pack(raw, tmp_path / "out", SMALL)
    assert info.counts["failed_items"] == 1
    failures = (tmp_path / "out" / "failures.jsonl").read_text()
    assert '"kind": "video"' in failures
    assert "frame 4 of 5: the file is damaged" in failures


def test_make_images_larger_than_any_cover_fail_unread(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png", frames=1)
    (raw / "x_covers").mkdir()
    for path in (raw / "x_covers" / "1.jpg", raw / "x_frames" / "2-1.png"):
        # without content on the disk
        with path.open("wb") as file:
            file.truncate(MAX_IMAGE_BYTES + 1)
    pack(raw, tmp_path / "out", SMALL)
    failures = (tmp_path / "out" / "failures.jsonl").read_text()
    assert failures.count("400,000,001 bytes, more than the 400,000,000 that are read") == 2


def test_make_damaged_zip_member_fails_its_item(raw: Path, tmp_path: Path) -> None:
    path = raw / "x_frames.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for item in range(1, ITEMS + 1):
            archive.writestr(f"{item}-1.png", image_bytes(color(item, 1)))
    damaged = bytearray(path.read_bytes())
    # within the content of the second member
    second = damaged.index(b"PK\x03\x04", 10)
    damaged[second + 60] ^= 0xFF
    path.write_bytes(damaged)
    info = pack(raw, tmp_path / "out", SMALL)
    assert info.counts["failed_items"] == 1
    assert "its zip archive is damaged" in (tmp_path / "out" / "failures.jsonl").read_text()


def test_make_flat_and_zipped_copies_pack_the_shards_of_folders(
    raw_copy: Path, tmp_path: Path
) -> None:
    pack(raw_copy, tmp_path / "folders")
    flat_copy = tmp_path / "flat_raw"
    shutil.copytree(raw_copy, flat_copy)
    for path in [*flat_copy.glob("videos/*"), *flat_copy.glob("covers/*")]:
        shutil.move(path, flat_copy / path.name)
    for folder in ("videos", "covers"):
        shutil.make_archive(str(raw_copy / folder), "zip", raw_copy, folder)
        shutil.rmtree(raw_copy / folder)
    pack(flat_copy, tmp_path / "flat")
    pack(raw_copy, tmp_path / "zipped")
    _, of_folders = open_packed(tmp_path / "folders")
    for form in ("flat", "zipped"):
        assert shard_bytes(tmp_path / form) == shard_bytes(tmp_path / "folders")
        _, catalogue = open_packed(tmp_path / form)
        assert catalogue.table.equals(of_folders.table)


def test_make_item_without_video_is_packed_from_its_frames(raw_copy: Path, tmp_path: Path) -> None:
    video = min((raw_copy / "videos").iterdir())
    video.unlink()
    frames = raw_copy / "x_frames"
    frames.mkdir()
    for stem in (video.stem, max((raw_copy / "videos").iterdir()).stem):
        (frames / f"{stem}-1.png").write_bytes(image_bytes((200, 0, 0)))
    info = pack(raw_copy, tmp_path / "out")
    assert info.counts["failed_items"] == 0
    assert "59 items packed from videos, and 1 item from frames" in info.remarks
    with pytest.raises(ValueError, match="1 item failed: 1 x the file is missing"):
        pack(raw_copy, tmp_path / "clips", replace(SETTINGS, media="clip"), max_failures=0)


def test_make_clip_of_frames_alone_raises(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png")
    with pytest.raises(ValueError, match="--media clip needs videos"):
        pack(raw, tmp_path / "out", replace(SMALL, media="clip"))


def test_make_media_that_match_no_item_raise(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "x_videos").mkdir()
    (raw / "x_videos" / "video_1.mp4").write_bytes(b"a")
    arguments = ["make", str(raw), str(tmp_path / "out"), "--size", "32"]
    for options in ([], ["--dry-run"]):
        assert main([*arguments, *options]) == 2
        assert "no video file name matches an item id" in capsys.readouterr().err
    assert not (tmp_path / "out" / DATASET_FILE).exists()
    # as the message says
    assert main([*arguments, "--without", "videos"]) == 0


def test_make_without_parts_leaves_them_out_and_continues(
    raw_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["make", str(raw_copy), str(tmp_path / "out"), "--size", "32", "--without"]
    assert main([*arguments, "titles,covers"]) == 0
    info, catalogue = open_packed(tmp_path / "out")
    assert not info.media.has_cover
    assert catalogue.title(1) == ""
    # in any order
    assert main([*arguments, "covers,titles"]) == 0
    assert "is complete already" in capsys.readouterr().err
    assert main([*arguments, "covers"]) == 2
    assert main([*arguments, "cover"]) == 2
    assert "choose from videos, frames, covers, audio, titles" in capsys.readouterr().err


def test_repair_zipped_frames_are_packed_again(raw: Path, tmp_path: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png")
    shutil.make_archive(str(raw / "x_frames"), "zip", raw, "x_frames")
    shutil.rmtree(raw / "x_frames")
    out = tmp_path / "out"
    pack(raw, out, SMALL)
    before = shard_bytes(out)
    shard = out / "items" / "items-00000.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    quiet = Console(file=io.StringIO())
    assert list(repair(raw, str(out), 1, quiet)) == ["items/items-00000.tar"]
    assert shard_bytes(out) == before


def test_dry_run_names_sources_and_unused_files(raw: Path) -> None:
    put_frames(raw, "x_frames/{item}-{frame}.png")
    (raw / "readme.txt").write_text("about")
    lines = describe(figures(raw, SMALL))
    assert "frames: 6 items, 30 files in x_frames" in lines
    assert "not used: 1 file (0.0 MB): 1 .txt such as readme.txt" in lines
