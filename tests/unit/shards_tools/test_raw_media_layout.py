"""Media whose folders and names both have ids of items, and other spellings of ids."""

from pathlib import Path

import pytest
from raw_media import ALL_PARTS, paths, put, put_zip

from shards_tools.raw.media.files import Media, find_media
from shards_tools.raw.media.listing import list_raw

RAW_IDS = ["1", "2", "3", "4", "5"]


def find(root: Path) -> Media:
    """Return the media of the items RAW_IDS."""
    return find_media(str(root), list_raw(str(root)), RAW_IDS, ALL_PARTS)


def test_find_media_frames_in_numbered_parts_belong_to_the_items_of_their_names(
    tmp_path: Path,
) -> None:
    # item 9 has no interactions
    for item in (1, 2, 3, 4, 5, 9):
        put(tmp_path, *(f"x_frames/{item % 2 + 1}/{item}-{frame}.jpg" for frame in range(3)))
    media = find(tmp_path)
    assert paths(tmp_path, media, "frames") == {
        raw_id: [f"x_frames/{int(raw_id) % 2 + 1}/{raw_id}-{frame}.jpg" for frame in range(3)]
        for raw_id in RAW_IDS
    }
    assert media.report.unmatched.files == 3


def test_find_media_frames_named_alike_in_each_folder_belong_to_the_folders(
    tmp_path: Path,
) -> None:
    for item in RAW_IDS:
        put(tmp_path, *(f"x_frames/{item}/1-{frame}.jpg" for frame in range(3)))
    assert paths(tmp_path, find(tmp_path), "frames") == {
        raw_id: [f"x_frames/{raw_id}/1-{frame}.jpg" for frame in range(3)] for raw_id in RAW_IDS
    }


def test_find_media_frames_that_fit_both_layouts_raise(tmp_path: Path) -> None:
    for item in (1, 2, 3, 4):
        put(tmp_path, *(f"x_frames/{item + 1}/{item}-{frame}.jpg" for frame in range(3)))
    message = (
        r"x_frames/2/1-0.jpg may belong to item 1 by its name, or to item 2 by its folder.*"
        r"Rename it to x_frames/1-0.jpg if its name is right, or to x_frames/2-0.jpg if.*"
        r"--without frames"
    )
    with pytest.raises(ValueError, match=message):
        find(tmp_path)


def test_find_media_videos_in_numbered_parts_belong_to_the_items_of_their_names(
    tmp_path: Path,
) -> None:
    put(tmp_path, "videos/1/2.mp4", "videos/1/3.mp4", "videos/2/1.mp4", "videos/2/4.mp4")
    assert paths(tmp_path, find(tmp_path), "videos") == {
        "1": ["videos/2/1.mp4"],
        "2": ["videos/1/2.mp4"],
        "3": ["videos/1/3.mp4"],
        "4": ["videos/2/4.mp4"],
    }


def test_find_media_videos_named_alike_belong_to_the_items_of_their_folders(
    tmp_path: Path,
) -> None:
    put(tmp_path, "videos/1/1.mp4", "videos/2/1.mp4", "videos/3/1.mp4")
    assert paths(tmp_path, find(tmp_path), "videos") == {
        "1": ["videos/1/1.mp4"],
        "2": ["videos/2/1.mp4"],
        "3": ["videos/3/1.mp4"],
    }


@pytest.mark.parametrize("part", ["videos/{}/{}.mp4", "covers/{}/{}.jpg", "audio/{}/{}.wav"])
def test_find_media_files_that_fit_both_layouts_raise(tmp_path: Path, part: str) -> None:
    put(tmp_path, part.format(1, 2), part.format(2, 3), part.format(3, 1))
    with pytest.raises(ValueError, match=r"may belong to item 2 by its name, or to item 1 by its"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["{}.jpg", "frames/{}.jpg", "x/y/frame_{:03}.jpg"])
def test_find_media_frames_in_a_zip_of_each_item_belong_to_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "x_frames").mkdir()
    for item in RAW_IDS:
        put_zip(tmp_path / f"x_frames/{item}.zip", *(name.format(frame) for frame in range(1, 6)))
    media = find(tmp_path)
    assert media.files["frames"].keys() == set(RAW_IDS)
    for raw_id, files in media.files["frames"].items():
        assert [file.url for file in files] == 5 * [f"{tmp_path}/x_frames/{raw_id}.zip"]


def test_find_media_exact_spelling_of_an_id_comes_first(tmp_path: Path) -> None:
    put(tmp_path, "videos/01.mp4", "videos/1.mp4", "videos/1.webm")
    put(tmp_path, "frames/02-1.jpg", "frames/2-1.jpg", "covers/03.jpg", "covers/003.jpg")
    media = find(tmp_path)
    assert paths(tmp_path, media, "videos") == {"1": ["videos/1.mp4"]}
    assert paths(tmp_path, media, "frames") == {"2": ["frames/2-1.jpg"]}
    assert paths(tmp_path, media, "covers") == {"3": ["covers/003.jpg"]}
    assert media.report.remarks()[2] == (
        "1 item with several videos: the exact id, or else the first by name, is packed, "
        "such as videos/1.mp4 and not videos/01.mp4"
    )
