"""Media in archives: what is used of them, and what is said about the rest."""

from pathlib import Path

import pytest
from raw_media import find, paths, put, put_zip


def test_find_media_extracted_zip_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, "x_frames/17-1.jpg")
    # not even an archive
    put(tmp_path, "x_frames.zip")
    media = find(tmp_path)
    assert paths(tmp_path, media, "frames") == {"17": ["x_frames/17-1.jpg"]}
    assert "x_frames.zip was not read" in media.report.remarks()[0]


def test_find_media_paths_that_lead_out_of_a_zip_are_named(tmp_path: Path) -> None:
    put_zip(tmp_path / "x_videos.zip", "../../1.mp4", "../../2.mp4")
    message = (
        r"x_videos.zip cannot be used, because paths in it lead out of it, such as ../../1.mp4. "
        r"Extract it to the folder x_videos beside it, .* --without videos"
    )
    with pytest.raises(ValueError, match=message):
        find(tmp_path)
    put_zip(tmp_path / "x_videos.zip", "../../1.mp4", "2.mp4")
    media = find(tmp_path)
    assert list(media.files["videos"]) == ["2"]
    assert media.report.notes == [
        "x_videos.zip was not used completely, because paths in it lead out of it, "
        "such as ../../1.mp4"
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("videos.zip", "it holds no media but 1 .zip such as videos.zip"),
        ("x/a_titles.csv", "it holds no media but 1 .csv such as a_titles.csv"),
        (".DS_Store", "it holds no files"),
    ],
)
def test_find_media_zip_without_media_is_named(tmp_path: Path, name: str, reason: str) -> None:
    put_zip(tmp_path / "all.zip", name)
    report = find(tmp_path).report
    assert report.remarks() == [f"all.zip was not used, because {reason}"]
    put_zip(tmp_path / "x_covers.zip", name)
    with pytest.raises(ValueError, match=f"x_covers.zip cannot be used, because {reason}"):
        find(tmp_path)


def test_find_media_other_files_in_a_zip_are_reported(tmp_path: Path) -> None:
    put_zip(tmp_path / "x_covers.zip", "1.jpg", "readme.txt")
    assert find(tmp_path).report.sources()[1] == (
        "not used: 1 file (0.0 MB): 1 .txt in x_covers.zip such as readme.txt"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_find_media_zip_with_a_name_twice_uses_the_last(tmp_path: Path) -> None:
    put_zip(tmp_path / "x_videos.zip", "1.mp4", "2.mp4", "1.mp4")
    media = find(tmp_path)
    first, second = (media.file("videos", raw_id) for raw_id in ("1", "2"))
    assert first is not None and first.member is not None
    assert second is not None and second.member is not None
    assert first.member.offset > second.member.offset
    assert media.report.remarks() == [
        "x_videos.zip has several files of the name 1.mp4: the last is used, "
        "as when it is extracted"
    ]


def test_find_media_rar_raises_unless_its_part_is_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, "1.mp4", "item_images.rar")
    with pytest.raises(ValueError, match=r"item_images.rar cannot be used.*--without covers,fra"):
        find(tmp_path)
    assert find(tmp_path, frozenset({"videos"})).report.remarks() == []
    put(tmp_path, "covers/1.jpg")
    assert find(tmp_path).report.remarks() == [
        "item_images.rar was not used, because it is no zip archive"
    ]
